"""Prepares a data set from the command line; see --help."""

from typing import TYPE_CHECKING

from mprm_jax.commands.commandline import add_json_flag, make_parser, print_report, resolve_config
from mprm_jax.errors import UserError
from mprm_jax.progress import Report

if TYPE_CHECKING:
    from mprm_jax.store.prepare import Prepared

DESCRIPTION = """\
Checks every scan of a data set and prepares it for training: voxels, weak labels, statistics.

An interrupted run continues where it stopped. Training prepares what is missing by itself; this
command is for looking first, for leaving broken scans out, and for other sources of tags."""

EXAMPLES = """\
examples:
  mprm prepare
  mprm prepare --data scannet:/data/scannet --workers 16 --on-error continue
  mprm prepare --data scannet:/data/scannet --tags archive:subcloud_label
  mprm prepare --data folder:/my/scans --set data.sphere_radius=1.5"""


def main() -> None:
    parser = make_parser(DESCRIPTION, EXAMPLES)
    parser.add_argument("--workers", type=int, help="processes (default: one per core)")
    parser.add_argument(
        "--on-error",
        choices=("stop", "continue"),
        default="stop",
        help="stop with a list of the broken scenes (default), or leave them out",
    )
    parser.add_argument(
        "--tags",
        default="auto",
        metavar="TAGS",
        help="auto: tags of people, where there are none from point labels (default);\n"
        "archive:DIR: the released subcloud_label archive, unpacked",
    )
    add_json_flag(parser, "the summary")
    args = parser.parse_args()
    if args.workers is not None and args.workers < 0:
        raise UserError(f"--workers {args.workers}: give 0 or more, or leave it out.")
    config = resolve_config(args)
    # Not at the top, as in all commands: --help answers at once.
    from mprm_jax.store.datasets import default_store, open_dataset, with_tags
    from mprm_jax.store.prepare import prepare

    source = with_tags(open_dataset(args.data, config.data), args.tags, config.data.sphere_radius)
    prepared = prepare(
        source,
        args.store or default_store(args.data, config),
        config.data,
        spec=args.data,
        tags=args.tags,
        on_error=args.on_error,
        workers=args.workers,
    )
    values = summary(prepared)
    print_report(Report(values, describe(prepared, values)), as_json=args.json)


def summary(prepared: "Prepared") -> dict:
    """Scenes, points, subclouds and class frequencies, per split."""
    from mprm_jax.store.statistics import candidate_counts, store_statistics, to_json

    store = prepared.store
    splits = {}
    for split in store.splits:
        infos = [store.info(split, scene) for scene in store.scenes(split)]
        splits[split] = {
            "scenes": len(infos),
            "points": sum(info.points for info in infos),
            "voxels": sum(info.voxels for info in infos),
            "subclouds": sum(info.subclouds for info in infos),
            "subclouds_with_empty": sum(info.seeds for info in infos),
        }
    broken = {key: scene.reason for key, scene in store.manifest.broken.items()}
    return {
        "store": str(store.path),
        "new": prepared.num_new,
        "kept": prepared.num_kept,
        "splits": splits,
        "broken": broken,
        "tags": to_json(store_statistics(store, store.tagged_scenes("train"))),
        "candidates": candidate_counts(store, "train"),
    }


def describe(prepared: "Prepared", values: dict) -> str:
    """The summary for reading; class frequencies are those of the training scenes."""
    from mprm_jax.store.statistics import store_statistics, to_table

    lines = [f"{values['store']}: {values['new']} scenes prepared, {values['kept']} were ready"]
    for split, counts in values["splits"].items():
        mean = counts["subclouds"] / max(counts["scenes"], 1)
        lines.append(
            f"{split:<6} {counts['scenes']:5d} scenes {counts['points']:12,d} points "
            f"{counts['voxels']:11,d} voxels {counts['subclouds']:7,d} balls "
            f"({mean:.2f} a scene; {counts['subclouds_with_empty']:,d} with empty ones)"
        )
    lines += [f"left out {key}: {reason}" for key, reason in values["broken"].items()]
    store = prepared.store
    tags = store_statistics(store, store.tagged_scenes("train"))
    lines += ["", "Tags of the training scenes:", to_table(tags)]
    return "\n".join(lines + _candidate_lines(values["candidates"]))


def _candidate_lines(counts: dict[str, int] | None) -> list[str]:
    """What tags, clicks and point labels together leave to the training voxels, for reading."""
    if counts is None:
        return []
    sizes = ("1", "2", "3", "4+")
    total = max(sum(counts[size] for size in ("0", *sizes)), 1)
    shares = ", ".join(f"{size}: {100 * counts[size] / total:.1f} %" for size in sizes)
    lines = [
        f"classes left to a training voxel by all evidence: {shares}; "
        f"known to hold none: {100 * counts['0'] / total:.1f} %"
    ]
    if counts["clicks"]:
        outside = counts["clicks_outside"]
        lines.append(f"{counts['clicks']} clicks, {outside} of them outside of the tags")
    return lines
