"""Measures pseudo-labels or a segmentation network; see --help."""

import argparse
import json
import pathlib

from mprm_jax.commands.commandline import (
    Parser,
    add_devices_flag,
    add_hosts_flags,
    add_json_flag,
    add_store_flag,
    check_devices,
    print_report,
    together,
)
from mprm_jax.errors import UserError
from mprm_jax.machine import keep_heap, usable_cpus
from mprm_jax.provenance import made_by
from mprm_jax.writing import explain_failed_write, require_place, write_whole

DESCRIPTION = """\
Measures an export of pseudo-labels, or a segmentation network, against true point labels.

IoU of every class and its mean, from one confusion matrix over all scenes: on the points of the
scans, as ScanNet (mesh vertices) and S3DIS measure, and on the voxels. What was decided with the
help of tags and what without stands in columns of their own. --submission writes the labels of
ScanNet's test scans for its benchmark instead."""

EXAMPLES = """\
examples:
  mprm evaluate --labels runs/cls-rooms-quick-quick/pseudo_labels
  mprm evaluate --workdir runs/seg-rooms-quick-quick --tags
  mprm evaluate --workdir runs/seg-scannet-paper --checkpoint best --votes 3 \\
      --augment --output results/val.json
  mprm evaluate --workdir runs/seg-scannet-paper --submission scannet.zip
  mprm evaluate --areas area1.json area2.json area3.json area4.json area5.json \\
      area6.json"""

OF_NETWORK = ("split", "checkpoint", "votes", "augment", "tags", "submission", "devices", "hosts")


def main() -> None:
    parser = make_parser()
    args = parser.parse_args()
    check(args, parser)
    keep_heap()
    with together(args, args.devices or usable_cpus()):
        evaluate(args)


def evaluate(args: argparse.Namespace) -> None:
    """Measures, and writes and prints what came out."""
    # Processes that build input import this script again; they start faster without JAX.
    from mprm_jax.prediction.evaluating import (
        combine_areas,
        evaluate_export,
        evaluate_network,
        submit,
    )
    from mprm_jax.training.hosts import is_first_host
    from mprm_jax.training.parallel import use_cpu_cores

    if args.areas:
        report = combine_areas(args.areas)
    elif args.labels:
        report = evaluate_export(args.labels, args.store, args.picture)
    else:
        use_cpu_cores(args.devices or usable_cpus())
        if args.submission:
            report = submit(
                args.workdir,
                args.submission,
                checkpoint=args.checkpoint,
                store=args.store,
                votes=args.votes,
                augment=args.augment,
                num_devices=args.devices,
            )
        else:
            report = evaluate_network(
                args.workdir,
                split=args.split,
                checkpoint=args.checkpoint,
                store=args.store,
                votes=args.votes,
                augment=args.augment,
                tags=args.tags,
                picture=args.picture,
                num_devices=args.devices,
            )
    if args.hosts and not is_first_host():
        return
    report.values["made_by"] = made_by()
    if args.output:
        write_whole(args.output, json.dumps(report.values, indent=1))
    print_report(report, as_json=args.json)


def make_parser() -> Parser:
    """The flags of the script."""
    parser = Parser(description=DESCRIPTION, epilog=EXAMPLES)
    what = parser.add_mutually_exclusive_group(required=True)
    path = {"type": pathlib.Path}
    what.add_argument(
        "--labels", **path, metavar="DIR", help="an export of pseudo-labels, refined or not"
    )
    what.add_argument("--workdir", **path, metavar="RUN", help="a run of mprm train --stage seg")
    what.add_argument(
        "--areas",
        **path,
        nargs="+",
        metavar="FILE",
        help="S3DIS, 6-fold: the --output of six networks, each measured on the area it left out",
    )
    add_network_flags(parser)
    add_store_flag(parser, "those that the export or the run was made from")
    parser.add_argument("--output", **path, metavar="FILE.json", help="also write the result there")
    parser.add_argument(
        "--picture", **path, metavar="FILE.png", help="draw the scene with the most classes"
    )
    add_json_flag(parser, "the result")
    return parser


def add_network_flags(parser: Parser) -> None:
    """The flags that mean something only with --workdir."""
    network = parser.add_argument_group("with --workdir")
    network.add_argument("--split", default="val", help="whose scenes (default: val)")
    network.add_argument(
        "--checkpoint",
        default="last",
        metavar="WHICH",
        help="last, best (by validation score), or a step (default: last)",
    )
    network.add_argument(
        "--votes",
        type=int,
        default=1,
        metavar="K",
        help="covers with balls, so that each voxel is seen K times or more (default: 1)",
    )
    network.add_argument(
        "--augment", action="store_true", help="turn and stretch each ball at random"
    )
    network.add_argument(
        "--tags",
        action="store_true",
        help="also measure with the classes of each point restricted by the weak labels",
    )
    network.add_argument(
        "--submission",
        type=pathlib.Path,
        metavar="FILE.zip",
        help="write the labels of the split test for the ScanNet benchmark, without measuring",
    )
    add_devices_flag(network)
    add_hosts_flags(network)


def check(args: argparse.Namespace, parser: Parser) -> None:
    """Raises `ValueError` or `OSError` if flags do not go together or nothing can be written."""
    given = [name for name in OF_NETWORK if getattr(args, name) != parser.get_default(name)]
    if not args.workdir and given:
        raise UserError(f"--{given[0]} is for a network; give it with --workdir.")
    if args.areas and args.store:
        raise UserError("--store is of one result; leave it out with --areas.")
    if args.submission and args.hosts:
        raise UserError("--submission is written by one host; leave out --hosts.")
    for name in ("split", "tags"):
        if args.submission and name in given:
            raise UserError(f"--submission is of the split test without tags; leave out --{name}.")
    check_devices(args.devices)
    if args.votes < 1:
        raise UserError(f"--votes {args.votes}: give 1 or more.")
    for path in (args.output, args.picture, args.submission):
        if path is not None:
            require_place(path)
            with explain_failed_write(path):
                path.parent.mkdir(parents=True, exist_ok=True)
