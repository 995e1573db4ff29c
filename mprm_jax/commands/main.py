"""The command `mprm`: finds the module of a subcommand and runs it, as the scripts do."""

import importlib
import sys

from mprm_jax.commands.commandline import run

COMMANDS = {
    "prepare": "check scans and prepare them for training",
    "tag": "say in the browser which classes are where",
    "train": "train a network, on tags or on pseudo-labels",
    "export": "export the pseudo-labels of a trained MPRM",
    "refine": "smooth pseudo-labels with a dense CRF",
    "rounds": "train segmentation networks in rounds, each on better labels",
    "evaluate": "measure pseudo-labels or a segmentation network",
    "predict": "label any scan with a trained segmentation network",
    "weak-labels": "count the tags of a data set",
    "reproduce": "run the paper's experiments and write one report",
    "render-rooms": "draw rooms of the embedded data set",
}
_START_AGAIN = ("predict", "weak-labels", "render-rooms")  # the others go on where they stopped
_HELP = """\
usage: mprm COMMAND [flags]

Turns cheap class tags on 3D scans into a label for every point.

{commands}

mprm COMMAND --help explains the flags of a command. In a checkout, python experiments/NAME.py does
the same."""


def main(name: str | None = None) -> None:
    """Runs a command; its flags are read from the command line.

    Args:
      name: of the command; None if it is the first word of the command line.
    """
    if name is None:
        name = sys.argv[1] if len(sys.argv) > 1 else "--help"
        if name in ("-h", "--help"):
            run(_show_commands)
            return
        if name not in COMMANDS:
            print(f"error: mprm {name}: choose {', '.join(COMMANDS)}.", file=sys.stderr)
            sys.exit(2)
        sys.argv[:2] = [f"mprm {name}"]
    module = importlib.import_module(f"mprm_jax.commands.{name.replace('-', '_')}")
    run(module.main, continues=name not in _START_AGAIN)


def _show_commands() -> None:
    width = max(map(len, COMMANDS))
    lines = [f"  {known:{width}}  {text}" for known, text in COMMANDS.items()]
    print(_HELP.format(commands="\n".join(lines)))
