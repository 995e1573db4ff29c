"""Exports the pseudo-labels of a trained MPRM; see --help."""

import argparse
import pathlib

from mprm_jax.commands.commandline import (
    Parser,
    add_devices_flag,
    add_hosts_flags,
    add_json_flag,
    add_store_flag,
    check_devices,
    make_run_parser,
    print_report,
    together,
)
from mprm_jax.machine import keep_heap, usable_cpus

DESCRIPTION = """\
Mines point scores with a trained classification network and chooses pseudo-labels by them.

Writes one file per scene: class scores, label, confidence and number of balls of every voxel, and
the map to the points of the scan. Where the scans have point labels it says how good the result
is. An interrupted export continues where it stopped."""

EXAMPLES = """\
examples:
  mprm export --workdir runs/cls-rooms-quick-quick
  mprm export --workdir runs/cls-rooms-quick-quick \\
      --output labels/two_paths --set mining.paths=plain,spatial mining.fusion=sum
  mprm export --workdir runs/scannet --checkpoint best \\
      --output labels/scannet --ply"""

MINING_HELP = """\
how scores are merged and labels chosen:
  mining.paths=plain,spatial      paths to merge (default: all of the network)
  mining.fusion=max|sum           over paths
  mining.votes=K                  votes of every ball, all but the first moved at random
  mining.calibration=class|none   scores standardised per class, or the paper's argmax
  mining.allowed=intersection|ball|scene
                                  whose tags a point may take: all its balls', any's, the scene's"""


def main() -> None:
    args = make_parser().parse_args()
    check_devices(args.devices)
    keep_heap()
    with together(args, args.devices or usable_cpus()):
        export(args)


def export(args: argparse.Namespace) -> None:
    """Exports, and prints what came out."""
    # Processes that build input import this script again; they start faster without JAX.
    from mprm_jax.labeling.exporting import export_run
    from mprm_jax.training.hosts import is_first_host
    from mprm_jax.training.parallel import use_cpu_cores

    use_cpu_cores(args.devices or usable_cpus())
    report = export_run(
        args.workdir,
        checkpoint=args.checkpoint,
        store=args.store,
        split=args.split,
        output=args.output,
        settings=args.set,
        num_devices=args.devices,
        as_ply=args.ply,
    )
    if is_first_host():
        print_report(report, as_json=args.json)


def make_parser() -> Parser:
    """The flags of the script."""
    parser = make_run_parser(DESCRIPTION, EXAMPLES, "cls")
    add_devices_flag(parser)
    add_hosts_flags(parser)
    add_store_flag(parser, "those the network was trained on")
    parser.add_argument("--split", default="train", help="whose scenes (default: train)")
    parser.add_argument(
        "--output",
        type=pathlib.Path,
        metavar="DIR",
        help="where to write (default: RUN/pseudo_labels, which mprm train made with its settings)",
    )
    parser.add_argument("--ply", action="store_true", help="also write scans as DIR/ply/*.ply")
    add_json_flag(parser, "the measures")
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE", help=MINING_HELP
    )
    return parser
