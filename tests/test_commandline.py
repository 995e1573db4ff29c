"""What all scripts share: which preset applies, the list of settings, errors in one line."""

import os
import pathlib
import subprocess
import sys

import pytest
from commandline import make_parser, resolve_config, run

from mprm_jax.overrides import setting_names

pytestmark = pytest.mark.usefixtures("same_process_afterwards")


def resolve(*arguments):
    return resolve_config(make_parser("A script.").parse_args(arguments))


@pytest.mark.parametrize(
    ("arguments", "preset"),
    [
        ((), "quick"),
        (("--data", "rooms:tiny"), "tiny"),
        (("--data", "rooms:full"), "quick"),
        (("--data", "scannet:/scans"), "paper"),
        (("--data", "folder:/scans", "--preset", "quick"), "quick"),
    ],
)
def test_the_preset_fits_the_data(arguments, preset):
    assert resolve(*arguments).preset == preset


def test_settings_are_applied_from_all_flags():
    config = resolve("--set", "seed=3", "optim.epochs=2", "--set", "model.paths=plain")
    assert (config.seed, config.optim.epochs, config.model.paths) == (3, 2, ("plain",))


def test_help_lists_every_setting(capsys):
    with pytest.raises(SystemExit) as stop:
        resolve("--set", "help")
    assert stop.value.code == 0
    listed = capsys.readouterr().out
    assert all(f"  {name}=" in listed for name in setting_names(resolve()))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--preset", "huge"), "argument --preset: invalid choice: 'huge'"),
        (("--sett", "seed=1", "--dta", "rooms"), "unrecognized arguments: --sett"),
        (("--store",), "argument --store: expected one argument"),
    ],
)
def test_a_wrong_flag_is_one_line(arguments, named, capsys):
    with pytest.raises(SystemExit) as stop:
        run(lambda: resolve(*arguments))
    shown = capsys.readouterr().err
    assert stop.value.code == 2
    assert shown.startswith(f"error: {named}") and shown.endswith("see --help.\n")
    assert shown.count("\n") == 1


def test_processes_that_build_input_start_without_jax():
    """They import the script that started them, under another name."""
    path = pathlib.Path(__file__).parents[1] / "experiments" / "train.py"
    load = f"import runpy, sys; runpy.run_path({str(path)!r}, run_name='__mp_main__')"
    check = "assert not {'jax', 'flax', 'matplotlib'} & sys.modules.keys(), 'slow start'"
    environment = os.environ | {"PYTHONPATH": str(path.parent)}
    subprocess.run([sys.executable, "-c", f"{load}; {check}"], check=True, env=environment)


def failing(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("scene0000: 3 points\nbut 4 labels."), "scene0000: 3 points but 4 labels."),
        (FileNotFoundError(2, "No such file or directory", "a.ply"), "a.ply: No such file"),
        (FileNotFoundError("a.npy: missing; prepare again."), "a.npy: missing; prepare again."),
    ],
)
def test_an_error_a_user_can_mend_is_one_line(error, line, capsys):
    with pytest.raises(SystemExit) as stop:
        run(failing(error))
    shown = capsys.readouterr().err
    assert stop.value.code == 2
    assert shown.startswith(f"error: {line}")
    assert shown.count("\n") == 1


def test_an_error_in_the_code_keeps_its_traceback():
    with pytest.raises(KeyError):
        run(failing(KeyError("bug")))


@pytest.mark.parametrize(("continues", "how"), [(True, "continues where"), (False, "starts again")])
def test_an_interrupt_ends_without_a_traceback(continues, how, capsys):
    with pytest.raises(SystemExit) as stop:
        run(failing(KeyboardInterrupt()), continues=continues)
    assert stop.value.code == 130
    assert f"the same command {how}" in capsys.readouterr().err
