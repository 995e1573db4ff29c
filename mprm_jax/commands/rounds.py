"""Trains the segmentation network in rounds, each on better labels; see --help."""

import dataclasses
import json
import logging
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mprm_jax.commands.commandline import (
    Parser,
    add_json_flag,
    add_settings_flag,
    add_store_flag,
    check_devices,
    print_report,
    resolve_config,
)
from mprm_jax.commands.jobs import Job, command, run_job
from mprm_jax.config import DataConfig
from mprm_jax.crf.settings import KERNELS
from mprm_jax.errors import UserError, explain_damage
from mprm_jax.presets import PRESETS
from mprm_jax.progress import Report
from mprm_jax.reading import read_json
from mprm_jax.writing import explain_failed_write, free_name, write_whole

if TYPE_CHECKING:  # it brings SciPy, for which --help should not wait
    from mprm_jax.store.exports import Export
    from mprm_jax.store.scenes import SceneStore

logger = logging.getLogger(__name__)

DESCRIPTION = """\
Trains the segmentation network in rounds, each on better labels.

The labels of MPRM are smoothed by the CRF and teach the first network. What that network says of
the same scenes, within the classes that tags and clicks leave, is smoothed again and teaches the
next one. A network that has seen all scenes knows what MPRM, which has only seen tags, confuses.

  RUN/round-1/labels    pseudo-labels after the CRF
  RUN/round-1/network   work directory of the network trained on them
  RUN/round-1/network/pseudo_labels
                        what it says of the training scenes; mprm tag --ask asks where it doubts
  RUN/round-2/...       the same with these
  RUN/round-3/labels    after the last network: the best labels of the training scenes

The same command continues where it stopped. After more tags or clicks it adds a round."""

EXAMPLES = """\
examples:
  mprm rounds --export runs/cls-rooms-quick-quick/pseudo_labels
  mprm rounds --export runs/cls-scans-quick/pseudo_labels --workdir runs/rounds-scans
  mprm tag --ask runs/rounds-scans/round-2/network
  mprm rounds --export runs/cls-scans-quick/pseudo_labels --workdir runs/rounds-scans"""

BALL_TAGS = "subcloud"  # of `data.labels`: exports of older versions do not note what they are of
NOTE = "round.json"  # in the folder of a round: with which evidence it was made


def main() -> None:
    args = make_parser().parse_args()
    check_devices(args.devices)
    if args.rounds < 1:
        raise UserError(f"--rounds {args.rounds}: give 1 or more.")
    resolve_config(args, "seg")  # wrong settings end here, not after the first smoothing
    # Not at the top, as in all commands: --help answers at once.
    from mprm_jax.labeling.candidates import with_evidence_now
    from mprm_jax.store.datasets import place_of_results
    from mprm_jax.store.exports import Export

    export = Export(args.export)
    store = with_evidence_now(export.open_store(args.store))
    export.require_scenes(store)
    evidence = {"evidence": store.fingerprint(export.manifest.split), "export": _origin(export)}
    evidence["clouds"] = export.manifest.clouds

    def is_of_data(place: pathlib.Path) -> bool | None:
        note = _noted(place / "round-1")
        return None if note is None else note["clouds"] == evidence["clouds"]

    root = args.workdir or place_of_results(
        store, lambda name: pathlib.Path("runs") / f"rounds-{name}-{args.preset}", is_of_data
    )
    first, last = _plan(root, evidence, args.rounds)
    for number in range(first, last + 2):
        _claim(root / f"round-{number}", evidence)
        how = vars(args) | {"labels": evidence["export"].get("labels", BALL_TAGS)}
        for job in _jobs(how, store, root, number, trains=number <= last):
            if not job.result.exists():
                logger.info("[round %d] %s", number, job.title)
                run_job(job)
    print_report(_report(root, last), as_json=args.json)


def make_parser() -> Parser:
    """The flags of the script."""
    parser = Parser(description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument(
        "--export",
        type=pathlib.Path,
        required=True,
        metavar="DIR",
        help="pseudo-labels of MPRM, not refined: RUN/pseudo_labels of mprm train --stage cls",
    )
    parser.add_argument("--rounds", type=int, default=2, metavar="N", help="networks (default: 2)")
    parser.add_argument(
        "--workdir",
        type=pathlib.Path,
        metavar="RUN",
        help="labels and networks go here (default: runs/rounds-<data>-<preset>)",
    )
    parser.add_argument(
        "--preset",
        choices=sorted(PRESETS),
        default="quick",
        help="of the networks, as in mprm train (default: quick)",
    )
    add_store_flag(parser, "those the export was made from")
    parser.add_argument(
        "--kernels",
        choices=tuple(KERNELS),
        default="normals",
        help="of the CRF, as in mprm refine (default: normals)",
    )
    parser.add_argument(
        "--anew",
        action="store_true",
        help="each network starts with random weights, not with those of the round before",
    )
    parser.add_argument("--devices", type=int, help="as in mprm train")
    add_settings_flag(
        parser, "settings of all networks, as in mprm train --stage seg; help explains them"
    )
    add_json_flag(parser, "what each round came to")
    return parser


def _origin(export: "Export") -> dict[str, Any]:
    """What tells an export from others: how it was made."""
    settings = export.manifest.settings
    if "refined" in settings or "predicted" in settings:
        raise UserError(
            f"{export.path}: not what mprm train --stage cls or mprm export made of MPRM; give "
            "that, rounds refine it themselves."
        )
    return settings


def _plan(root: pathlib.Path, evidence: dict[str, Any], num_rounds: int) -> tuple[int, int]:
    """The first round with this evidence, and the last round that trains.

    Rounds with other evidence whose network is finished stay; one more is added to them.
    """
    finished = 0
    while (note := _noted(root / f"round-{finished + 1}")) is not None and note != evidence:
        if note["export"] != evidence["export"]:
            raise UserError(
                f"{root}: its rounds began with another export; choose another --workdir."
            )
        if not (root / f"round-{finished + 1}" / "network" / "results.json").exists():
            break
        finished += 1
    return finished + 1, max(num_rounds, finished + 1)


def _noted(folder: pathlib.Path) -> dict[str, Any] | None:
    path = folder / NOTE
    if not path.exists():
        return None
    with explain_damage(path, "delete the folder of this round"):
        return dict(read_json(path))


def _claim(folder: pathlib.Path, evidence: dict[str, Any]) -> None:
    """Notes of which evidence a round is; sets aside what was begun with other evidence."""
    if _noted(folder) == evidence:
        return
    with explain_failed_write(folder):
        if folder.exists():
            aside = free_name(folder)
            folder.rename(aside)
            logger.warning("%s: begun before tags or clicks were added, now %s", folder, aside)
        folder.mkdir(parents=True)
    write_whole(folder / NOTE, json.dumps(evidence, indent=1))


def _jobs(
    args: dict[str, Any], store: "SceneStore", root: pathlib.Path, number: int, *, trains: bool
) -> Iterator[Job]:
    """The commands of a round."""
    folder, before = root / f"round-{number}", root / f"round-{number - 1}" / "network"
    devices = () if args["devices"] is None else ("--devices", str(args["devices"]))
    at = ("--store", str(store.path))
    scores = args["export"]
    if number > 1:
        scores = before / "pseudo_labels"
        flags = ("--workdir", str(before), *at, *devices, "--json")
        title = "predicting the training scenes"
        yield Job(title, command("export", *flags), folder / "scores.json", True)
    labels = folder / "labels"
    flags = ("--export", str(scores), "--output", str(labels), "--kernels", args["kernels"], *at)
    if not any(info.has_colors for info in store.manifest.scenes.values()):
        flags += ("--color-width", "0")
    yield Job("smoothing", command("refine", *flags, "--json"), folder / "labels.json", True)
    if trains:
        network = folder / "network"
        flags = ("--stage", "seg", "--pseudo-labels", str(labels), "--workdir", str(network))
        flags += ("--data", f"store:{store.path}", "--preset", args["preset"], *devices)
        if number > 1 and not args["anew"]:
            flags += ("--start-from", str(before))
        flags += ("--set", f"data.labels={args['labels']}", *_data_settings(store), *args["set"])
        yield Job("training", command("train", *flags), network / "results.json", False)


def _data_settings(store: "SceneStore") -> list[str]:
    """The settings of the prepared data, which a store that is named by itself has to be asked for.

    Those that a data set has by default need not be said.
    """
    values, usual = dataclasses.asdict(store.manifest.settings), dataclasses.asdict(DataConfig())
    return [
        f"data.{name}={value}"
        for name, value in values.items()
        if name in usual and (value != usual[name] or name == "voxel_size")
    ]


def _report(root: pathlib.Path, last: int) -> Report:
    """What each round came to."""
    rows = [_round(root / f"round-{number}") for number in range(1, last + 2)]
    lines = [f"{root}: {last} rounds; mIoU in per cent", "round  labels  network  agreement"]
    for number, row in enumerate(rows, start=1):
        shown = (_shown(row[name]) for name in ("labels", "network", "agreement"))
        lines.append("{:5d}  {:>6}  {:>7}  {:>9}".format(number, *shown))
    lines += [
        "labels: of the training scenes, with tags; network: split val, without tags; agreement:",
        "free predictions of the network on the training scenes that the evidence allows.",
        f"best labels: {root / f'round-{last + 1}' / 'labels'}",
        f"network: {root / f'round-{last}' / 'network'}",
    ]
    return Report({"rounds": rows}, "\n".join(lines))


def _round(folder: pathlib.Path) -> dict[str, float | None]:
    """Labels and network of a round, in per cent; None for what was not measured or is not there.

    The agreement is that of the network of this round, which the next one exports.
    """
    following = folder.with_name(f"round-{int(folder.name.removeprefix('round-')) + 1}")
    labels = _read(folder / "labels.json", "after")
    measures = _read(folder / "network" / "results.json", "measures") or {}
    agreement = _read(following / "scores.json", "agreement")
    return {
        "labels": labels and labels["miou_occurring"],
        "network": measures["val"]["miou_occurring"] if "val" in measures else None,
        "agreement": agreement and round(100 * agreement, 2),
    }


def _read(path: pathlib.Path, name: str) -> Any:
    if not path.exists():
        return None
    with explain_damage(path, "delete it, and run the same command again"):
        return read_json(path)[name]


def _shown(number: float | None) -> str:
    return "-" if number is None else f"{number:.1f}"
