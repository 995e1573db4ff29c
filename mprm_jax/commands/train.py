"""Trains a network from the command line; see --help."""

import argparse
import contextlib
import json
import logging
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
from mprm_jax.provenance import made_by
from mprm_jax.training.signals import StoppedError
from mprm_jax.training.workdir import (
    begun_with,
    note_seconds,
    noted_data,
    require_writable,
    seconds_before,
)
from mprm_jax.writing import write_whole

if TYPE_CHECKING:
    from mprm_jax.store.scenes import SceneStore

logger = logging.getLogger(__name__)

DEFAULT_WORKDIRS = pathlib.Path("runs")
ANEW = "anew"

DESCRIPTION = """\
Trains a network.

--stage cls trains MPRM on class tags and mines pseudo-labels for the training scenes. --stage seg
trains a segmentation network on these, or, as a reference, on the true point labels.

Without --data it makes procedural rooms, tags them, and trains the quick preset on them, in
minutes on two cores. The same command resumes an interrupted run where it stopped."""

EXAMPLES = """\
examples:
  mprm train --stage cls
  mprm train --stage cls --set model.paths=plain --workdir runs/pcam
  mprm train --stage cls --data scannet:/data/scannet --workdir runs/scannet
  mprm train --stage cls --data folder:/my/scans
  mprm train --stage seg --pseudo-labels runs/cls-rooms-quick-quick/pseudo_labels
  mprm train --stage seg --pseudo-labels truth --workdir runs/supervised"""


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
        metavar="DIR|evidence|truth",
        help="what --stage seg learns: the folder of an export; evidence, the points to which\n"
        "clicks, known point labels and tags leave one class; or the true point labels",
    )
    parser.add_argument(
        "--workdir",
        type=pathlib.Path,
        help="checkpoints, metrics and results go here (default: runs/<stage>-<data>-<preset>)",
    )
    parser.add_argument(
        "--start-from",
        metavar="RUN|anew",
        help="run of the same stage whose weights a new run starts from (default: the round\n"
        "before, if tags or clicks were added since the default run was trained; else anew)",
    )
    add_devices_flag(parser)
    add_hosts_flags(parser)
    args = parser.parse_args()
    stage = args.stage or STAGES[0]
    config = _begun_by_default(args, stage) or resolve_config(args, stage)
    if args.stage is None:
        raise UserError(f"--stage is missing; choose {' or '.join(STAGES)}, see --help.")
    check_devices(args.devices)
    if args.stage == "cls" and config.augment.mix:
        raise UserError(
            f"augment.mix={config.augment.mix} is for --stage seg: balls laid over one another "
            "have no tags of their own; leave it at 0."
        )
    if (args.stage == "seg") != (args.pseudo_labels is not None):
        raise UserError(
            "--pseudo-labels says what --stage seg learns; give both, or --stage cls alone."
        )
    _require_labels_of_data(args)
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
    workdir, start_from = _place(args, store, config.preset)
    keep_heap()
    # Processes that build input import this script again; they start faster without JAX.
    from mprm_jax.commands import train_cls as classification
    from mprm_jax.commands import train_seg as retraining
    from mprm_jax.training.hosts import is_first_host
    from mprm_jax.training.parallel import use_cpu_cores

    use_cpu_cores(args.devices or usable_cpus())
    remedy = "wait for it, stop it, or choose another --workdir"
    writes = args.hosts is None or is_first_host()  # hosts share a work directory on purpose
    with only_writer(workdir, remedy) if writes else contextlib.nullcontext():
        before = seconds_before(workdir)
        if args.stage == "cls":
            results = classification.train_classifier(
                store, config, workdir, args.devices, start_from
            )
            summary = classification.summary
        else:
            results = retraining.train_segmenter(
                store, config, workdir, args.devices, args.pseudo_labels, start_from
            )
            summary = retraining.summary
        seconds = before + time.monotonic() - start
        results["seconds"] = round(seconds, 1)
        results["fingerprint"] = store.fingerprint("train")
        results["made_by"] = made_by()
        if is_first_host():
            note_seconds(workdir, seconds)
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


def _place(
    args: argparse.Namespace, store: "SceneStore", preset: str
) -> tuple[pathlib.Path, pathlib.Path | None]:
    """The work directory, and the run whose weights a new one starts from.

    Without a flag that is the round before, if there is one.
    """
    workdir, before = args.workdir, None
    if workdir is None:
        workdir, before = _default_round(args.stage, store, preset)
    if args.start_from is not None:
        before = None if args.start_from == ANEW else pathlib.Path(args.start_from)
    return workdir, before


def _default_round(
    stage: str, store: "SceneStore", preset: str
) -> tuple[pathlib.Path, pathlib.Path | None]:
    """runs/<stage>-<data>-<preset>, or what the same data began elsewhere; and the round before.

    Each round of tagging and training has a work directory of its own.
    """
    from mprm_jax.store.datasets import is_same_data, place_of_results
    from mprm_jax.training.rounds import round_of

    def is_of_data(workdir: pathlib.Path) -> bool | None:
        noted = noted_data(workdir)
        if noted is None:
            return None
        return is_same_data(store, noted.get("fingerprint"), pathlib.Path(noted.get("store", "")))

    first = place_of_results(store, lambda name: _workdir(stage, name, preset), is_of_data)
    return round_of(first, store.fingerprint("train"))


def _workdir(stage: str, name: str, preset: str) -> pathlib.Path:
    return DEFAULT_WORKDIRS / f"{stage}-{name}-{preset}"


def _require_labels_of_data(args: argparse.Namespace) -> None:
    """Raises `ValueError` if Rooms would be made to learn the labels of other data."""
    if args.pseudo_labels in (None, "truth", "evidence") or not args.data.startswith("rooms"):
        return
    from mprm_jax.store.exports import Export

    data = Export(args.pseudo_labels).manifest.data
    if not data.startswith("rooms"):
        raise UserError(
            f"{args.pseudo_labels}: pseudo-labels of {data}, not of {args.data}; say with --data "
            "which scans they are of."
        )


def _begun_by_default(args: argparse.Namespace, stage: str) -> Config | None:
    """The settings for a run on a folder of scans that was begun when `paper` was their default.

    None if the command names a preset, or such a run is not there.
    """
    kind, former = args.data.partition(":")[0], "paper"
    if args.preset is not None or kind != "folder":
        return None
    workdir = args.workdir or _workdir(stage, kind, former)
    begun = begun_with(workdir, stage)
    if begun is None or begun.get("preset") != former:
        return None
    from mprm_jax.store.datasets import default_store

    config = resolve_config(argparse.Namespace(**vars(args) | {"preset": former}), stage)
    store = args.store or default_store(args.data, config)
    if args.workdir is None and noted_data(workdir).get("store") != str(store.absolute()):
        return None
    logger.info(
        "%s: goes on with preset %s, the default when it was begun; to begin anew, give --preset",
        workdir,
        former,
    )
    return config
