"""Exports the pseudo-labels of a trained network; see --help."""

import argparse
import pathlib

from mprm_jax.commands.commandline import (
    Parser,
    add_devices_flag,
    add_hosts_flags,
    add_json_flag,
    add_settings_flag,
    add_store_flag,
    check_devices,
    make_run_parser,
    print_report,
    together,
)
from mprm_jax.errors import UserError
from mprm_jax.machine import keep_heap, usable_cpus
from mprm_jax.training.workdir import noted_data

DESCRIPTION = """\
Chooses pseudo-labels by the point scores of a trained network, within what tags and clicks allow.

A network of stage cls mines them from its activation maps. One of stage seg predicts them; with
its labels, which also hold the clicks made since, another round can be trained.

Writes one file per scene: class scores, label, confidence and number of balls of every voxel, and
the map to the points of the scan. Where the scans have point labels it says how good the result
is. An interrupted export continues where it stopped."""

EXAMPLES = """\
examples:
  mprm export --workdir runs/cls-rooms-quick-quick
  mprm export --workdir runs/cls-rooms-quick-quick \\
      --output labels/two_paths --set mining.paths=plain,spatial mining.fusion=sum
  mprm export --workdir runs/seg-scans-quick --beside runs/cls-scans-quick/pseudo_labels
  mprm export --workdir runs/scannet --checkpoint best \\
      --output labels/scannet --ply"""

MINING_HELP = """\
how scores are merged and labels chosen:
  mining.paths=plain,spatial      paths to merge (default: all of the network)
  mining.fusion=max|sum           over paths
  mining.votes=K                  votes of every ball, all but the first moved at random
  mining.calibration=class|none   scores standardised per class, or the paper's argmax
  mining.allowed=candidates|intersection|ball|scene
                                  what a point may be: by all evidence; by the tags of
                                  all its balls, of any, of the scene"""


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
    from mprm_jax.prediction.exporting import export_predictions
    from mprm_jax.training.hosts import is_first_host
    from mprm_jax.training.parallel import use_cpu_cores

    use_cpu_cores(args.devices or usable_cpus())
    how = {
        "checkpoint": args.checkpoint,
        "store": args.store,
        "split": args.split,
        "output": args.output,
        "num_devices": args.devices,
        "as_ply": args.ply,
    }
    if (noted_data(args.workdir) or {}).get("stage") == "seg":
        if args.set:
            raise UserError(f"--set {args.set[0]}: a network of stage seg mines nothing.")
        more = {"beside": args.beside, "prior_exponent": args.prior_exponent}
        report = export_predictions(args.workdir, **how, **more)
    elif args.beside is not None or args.prior_exponent is not None:
        raise UserError(
            f"{args.workdir}: of stage cls; --beside and --prior-exponent go with a network of "
            "stage seg."
        )
    else:
        report = export_run(args.workdir, settings=args.set, **how)
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
        "--beside",
        type=pathlib.Path,
        metavar="DIR",
        help="stage seg: export of MPRM whose probabilities are multiplied in",
    )
    parser.add_argument(
        "--prior-exponent",
        type=float,
        metavar="X",
        help="stage seg: probabilities are divided by this power of their mean, so that rare\n"
        "classes do not vanish (default: 0.75; 0.25 if the loss weighed classes)",
    )
    add_settings_flag(parser, MINING_HELP, "NAME=VALUE")
    return parser
