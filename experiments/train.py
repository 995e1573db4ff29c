"""Trains a network from the command line; see --help."""

import json
import logging
import os
import pathlib
import sys
import time

import jax
from commandline import make_parser, resolve_config, run

from mprm_jax.config import Config
from mprm_jax.data.datasets import ensure_store
from mprm_jax.data.shapes import calibrate
from mprm_jax.data.store import SceneStore
from mprm_jax.data.subclouds import Subclouds
from mprm_jax.labeling.mining import BASELINES, CALIBRATED, RAW, mine
from mprm_jax.labeling.showcase import draw_showcase
from mprm_jax.labeling.votes import make_mining
from mprm_jax.training.loop import StoppedError, fit
from mprm_jax.training.parallel import make_mesh, use_cpu_cores
from mprm_jax.training.stages import cls_stage
from mprm_jax.training.steps import make_predict_step
from mprm_jax.training.workdir import open_workdir
from mprm_jax.writing import write_whole

logger = logging.getLogger("train")

DESCRIPTION = """\
Trains MPRM on class tags and mines pseudo-labels for the training scenes.

Without arguments it makes procedural rooms, tags them, and trains the quick preset on them: about
ten minutes on two cores. The same command resumes an interrupted run where it stopped."""

EXAMPLES = """\
examples:
  python experiments/train.py --stage cls
  python experiments/train.py --stage cls --set model.paths=plain --workdir runs/pcam
  python experiments/train.py --stage cls --data scannet:/data/scannet --workdir runs/scannet
  python experiments/train.py --stage cls --data folder:/my/scans --preset quick"""


def main() -> None:
    parser = make_parser(DESCRIPTION, EXAMPLES)
    parser.add_argument(
        "--stage",
        required=True,
        choices=("cls",),
        help="cls: the classification network that mines pseudo-labels from tags",
    )
    parser.add_argument(
        "--workdir",
        type=pathlib.Path,
        help="checkpoints, metrics and results go here (default: runs/cls-<data>-<preset>)",
    )
    parser.add_argument(
        "--devices", type=int, help="number of devices (default: all; on a CPU one per core)"
    )
    args = parser.parse_args()
    config = resolve_config(args)
    use_cpu_cores(args.devices or os.cpu_count() or 1)
    start = time.monotonic()
    store = ensure_store(args.data, config, args.store)
    workdir = args.workdir or pathlib.Path("runs") / f"cls-{store.manifest.name}-{config.preset}"
    results = train_classifier(store, config, workdir, args.devices)
    results["seconds"] = round(time.monotonic() - start, 1)
    write_whole(workdir / "results.json", json.dumps(results, indent=1))
    print(summary(results, workdir))


def train_classifier(
    store: SceneStore, config: Config, workdir: pathlib.Path, num_devices: int | None
) -> dict:
    """Trains, mines and draws; returns the measures of the pseudo-labels."""
    train = Subclouds(store, "train", config)
    config = calibrate(config, train)
    open_workdir(workdir, config, identity(store))
    jax.config.update("jax_compilation_cache_dir", str((workdir / "xla_cache").absolute()))
    mesh = make_mesh(jax.devices()[:num_devices])
    logger.info(
        "%s: %d scenes, %d subclouds, %d classes; %d %s devices; work directory %s",
        store.path,
        len(train.scenes),
        len(train),
        len(store.classes),
        mesh.size,
        jax.default_backend(),
        workdir,
    )
    stage = cls_stage(config, len(store.classes))
    state = fit(stage, train, validation(store, config), config, mesh, workdir)
    predict = make_predict_step(make_mining(stage.model, config), mesh)
    mined = workdir / "pseudo_labels"
    measures = mine(predict, state, train, config, mesh, mined)
    draw_showcase(train, mined, workdir / "pseudo_labels.png")
    return {"classes": list(store.classes), "labels": config.data.labels, "measures": measures}


def validation(store: SceneStore, config: Config) -> Subclouds | None:
    """The subclouds of the split "val", if it has tags."""
    if "val" not in store.splits or not any(
        store.info("val", scene).subclouds for scene in store.scenes("val")
    ):
        logger.info("no tagged validation split: the tags are not scored between epochs")
        return None
    return Subclouds(store, "val", config)


def identity(store: SceneStore) -> dict:
    """What a work directory remembers of its data."""
    return {
        "data": store.manifest.name,
        "classes": list(store.classes),
        "fingerprint": store.fingerprint("train"),
    }


def summary(results: dict, workdir: pathlib.Path) -> str:
    """What a person wants to know at the end."""
    lines = [f"pseudo-labels of the training scenes ({results['labels']} tags):"]
    for name in (CALIBRATED, RAW, *BASELINES):
        if name in results["measures"]:
            values = results["measures"][name]
            lines.append(
                f"  {name:28s} mIoU {values['miou']:5.1f} over {values['num_classes']} classes"
                f"   accuracy {values['accuracy']:5.1f}"
            )
    if len(lines) == 1:
        lines.append("  not measured: the scenes have no point labels")
    lines.append(
        f"done in {results['seconds'] / 60:.1f} minutes; see {workdir / 'pseudo_labels.png'}"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        run(main)
    except StoppedError as stopped:
        print(f"{stopped}; the same command continues from there.", file=sys.stderr)
