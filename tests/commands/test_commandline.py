"""What all scripts share: which preset applies, the list of settings, errors in one line."""

import errno
import os
import pathlib
import re
import subprocess
import sys

import jax
import pytest

from mprm_jax.commands.commandline import make_parser, resolve_config, run
from mprm_jax.commands.main import COMMANDS, main
from mprm_jax.errors import MissingError, UserError
from mprm_jax.overrides import setting_names

EXPERIMENTS = pathlib.Path(__file__).parents[2] / "experiments"

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
        (("--data", "s3dis:/scans"), "paper"),
        (("--data", "pointcept:/scans"), "paper"),
        (("--data", "folder:/scans"), "quick"),
        (("--data", "folder:/scans", "--preset", "quick"), "quick"),
        (("--data", "folder:/scans", "--preset", "paper"), "paper"),
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


def test_help_on_a_section_lists_its_settings_only(capsys):
    with pytest.raises(SystemExit):
        resolve("--set", "help", "seg")
    listed = capsys.readouterr().out
    assert "  seg.radius=" in listed and "  optim.epochs=" not in listed


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
    path = EXPERIMENTS / "train.py"
    load = f"import runpy, sys; runpy.run_path({str(path)!r}, run_name='__mp_main__')"
    check = "assert not {'jax', 'flax', 'matplotlib'} & sys.modules.keys(), 'slow start'"
    subprocess.run([sys.executable, "-c", f"{load}; {check}"], check=True)


def test_every_command_has_a_script():
    scripts = [path.read_text(encoding="utf-8") for path in EXPERIMENTS.glob("*.py")]
    assert sorted(re.findall(r'main\("(.*)"\)', "".join(scripts))) == sorted(COMMANDS)


def test_without_a_command_the_list_of_them_is_shown(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["mprm"])
    main()
    shown = capsys.readouterr().out
    assert all(f"  {name}" in shown for name in COMMANDS)


def test_an_unknown_command_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["mprm", "trian"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"error: mprm trian: choose {', '.join(COMMANDS)}.\n"


def failing(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("scene0000: 3 points\nbut 4 labels."), "scene0000: 3 points but 4 labels."),
        (FileNotFoundError(2, "No such file or directory", "a.ply"), "a.ply: No such file"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device; mend that"),
        (MemoryError("Unable to allocate 9 TiB"), "not enough memory (Unable to allocate 9 TiB)"),
        (
            jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."),
            "the memory of the device is too small (RESOURCE_EXHAUSTED: Out of memory",
        ),
        (MissingError("a.npy: missing; prepare again."), "a.npy: missing; prepare again."),
    ],
)
def test_an_error_a_user_can_mend_is_one_line(error, line, capsys):
    with pytest.raises(SystemExit) as stop:
        run(failing(error))
    shown = capsys.readouterr().err
    assert stop.value.code == 2
    assert shown.startswith(f"error: {line}")
    assert shown.count("\n") == 1


def test_a_device_without_memory_names_the_settings_that_help(capsys):
    with pytest.raises(SystemExit):
        run(failing(jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory.")))
    shown = capsys.readouterr().err
    assert "pyramid.bucket_points" in shown and "pyramid.memory_gb" in shown


@pytest.mark.parametrize(
    "error",
    [
        KeyError("bug"),
        ValueError("operands could not be broadcast together"),
        OSError("of a library"),
        jax.errors.JaxRuntimeError("INTERNAL: bug"),
    ],
)
def test_an_error_in_the_code_keeps_its_traceback(error):
    with pytest.raises(type(error)) as shown:
        run(failing(error))
    assert shown.value is error


@pytest.mark.parametrize("flag", ["--traceback", "--trace"])
def test_the_traceback_of_every_error_can_be_seen(flag, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["script.py", "--devices", "4", flag])
    with pytest.raises(SystemExit) as stop:
        run(failing(UserError("scene0000: 3 points but 4 labels.")))
    shown = capsys.readouterr().err
    assert stop.value.code == 2
    assert shown.startswith("Traceback") and "in failing" in shown.replace("main", "failing")
    assert shown.endswith("error: scene0000: 3 points but 4 labels.\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_the_flag_for_tracebacks(name, monkeypatch, capsys):
    more = ["stats"] if name == "weak-labels" else []
    monkeypatch.setattr(sys, "argv", ["mprm", name, *more, "--help"])
    with pytest.raises(SystemExit):
        main()
    assert "--traceback" in capsys.readouterr().out


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_name_can_be_printed_on_any_stream(encoding):
    named = "print('b\\u00fcro \\u6d4b \\udcff')"
    code = f"from mprm_jax.commands.commandline import run; run(lambda: {named})"
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    shown = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=True
    )
    assert shown.stdout.endswith(rb"\udcff" + os.linesep.encode()) and not shown.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has this device")
def test_a_full_disk_under_the_output_is_one_line():
    code = "from mprm_jax.commands.commandline import run; run(lambda: print('a report'))"
    with open("/dev/full", "w") as full:
        pipes = {"stdout": full, "stderr": subprocess.PIPE, "text": True}
        shown = subprocess.run([sys.executable, "-c", code], **pipes)
    assert shown.returncode and shown.stderr.startswith("error: No space left on device; mend")
    assert shown.stderr.count("\n") == 1


@pytest.mark.parametrize("backend", ["module://of.a.notebook", "tkagg", "no backend"])
def test_pictures_are_drawn_whatever_backend_is_inherited(backend, tmp_path):
    script = EXPERIMENTS / "render_rooms.py"
    flags = ["--size", "tiny", "--scenes", "0", "--pixels", "40", "--out", tmp_path]
    environment = os.environ | {"MPLBACKEND": backend}
    subprocess.run([sys.executable, script, *flags], check=True, env=environment)
    assert (tmp_path / "room0000.png").stat().st_size


@pytest.mark.parametrize(("continues", "how"), [(True, "continues where"), (False, "starts again")])
def test_an_interrupt_ends_without_a_traceback(continues, how, capsys):
    with pytest.raises(SystemExit) as stop:
        run(failing(KeyboardInterrupt()), continues=continues)
    assert stop.value.code == 130
    assert f"the same command {how}" in capsys.readouterr().err
