"""Tags scans in the browser; see --help."""

import argparse
import contextlib
import logging
import webbrowser
from typing import TYPE_CHECKING

from mprm_jax.commands import commandline
from mprm_jax.config import Config

if TYPE_CHECKING:
    from mprm_jax.tagging.app import App

logger = logging.getLogger(__name__)

DESCRIPTION = """\
Opens a page in the browser on which a person says which classes are in each ball of a scan.

It runs on this machine only and needs no network. Every answer is on disk before the page says so,
in tags.csv and clicks.csv beside the scans, which mprm prepare and mprm train read; started again
it goes on at the next open ball. Ctrl-C ends it."""

EXAMPLES = """\
examples:
  mprm tag --data folder:scans
  mprm tag --data folder:scans --balls 10
  mprm tag --data rooms:tiny"""


def main() -> None:
    args = make_parser().parse_args()
    config = commandline.resolve_config(args)
    # Not at the top, as in all commands: --help answers at once.
    from mprm_jax.tagging.server import Server

    with contextlib.ExitStack() as stack:
        app = open_app(args, config, stack)
        server = stack.enter_context(Server(app, args.port))
        _announce(server.address, server.server_port, open_browser=not args.no_browser)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
        logger.info("ended; every answer is on disk, the same command goes on")


def make_parser() -> argparse.ArgumentParser:
    """The flags of the script."""
    parser = commandline.make_parser(DESCRIPTION, EXAMPLES)
    parser.add_argument(
        "--port", type=int, default=0, help="port of the page on 127.0.0.1 (default: any free one)"
    )
    parser.add_argument(
        "--no-browser", action="store_true", help="only print the address, open nothing"
    )
    parser.add_argument(
        "--scenes", action="store_true", help="tag whole scans only, no balls of them"
    )
    parser.add_argument(
        "--max-points",
        type=int,
        default=3_000_000,
        metavar="N",
        help="points of a scan that are drawn at once (default: 3000000); of a ball up to\n"
        "400000 more",
    )
    return parser


def open_app(args: argparse.Namespace, config: Config, stack: contextlib.ExitStack) -> "App":
    """Opens the scans and their files; the stack holds the lock on the files."""
    from mprm_jax.one_writer import only_writer
    from mprm_jax.tagging.app import App
    from mprm_jax.tagging.scans_shown import ShownScans
    from mprm_jax.tagging.sources import open_scans

    source, files = open_scans(args.data, config.data)
    stack.enter_context(only_writer(files.folder, "close that page's mprm tag first"))
    files.read()
    scans = ShownScans(source, config.data)
    return App(args.data, scans, files, max_points=args.max_points, whole_scenes=args.scenes)


def _announce(address: str, port: int, *, open_browser: bool) -> None:
    """Says where the page is, here and through a tunnel."""
    print(f"the page: {address}")
    print(
        f"from another machine: ssh -L {port}:127.0.0.1:{port} THIS-MACHINE, then the same address"
    )
    print("Ctrl-C ends it.", flush=True)
    if open_browser and not webbrowser.open(address):
        logger.info("no browser here; open the address by hand")
