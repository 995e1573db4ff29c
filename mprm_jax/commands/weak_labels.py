"""Looks at weak labels from the command line; see --help."""

import argparse
import pathlib

from mprm_jax.commands.commandline import Parser, add_json_flag, print_report
from mprm_jax.errors import UserError
from mprm_jax.progress import Report
from mprm_jax.scans.typed_files import read_typed

DESCRIPTION = """\
Looks at weak labels. They are counted wherever they lie: in a prepared store, in the released
subcloud_label archive, or in a folder with tags.csv. Nothing else of the data set is needed."""

EXAMPLES = """\
examples:
  mprm weak-labels stats --labels subcloud_label
  mprm weak-labels stats --labels subcloud_label \\
      --split mprm_jax/scans/splits/scannetv2_train.txt
  mprm weak-labels stats --labels prepared/rooms-quick-8cm-r2-ends --json"""


def main() -> None:
    args = make_parser().parse_args()
    # Not at the top, as in all commands: --help answers at once.
    from mprm_jax.store.statistics import read_statistics, to_json, to_table

    names = None if args.split is None else read_names(args.split)
    counts = read_statistics(args.labels, names)
    print_report(Report(to_json(counts), to_table(counts)), as_json=args.json)


def make_parser() -> Parser:
    """One command so far: stats."""
    parser = Parser(
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    stats = commands.add_parser(
        "stats", help="class frequencies per scene and per subcloud (the paper's Table 1)"
    )
    stats.add_argument(
        "--labels",
        type=pathlib.Path,
        required=True,
        metavar="DIR",
        help="a prepared store, the unpacked archive, or a folder with tags.csv",
    )
    stats.add_argument(
        "--split", type=pathlib.Path, metavar="FILE", help="count only the scenes listed in it"
    )
    add_json_flag(stats, "percentages")
    return parser


def read_names(path: pathlib.Path) -> list[str]:
    """Scene names, one per line, each counted once."""
    lines = [line.strip() for line in read_typed(path).splitlines()]
    names = list(dict.fromkeys(line for line in lines if line))
    if not names:
        raise UserError(f"{path}: lists no scene; write one name per line.")
    return names
