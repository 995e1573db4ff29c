"""Trains a network from the command line; see --help."""

import argparse
import contextlib
import json
import pathlib
import sys
import time
from typing import TYPE_CHECKING

from mprm_jax.commands.commandline import (
    add_devices_flag,
    add_hosts_flags,
    check_devices,
    make_parser,
    resolve_config,
    together,
)
from mprm_jax.config import Config
from mprm_jax.errors import UserError
from mprm_jax.machine import keep_heap, usable_cpus
from mprm_jax.one_writer import only_writer
from mprm_jax.overrides import setting_values
from mprm_jax.presets import STAGES
from mprm_jax.training.signals import StoppedError
from mprm_jax.training.workdir import require_writable
from mprm_jax.writing import write_whole

if TYPE_CHECKING:
    from mprm_jax.store.scenes import SceneStore

DEFAULT_WORKDIRS = pathlib.Path("runs")

DESCRIPTION = """\
Trains a network.

--stage cls trains MPRM on class tags and mines pseudo-labels for the training scenes. --stage seg
trains a segmentation network on these, or, as a reference, on the true point labels.

Without --data it makes procedural rooms, tags them, and trains the quick preset on them, in
minutes on two cores. The same command resumes an interrupted run where it stopped."""

EXAMPLES = """\
examples:
  python experiments/train.py --stage cls
  python experiments/train.py --stage cls --set model.paths=plain --workdir runs/pcam
  python experiments/train.py --stage cls --data scannet:/data/scannet --workdir runs/scannet
  python experiments/train.py --stage cls --data folder:/my/scans --preset quick
  python experiments/train.py --stage seg --pseudo-labels runs/cls-rooms-quick-quick/pseudo_labels
  python experiments/train.py --stage seg --pseudo-labels truth --workdir runs/supervised"""


def main() -> None:
    parser = make_parser(DESCRIPTION, EXAMPLES)
    parser.add_argument(
        "--stage",
        choices=STAGES,
        help="cls: the classification network that mines pseudo-labels from tags\n"
        "seg: the segmentation network that learns point labels",
    )
    parser.add_argument(
        "--pseudo-labels",
        metavar="DIR|truth",
        help="what --stage seg learns: the folder of an export, or the true point labels",
    )
    parser.add_argument(
        "--workdir",
        type=pathlib.Path,
        help="checkpoints, metrics and results go here (default: runs/<stage>-<data>-<preset>)",
    )
    add_devices_flag(parser)
    add_hosts_flags(parser)
    args = parser.parse_args()
    config = resolve_config(args, args.stage or STAGES[0])
    if args.stage is None:
        raise UserError(f"--stage is missing; choose {' or '.join(STAGES)}, see --help.")
    check_devices(args.devices)
    if (args.stage == "seg") != (args.pseudo_labels is not None):
        raise UserError(
            "--pseudo-labels says what --stage seg learns; give both, or --stage cls alone."
        )
    try:
        with together(args, args.devices or usable_cpus(), setting_values(config)):
            train(args, config)
    except StoppedError as stopped:
        print(f"{stopped}; the same command continues from there.", file=sys.stderr)


def train(args: argparse.Namespace, config: Config) -> None:
    """Prepares what is missing, trains, writes the results and prints a summary."""
    start = time.monotonic()
    require_writable(args.workdir or DEFAULT_WORKDIRS)
    store = open_data(args, config)
    name = f"{args.stage}-{store.manifest.name}-{config.preset}"
    workdir = args.workdir or DEFAULT_WORKDIRS / name
    keep_heap()
    # Processes that build input import this script again; they start faster without JAX.
    from mprm_jax.commands import train_cls as classification
    from mprm_jax.commands import train_seg as retraining
    from mprm_jax.training.hosts import is_first_host
    from mprm_jax.training.parallel import use_cpu_cores
    from mprm_jax.training.spent import SpentTime

    use_cpu_cores(args.devices or usable_cpus())
    run_of = (store, config, workdir, args.devices)
    remedy = "wait for it, stop it, or choose another --workdir"
    writes = args.hosts is None or is_first_host()  # hosts share a work directory on purpose
    with only_writer(workdir, remedy) if writes else contextlib.nullcontext():
        spent = SpentTime(workdir, since=start)
        if args.stage == "cls":
            results, summary = classification.train_classifier(*run_of), classification.summary
        else:
            results = retraining.train_segmenter(*run_of, args.pseudo_labels)
            summary = retraining.summary
        spent.note()
        results["seconds"] = round(spent.seconds, 1)
        if is_first_host():
            write_whole(workdir / "results.json", json.dumps(results, indent=1))
            print(summary(results, workdir))


def open_data(args: argparse.Namespace, config: Config) -> "SceneStore":
    """The prepared data; what is missing is made, once per disk if several hosts train."""

    # Not at the top, as in all commands: --help answers at once.
    from mprm_jax.store.datasets import ROOMS_ROOT, default_store, ensure_store

    def make() -> "SceneStore":
        return ensure_store(args.data, config, args.store)

    if args.hosts is None or args.data.startswith("store:"):
        return make()
    from mprm_jax.training.hosts import first_on_each_disk

    folders = [args.store or default_store(args.data, config), ROOMS_ROOT]
    return first_on_each_disk(folders, make, "the prepared data")
