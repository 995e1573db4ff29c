"""Tags scans in the browser, and looks at what a run made of the tags; see --help."""

import argparse
import contextlib
import dataclasses
import logging
import os
import pathlib
import sys
import threading
import webbrowser
from typing import TYPE_CHECKING

from mprm_jax.commands.commandline import add_json_flag, print_report, resolve_config
from mprm_jax.commands.commandline import make_parser as make_common_parser
from mprm_jax.config import DataConfig
from mprm_jax.errors import UserError
from mprm_jax.one_writer import only_writer
from mprm_jax.writing import FailedWriteError, require_place

if TYPE_CHECKING:
    from mprm_jax.scans.scene import Source
    from mprm_jax.tagging.app import App
    from mprm_jax.tagging.looks import Look
    from mprm_jax.tagging.server import Server
    from mprm_jax.tagging.tag_files import TagFiles

logger = logging.getLogger(__name__)

DESCRIPTION = """\
Opens a page in the browser on which a person says which classes are in each ball of a scan.

The page comes from this machine only and needs no network. Every answer is on disk before the page
says so, in tags.csv and clicks.csv beside the scans, which mprm prepare and mprm train read.
Started again it goes on at the next open ball. Ctrl-C ends it.

A folder needs nothing but scans: classes can be added on the page. The loop is

  tag, train, tag --ask RUN, train, tag --review RUN ...

where --ask shows the points at which one answer helps most, and --review what the network made of
the tags, what contradicts them first."""

EXAMPLES = """\
examples:
  mprm tag --data folder:scans
  mprm tag --data folder:scans --balls 10 --next helpful
  mprm tag --data folder:millimeters --set data.scale=0.001
  mprm tag --ask runs/cls-scans-quick --count 20
  mprm tag --review runs/cls-scans-quick
  mprm tag --review runs/cls-scans-quick --html review.html
  mprm tag --data folder:scans --report
  mprm tag --data rooms:tiny                 a trial without scans of one's own
on a machine without a screen: add --no-browser --port 8765 and follow what it prints"""

DEFAULT_DATA = "rooms:quick"
BUSY = "end that mprm tag first, or open its page a second time"


def main() -> None:
    args = make_parser().parse_args()
    _check_flags(args)
    with contextlib.ExitStack() as stack:
        _run(args, stack)


def make_parser() -> argparse.ArgumentParser:
    """The flags of the script."""
    parser = make_common_parser(DESCRIPTION, EXAMPLES)
    # Named or not matters: the data of a run are those it was trained on.
    parser.set_defaults(data=None)
    _add_page_flags(parser.add_argument_group("the page"))
    _add_look_flags(parser.add_argument_group("what a run made of the tags"))
    parser.add_argument(
        "--report",
        action="store_true",
        help="print what the tags cost, minutes of a scan, balls and tags of a ball; open nothing",
    )
    add_json_flag(parser, "what --report says")
    return parser


def _add_page_flags(group: argparse.ArgumentParser) -> None:
    group.add_argument(
        "--port", type=int, default=0, help="on 127.0.0.1 (default: any that is free)"
    )
    group.add_argument(
        "--no-browser", action="store_true", help="only print the address, open nothing"
    )
    group.add_argument("--scenes", action="store_true", help="tag whole scans only, no balls")
    group.add_argument(
        "--balls",
        type=int,
        metavar="N",
        help="offer N balls of a scan, which cover as much of it as so few can\n"
        "(default: the grid of the paper, a ball every data.sphere_radius)",
    )
    group.add_argument(
        "--next",
        choices=("order", "helpful"),
        default="order",
        help="which ball comes next: the nearest one, or the one whose tags would tell most\n"
        "(default: order)",
    )
    group.add_argument(
        "--max-points",
        type=int,
        default=3_000_000,
        metavar="N",
        help="points of a scan that are drawn; the current ball has all of its own, up to 400000\n"
        "(default: 3000000)",
    )


def _add_look_flags(group: argparse.ArgumentParser) -> None:
    group.add_argument(
        "--review",
        type=pathlib.Path,
        metavar="RUN",
        help="show its pseudo-labels beside the scans, and what deserves a look, worst first;\n"
        "RUN is the work directory of mprm train, or an export",
    )
    group.add_argument(
        "--ask",
        type=pathlib.Path,
        metavar="RUN",
        help="ask about the points where an answer helps most; they are written to\n"
        "questions.csv beside the scans, too; before any training, RUN is what mprm prepare made",
    )
    group.add_argument(
        "--count",
        type=int,
        default=20,
        metavar="N",
        help="points of a scan to ask about (default: 20)",
    )
    group.add_argument(
        "--html",
        type=pathlib.Path,
        metavar="FILE",
        help="write the page to one file of at most 50 MB, to send to somebody; open nothing",
    )


def _check_flags(args: argparse.Namespace) -> None:
    if args.review and args.ask:
        raise UserError("--review and --ask: choose one, a review has the questions, too.")
    for name in ("balls", "count", "max_points"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} {value}: give 1 or more.")
    if args.html is not None:
        require_place(args.html)
    if args.json and not args.report:
        raise UserError("--json: only --report prints something; add it.")
    if args.balls and args.scenes:
        raise UserError("--balls and --scenes: choose one.")


def _run(args: argparse.Namespace, stack: contextlib.ExitStack) -> None:
    """Does what the flags say; the stack holds what is open until the end."""
    # Not at the top, as in all commands: --help answers at once.
    from mprm_jax.tagging.looks import open_look
    from mprm_jax.tagging.minutes import count_minutes
    from mprm_jax.tagging.server import Server
    from mprm_jax.tagging.single_file import write_single_file
    from mprm_jax.tagging.sources import open_scans

    path = args.review or args.ask
    look = open_look(path, args.store) if path else None
    if args.review is not None and look.labeled is None:
        raise UserError(f"--review {path}: a store has no labels yet; train first, or use --ask.")
    data = _data_settings(args, look)
    source, files = open_scans(args.data, data)
    if args.report:
        print_report(count_minutes(files.read(), files.scenes), as_json=args.json)
        return
    app = _open_app(args, data, source, files, look, stack)
    if args.html is not None:
        write_single_file(app, args.html)
    else:
        _serve(stack.enter_context(Server(app, args.port)), open_browser=not args.no_browser)


def _data_settings(args: argparse.Namespace, look: "Look | None") -> DataConfig:
    """The settings of the data; a run knows its data, which are put into the flags."""
    if look is None:
        args.data = args.data or DEFAULT_DATA
        return resolve_config(args).data
    manifest = look.store.manifest
    args.data = args.data or manifest.spec
    if not args.data:
        raise UserError(f"{look.store.path}: does not say where the scans are; add --data.")
    names = {field.name for field in dataclasses.fields(DataConfig)}
    stored = dataclasses.asdict(manifest.settings)
    known = {name: value for name, value in stored.items() if name in names}
    return dataclasses.replace(resolve_config(args).data, **known)


def _open_app(
    args: argparse.Namespace,
    data: DataConfig,
    source: "Source",
    files: "TagFiles",
    look: "Look | None",
    stack: contextlib.ExitStack,
) -> "App":
    from mprm_jax.tagging.app import App, Wishes
    from mprm_jax.tagging.scans_shown import ShownScans
    from mprm_jax.tagging.single_file import points_that_fit

    note = "" if args.html else _take_files(files, stack, may_look=look is not None)
    max_points = args.max_points
    if args.html is not None:
        max_points = min(max_points, points_that_fit(len(files.scenes)))
    if look is not None:
        _fill(look, files, args, may_write=not (note or args.html))
    wishes = Wishes(
        data=args.data,
        max_points=max_points,
        radius=data.sphere_radius,
        whole_scenes=args.scenes,
        num_balls=args.balls,
        helpful=args.next == "helpful",
        mode="review" if args.review else "ask" if args.ask else "tag",
        readonly=bool(note or args.html),
        notes=(note,) if note else (),
    )
    return App(ShownScans(source, data), files, wishes, look)


def _take_files(files: "TagFiles", stack: contextlib.ExitStack, *, may_look: bool) -> str:
    """Makes this process the only one that writes the files; the line for the page if none may.

    Raises:
      UserError: another page writes them, they are wrong, or cannot be written and nothing else
        is to be done.
    """
    files.read()
    try:
        stack.enter_context(only_writer(files.folder, BUSY))
    except FailedWriteError as error:
        if not may_look:
            raise
        logger.warning("%s Only to look at.", error)
        return f"Only to look at: {error}"
    return ""


def _fill(look: "Look", files: "TagFiles", args: argparse.Namespace, *, may_write: bool) -> None:
    """Finds what to ask and what deserves a look."""
    import numpy as np

    from mprm_jax.scans.scan_files import QUESTIONS_FILE
    from mprm_jax.tagging.questions import write_questions

    evidence, classes = files.read(), tuple(look.store.classes)
    if evidence.classes[: len(classes)] != classes:
        raise UserError(
            f"{look.store.path}: its classes {', '.join(classes)} are not the first of those of "
            f"{files.folder}; prepare, train and export again."
        )
    already = {
        scene: np.array([row.point for row in rows]) * files.scale
        for scene, rows in evidence.clicks.rows.items()
    }
    questions = look.ask(args.count, already)
    if args.review is not None:
        look.review()
    elif may_write:
        write_questions(files.folder / QUESTIONS_FILE, questions, classes)


def _serve(server: "Server", *, open_browser: bool) -> None:
    """Serves until Ctrl-C."""
    port = server.server_port
    print(f"the page: {server.address}")
    print(f"on another machine: ssh -L {port}:127.0.0.1:{port} THIS-MACHINE, then the same address")
    print("Ctrl-C ends it.", flush=True)
    # A browser for the terminal would cover what is printed here.
    has_screen = sys.platform != "linux" or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()
    if open_browser and has_screen:
        # Some wait until the browser is closed.
        threading.Thread(target=webbrowser.open, args=(server.address,), daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
    logger.info("ended; every answer is on disk, and the same command goes on")
