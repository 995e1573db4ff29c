"""Labels the points of scans with a trained segmentation network; see --help."""

import argparse
import math
import pathlib

from mprm_jax.commands.commandline import (
    add_devices_flag,
    add_json_flag,
    check_devices,
    make_run_parser,
    print_report,
)
from mprm_jax.errors import UserError
from mprm_jax.machine import keep_heap, usable_cpus
from mprm_jax.provenance import made_by

FORMATS = ("ply", "las", "laz", "npz", "npy")

DESCRIPTION = """\
Labels every point of a scan, or of all scans in a folder, with a segmentation network.

Scans need no labels and no preparation: PLY, LAS/LAZ, PCD, XYZ/TXT or NPZ/NPY, with colors if the
network was trained with colors, of any size. Each is written again with a label and a confidence
for every point, in its order; beside it lies a legend of the classes. Points without a finite
position get label -1 and confidence 0."""

EXAMPLES = """\
examples:
  mprm predict office.laz --workdir runs/seg-rooms-quick-quick --output labeled
  mprm predict /my/scans --workdir runs/seg-scans-quick --output labeled --colored
  mprm predict hall.xyz --workdir runs/seg-scans-quick --output labeled \\
      --scale 0.001 --format las --votes 3 --augment"""


def main() -> None:
    args = make_parser().parse_args()
    check_devices(args.devices)
    if args.workers < 0:
        raise UserError(f"--workers {args.workers}: give 0 or more.")
    if args.scale is not None and not (math.isfinite(args.scale) and args.scale > 0):
        raise UserError(f"--scale {args.scale}: give meters per unit of the scan, above 0.")
    keep_heap()
    # Processes that build input import this script again; they start faster without JAX.
    from mprm_jax.prediction.files import predict_run
    from mprm_jax.prediction.predictor import PredictSettings
    from mprm_jax.training.parallel import use_cpu_cores

    settings = PredictSettings(args.votes, args.augment, args.tile_voxels)
    use_cpu_cores(args.devices or usable_cpus())
    report = predict_run(
        args.workdir,
        args.scans,
        args.output,
        checkpoint=args.checkpoint,
        format_name=args.format,
        colored=args.colored,
        scale=args.scale,
        settings=settings,
        num_devices=args.devices,
        workers=args.workers,
    )
    report.values["made_by"] = made_by()
    print_report(report, as_json=args.json)
    if left_out := report.values["left_out"]:
        first = next(iter(left_out.values()))
        raise UserError(f"{len(left_out)} scans left out, the first: {first}")


def make_parser() -> argparse.ArgumentParser:
    """The flags of the script."""
    parser = make_run_parser(DESCRIPTION, EXAMPLES, "seg")
    add_devices_flag(parser)
    path = {"type": pathlib.Path}
    parser.add_argument("scans", **path, help="a scan, or a folder of them")
    parser.add_argument(
        "--output", **path, required=True, metavar="DIR", help="where to write; never the scans"
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="of the labeled scans (default: the scan's own, PLY for PCD and text)",
    )
    parser.add_argument(
        "--colored", action="store_true", help="also write a PLY in the colors of the classes"
    )
    parser.add_argument(
        "--scale",
        type=float,
        metavar="METERS",
        help="meters per unit of the scans, 0.001 for millimeters (default: data.scale of the run)",
    )
    parser.add_argument(
        "--votes",
        type=int,
        default=1,
        metavar="K",
        help="covers with balls, so that each voxel is seen K times or more (default: 1)",
    )
    parser.add_argument(
        "--augment", action="store_true", help="turn and stretch each ball at random"
    )
    parser.add_argument(
        "--tile-voxels",
        type=int,
        default=1_000_000,
        metavar="N",
        help="voxels that are worked on at a time; memory grows with it (default: 1000000)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=0,
        help="processes that build input, for accelerators (default: 0, one thread)",
    )
    add_json_flag(parser, "what was done")
    return parser
