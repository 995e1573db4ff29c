"""Trains a network from the command line; see --help."""

import json
import os
import pathlib
import sys
import time

from commandline import check_devices, make_parser, resolve_config, run

from mprm_jax.data.datasets import ensure_store
from mprm_jax.training.heap import keep_heap
from mprm_jax.training.signals import StoppedError
from mprm_jax.training.workdir import require_writable
from mprm_jax.writing import write_whole

DEFAULT_WORKDIRS = pathlib.Path("runs")

DESCRIPTION = """\
Trains MPRM on class tags and mines pseudo-labels for the training scenes.

Without arguments it makes procedural rooms, tags them, and trains the quick preset on them, in
minutes on two cores. The same command resumes an interrupted run where it stopped."""

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
    check_devices(args.devices)
    start = time.monotonic()
    require_writable(args.workdir or DEFAULT_WORKDIRS)
    store = ensure_store(args.data, config, args.store)
    workdir = args.workdir or DEFAULT_WORKDIRS / f"cls-{store.manifest.name}-{config.preset}"
    keep_heap()
    # Processes that build input import this script again; they start faster without JAX.
    from mprm_jax.labeling.classification import summary, train_classifier
    from mprm_jax.training.parallel import use_cpu_cores

    use_cpu_cores(args.devices or os.cpu_count() or 1)
    results = train_classifier(store, config, workdir, args.devices)
    results["seconds"] = round(time.monotonic() - start, 1)
    write_whole(workdir / "results.json", json.dumps(results, indent=1))
    print(summary(results, workdir))


if __name__ == "__main__":
    try:
        run(main)
    except StoppedError as stopped:
        print(f"{stopped}; the same command continues from there.", file=sys.stderr)
