"""Refines exported pseudo-labels with a dense CRF; see --help."""

import pathlib
from typing import Any

from mprm_jax.commands.commandline import (
    Parser,
    add_hosts_flags,
    add_json_flag,
    add_store_flag,
    print_report,
    together,
)
from mprm_jax.crf.settings import KERNELS

DESCRIPTION = """\
Smooths pseudo-labels with a fully connected CRF over position, color and the normals of surfaces,
within the classes that the tags allow.

Reads an export and writes another beside it. Where the scans have point labels it says how good
both are. An interrupted run continues where it stopped."""

EXAMPLES = """\
examples:
  mprm refine --export runs/cls-rooms-quick-quick/pseudo_labels
  mprm refine --export labels/scannet --tune 8
  mprm refine --export labels/scannet --output labels/released \\
      --kernels released --classes all
  mprm refine --export labels/lidar --color-width 0"""

# Of the settings of the CRF; defaults are added where they are declared.
HELP = {
    "position_width": ("METERS", "reach of the kernel on position"),
    "position_weight": ("X", "weight of it"),
    "pair_width": ("METERS", "reach of the kernel on position and color"),
    "color_width": ("X", "its reach in colors of [0, 1]; 0: no kernel looks at colors"),
    "pair_weight": ("X", "weight of it"),
    "normal_width": ("X", "reach of the next two in normals; 0: look at none"),
    "surface_width": ("METERS", "reach of the kernel on position and normal"),
    "surface_weight": ("X", "weight of it"),
    "patch_width": ("METERS", "reach of the kernel on position, color and normal"),
    "patch_color_width": ("X", "its reach in colors"),
    "patch_weight": ("X", "weight of it"),
    "trust": ("SHARE", "of the network's probabilities in the evidence, the rest is uniform"),
    "iterations": ("N", "of the mean field"),
    "classes": (
        "WHICH",
        "classes a point may have: allowed (as exported), scene (those of its scene),\n"
        "all (the released code) (default: allowed)",
    ),
    "voxel_size": (
        "METERS",
        "edge of the voxels on which the CRF runs, if finer than the network's;\n"
        "0: on these (default: 0.04; released: 0)",
    ),
}


def main() -> None:
    args = make_parser().parse_args()
    with together(args, num_devices=1):
        refine(vars(args))


def refine(args: dict[str, Any]) -> None:
    """Refines, and prints what came out.

    Args:
      args: flags by name.
    """
    # Reads no settings of JAX before the parser has said what is wrong.
    from mprm_jax.labeling.refining import refine_run, with_kernels
    from mprm_jax.training.hosts import is_first_host

    changes = {name: args[name] for name in HELP if args[name] is not None}
    settings = with_kernels(args["kernels"], **changes)
    report = refine_run(
        args["export"],
        store=args["store"],
        output=args["output"],
        settings=settings,
        tune_scenes=args["tune"],
        picture=args["picture"],
        as_ply=args["ply"],
    )
    if is_first_host():
        print_report(report, as_json=args["json"])


def make_parser() -> Parser:
    """The flags of the script; those of the CRF default to what --kernels names."""
    parser = Parser(description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument(
        "--export",
        type=pathlib.Path,
        required=True,
        metavar="DIR",
        help="of mprm train --stage cls (RUN/pseudo_labels) or mprm export",
    )
    parser.add_argument(
        "--output",
        type=pathlib.Path,
        metavar="DIR",
        help="where to write (default: beside the export, its name with _crf)",
    )
    add_store_flag(parser, "those the export was made from")
    parser.add_argument(
        "--tune",
        type=int,
        default=0,
        metavar="N",
        help="first choose weights and widths on N scenes, without point labels: label\n"
        "boundaries should lie where colors change (default: 0, no tuning)",
    )
    parser.add_argument("--picture", action="store_true", help="draw a scene before and after")
    parser.add_argument("--ply", action="store_true", help="also write scans as DIR/ply/*.ply")
    add_json_flag(parser, "the measures")
    add_hosts_flags(parser)
    crf = parser.add_argument_group("the CRF")
    crf.add_argument(
        "--kernels",
        choices=tuple(KERNELS),
        default="normals",
        help="defaults of what follows: released, the paper's, on position and color; normals,\n"
        "which also compare directions of surfaces (default: normals)",
    )
    for name, (metavar, text) in HELP.items():
        if hasattr(KERNELS["normals"], name):
            default, released = (getattr(KERNELS[which], name) for which in ("normals", "released"))
            differs = "" if default == released else f"; released: {released}"
            text = f"{text} (default: {default}{differs})"
        kind = str if name == "classes" else int if name == "iterations" else float
        crf.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=text)
    return parser
