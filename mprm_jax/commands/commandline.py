"""What all scripts share: the common flags, the settings they lead to, and one-line errors."""

import argparse
import contextlib
import json
import logging
import os
import pathlib
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Protocol

from mprm_jax.config import Config
from mprm_jax.errors import UserError, one_line
from mprm_jax.overrides import explain_settings, override, section_names
from mprm_jax.presets import PRESETS
from mprm_jax.progress import Report

DATA_HELP = """\
where the scans are:
  rooms, rooms:tiny, rooms:full   procedural rooms, made at first use (default: rooms:quick)
  scannet:PATH                    unpacked ScanNet v2 (scans/, scans_test/, labels tsv)
  s3dis:PATH                      S3DIS, either release (Area_1/ ... Area_6/)
  pointcept:PATH                  a data set already prepared for Pointcept
  folder:PATH                     PLY, LAS/LAZ, PCD, XYZ/TXT or NPZ/NPY scans with tags.csv
  store:PATH                      what mprm prepare made, without the scans (only to train)"""

HOSTS_HELP = """\
several hosts work as one; give the same command on each of them (docs/pods.md)
  auto                  on a TPU pod, and under SLURM or Open MPI, which know the hosts
  ADDRESS:PORT,COUNT,I  elsewhere: address of host 0 and a free port there, number of
                        hosts, and which of them this is, 0 to COUNT - 1"""

TRACEBACK = "--traceback"


class Parser(argparse.ArgumentParser):
    """A parser of a script: its errors are one line, and it knows the flags that `run` reads."""

    def __init__(self, **settings: Any):
        super().__init__(**{"formatter_class": argparse.RawTextHelpFormatter} | settings)
        self.add_argument(
            TRACEBACK, action="store_true", help="show for every error where it was found"
        )

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see --help.")


class TakesFlags(Protocol):
    """A parser or a group of its flags, for which argparse has no public name in common."""

    def add_argument(self, *names: str, **how: Any) -> argparse.Action:
        """As of `argparse.ArgumentParser`."""


def make_parser(description: str, epilog: str = "") -> Parser:
    """A parser with the flags that every script understands."""
    parser = Parser(description=description, epilog=epilog)
    parser.add_argument("--data", default="rooms:quick", metavar="SOURCE", help=DATA_HELP)
    parser.add_argument(
        "--preset",
        choices=sorted(PRESETS),
        help="settings to start from (default: quick for rooms and folders, paper for the others)",
    )
    parser.add_argument(
        "--store",
        type=pathlib.Path,
        metavar="DIR",
        help="where prepared scenes are kept (default: prepared/<data set and settings>)",
    )
    add_settings_flag(
        parser,
        "change settings, e.g. --set optim.learning_rate=5e-3 model.paths=plain;\n"
        "--set help explains all of them: meaning, unit, choices, value in each preset;\n"
        f"--set help SECTION those of a section ({', '.join(section_names())})",
    )
    return parser


def add_settings_flag(parser: TakesFlags, text: str, metavar: str = "SECTION.FIELD=VALUE") -> None:
    """The flag that changes single settings."""
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar=metavar, help=text)


def make_run_parser(description: str, epilog: str, stage: str) -> Parser:
    """A parser for scripts that use the network of a stage."""
    parser = Parser(description=description, epilog=epilog)
    parser.add_argument(
        "--workdir",
        type=pathlib.Path,
        required=True,
        metavar="RUN",
        help=f"work directory of mprm train --stage {stage}, e.g. runs/{stage}-rooms-quick-quick",
    )
    parser.add_argument(
        "--checkpoint",
        default="last",
        metavar="WHICH",
        help="last, best (by validation score), or a step (default: last)",
    )
    return parser


def add_store_flag(parser: TakesFlags, default: str) -> None:
    """The flag that names the prepared data; `default` says which they are without it."""
    parser.add_argument(
        "--store",
        type=pathlib.Path,
        metavar="DIR",
        help=f"prepared scenes (default: {default})",
    )


def add_json_flag(parser: TakesFlags, what: str) -> None:
    """The flag for programs that read what a command says."""
    parser.add_argument("--json", action="store_true", help=f"print {what} as JSON")


def print_report(report: Report, *, as_json: bool) -> None:
    """Says what a command found, to programs or to people."""
    print(json.dumps(report.values, indent=1) if as_json else report.text)


def add_devices_flag(parser: TakesFlags) -> None:
    """The flag that limits the devices."""
    parser.add_argument(
        "--devices",
        type=int,
        help="number of devices, of each host; steps are the same with any number\n"
        "(default: all; on a CPU one for each core that this process may use)",
    )


def add_hosts_flags(parser: TakesFlags) -> None:
    """The flags of scripts that several hosts can run as one."""
    parser.add_argument("--hosts", metavar="HOSTS", help=HOSTS_HELP)
    parser.add_argument(
        "--wait-for-hosts",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="how long to wait for hosts that have not come yet (default: 300)",
    )


def together(
    args: argparse.Namespace, num_devices: int, settings: Mapping[str, str] | None = None
) -> contextlib.AbstractContextManager[None]:
    """Joins the hosts that `--hosts` names, for a body that is to run on all of them.

    Args:
      num_devices: of each host, if they are CPUs.
      settings: have to be equal on all hosts, as the flags have.
    """
    if args.hosts is None:
        return contextlib.nullcontext()
    from mprm_jax.training.joining import joined_hosts
    from mprm_jax.training.parallel import use_cpu_cores

    use_cpu_cores(num_devices)
    flags = {f"--{name.replace('_', '-')}": str(value) for name, value in vars(args).items()}
    del flags["--hosts"], flags[TRACEBACK]
    return joined_hosts(args.hosts, flags | dict(settings or {}), args.wait_for_hosts)


def check_devices(num_devices: int | None) -> None:
    """Raises `ValueError` if the number makes no sense."""
    if num_devices is not None and num_devices < 1:
        raise UserError(f"--devices {num_devices}: give 1 or more, or leave it out to use all.")


def resolve_config(args: argparse.Namespace, stage: str = "cls") -> Config:
    """The preset that the flags name, with `--set` applied; `--set help` explains and exits."""
    name = args.preset or _default_preset(args.data)
    config = PRESETS[name](stage)
    if args.set[:1] == ["help"]:
        print(explain_settings(config, stage, args.set[1:]))
        sys.exit(0)
    return override(config, args.set)


def run(main: Callable[[], None], *, continues: bool = True) -> None:
    """Runs a script; errors that a user can mend end as one line and exit status 2.

    All others are bugs and show where they come from, as all do with `--traceback`.

    Args:
      continues: whether the script, interrupted and run again, goes on where it stopped.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    logging.getLogger("jax").setLevel(logging.WARNING)
    # When Orbax fails, whole tracebacks come through these besides the error it raises.
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    sys.unraisablehook = _report_unraisable
    # Names and labels are not bound to the alphabet of the terminal.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")
    # The backend of a notebook or a desktop need not exist here, and matplotlib refuses to start.
    os.environ.pop("MPLBACKEND", None)
    try:
        main()
        sys.stdout.flush()  # a full disk or a closed pipe shows itself here
    except (UserError, OSError, MemoryError, RuntimeError) as error:
        line = one_line(error)
        if line is None:
            raise
        if _wants_traceback():
            traceback.print_exc()
        _leave(f"error: {line}", 2)
    except KeyboardInterrupt:
        how = "continues where it stopped" if continues else "starts again"
        _leave(f"interrupted; the same command {how}.", 130)


def _wants_traceback() -> bool:
    """Whether the flag was given; the error may be that others cannot be understood."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(TRACEBACK, nargs="?", const=True)
    return parser.parse_known_args()[0].traceback is not None


def _leave(last_line: str, status: int) -> NoReturn:
    """Ends the script; what threads of libraries still complain about is not shown."""
    print(last_line, file=sys.stderr, flush=True)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.__stderr__.fileno())
    sys.exit(status)


def _report_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    # On a full disk TensorStore reports each array to a loop that Orbax has closed after the first.
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def _default_preset(data: str) -> str:
    kind, _, detail = data.partition(":")
    if kind == "rooms":
        return "tiny" if detail == "tiny" else "quick"
    return "quick" if kind == "folder" else "paper"
