"""Which kernels, voxels, trust and powers of the prior give the best labels of training scenes.

Reads exports that are there and writes no others; validation scenes are not looked at. That of MPRM
is refined with several settings of the CRF; those of segmentation networks, which `mprm export`
made with `--beside` or without, also with several powers of the mean probability divided out:

    python benchmarks/label_choices.py --mined runs/cls-rooms-quick-quick/pseudo_labels \\
        --predicted runs/rounds-rooms-quick-quick/round-1/network/pseudo_labels \\
        --output benchmarks/results/label_choices.json
"""

import argparse
import dataclasses
import pathlib
import time
from collections.abc import Iterator, Sequence

import numpy as np
from processes import print_row, rounded, write_report

from mprm_jax.errors import UserError
from mprm_jax.evaluation.borders import near_borders
from mprm_jax.evaluation.quality import confusion_matrix, measure, measure_values
from mprm_jax.labeling.refining import RefineSettings, refine_scene, with_kernels
from mprm_jax.store.exports import Export, as_labels
from mprm_jax.store.scenes import SceneStore
from mprm_jax.store.truth import voxel_labels

NORMALS = with_kernels("normals")
# Of the labels of MPRM.
SMOOTHINGS = {
    "released": with_kernels("released"),
    "released, trust 0.15": with_kernels("released", trust=0.15),
    "normals": NORMALS,
    "normals, voxels of the network": with_kernels("normals", voxel_size=0.0),
    "normals, voxels of 3 cm": with_kernels("normals", voxel_size=0.03),
    "normals, trust 0.08": with_kernels("normals", trust=0.08),
    "normals, trust 0.3": with_kernels("normals", trust=0.3),
    "normals, widths halved": with_kernels("normals", surface_width=0.15, patch_width=0.25),
    "normals, released position kernel, too": with_kernels("normals", position_weight=3.0),
    "normals, 10 iterations": with_kernels("normals", iterations=10),
}
EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
MEASURES = ("miou_occurring", "accuracy", "error_near_borders", "error_elsewhere")


class Reweighed(Export):
    """Predictions divided by another power of their mean."""

    def __init__(self, path: pathlib.Path, exponent: float):
        super().__init__(path)
        settings = self.manifest.settings
        power = settings["predicted"]["prior_exponent"]
        if power == 0:
            raise UserError(f"{path}: notes no prior; export again with --prior-exponent 1.")
        prior = np.array(settings["prior"]) ** (1 / power)
        settings = settings | {"prior": (prior**exponent).tolist()}
        self.manifest = dataclasses.replace(self.manifest, settings=settings)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mined", type=pathlib.Path, help="export of MPRM")
    parser.add_argument(
        "--predicted", type=pathlib.Path, nargs="*", default=[], help="exports of networks"
    )
    parser.add_argument("--store", type=pathlib.Path, help="prepared scenes, if they moved")
    parser.add_argument("--every", type=int, default=4, help="one scene of so many (default: 4)")
    parser.add_argument("--output", type=pathlib.Path, help="JSON report")
    args = parser.parse_args()
    rows = []
    for row in choices(args):
        rows.append(print_row(rounded(row)))
        write_report(args.output, rows)


def choices(args: argparse.Namespace) -> Iterator[dict]:
    """Yields a row for each choice."""
    if args.mined is not None:
        export = Export(args.mined)
        for name, settings in SMOOTHINGS.items():
            found = quality(export, export.open_store(args.store), args.every, settings)
            yield {"labels": "mined", "choice": name} | found
    for path in args.predicted:
        predicted = Export(path).manifest.settings["predicted"]
        of = {"labels": f"predicted, step {predicted['step']}", "beside": "beside" in predicted}
        for exponent in EXPONENTS:
            export = Reweighed(path, exponent)
            found = quality(export, export.open_store(args.store), args.every, NORMALS)
            yield of | {"choice": f"power {exponent:g} of the mean"} | found


def quality(
    export: Export, store: SceneStore, every: int, settings: RefineSettings
) -> dict[str, float]:
    """How good refined labels of some scenes are, in per cent; seconds for all of them."""
    start, scenes = time.perf_counter(), export.scenes[::every]
    labels = [as_labels(refine_scene(export, store, name, settings).label) for name in scenes]
    seconds = time.perf_counter() - start
    values = measured(store, export.manifest.split, scenes, labels)
    return {name: values[name] for name in MEASURES} | {"scenes": len(scenes), "seconds": seconds}


def measured(
    store: SceneStore, split: str, scenes: Sequence[str], labels: Sequence[np.ndarray]
) -> dict:
    """Measures of labels, by voxel."""
    num_classes, confusions = len(store.classes), 0
    for name, found in zip(scenes, labels, strict=True):
        truth = voxel_labels(store, split, name)
        near = near_borders(store.voxel_cloud(split, name).coords, truth)
        pairs = ((truth, found), (truth[near], found[near]))
        confusions += np.stack([confusion_matrix(*pair, num_classes) for pair in pairs])
    return measure_values(measure(*confusions))


if __name__ == "__main__":
    main()
