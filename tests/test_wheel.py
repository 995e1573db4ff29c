"""A wheel holds all that the command needs, away from the checkout.

It is built from a copy and installed into an environment of its own, which sees the libraries that
are installed here, and no checkout.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest
import runs

from mprm_jax.commands.main import COMMANDS

ROOT = pathlib.Path(__file__).parent.parent
PARTS = ("mprm_jax", "pyproject.toml", "README.md", "LICENSE")
SCRIPTS = "Scripts" if os.name == "nt" else "bin"
SUFFIX = ".exe" if os.name == "nt" else ""

pytestmark = pytest.mark.slow


def files_below(folder):
    """All files but compiled ones, relative to the checkout."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {x.relative_to(ROOT).as_posix() for x in found if x.parent.name != "__pycache__"}


def call(arguments, cwd):
    """Runs a program that knows nothing of the checkout; returns what it prints."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    result = subprocess.run(
        list(map(str, arguments)), cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built without a network."""
    place = tmp_path_factory.mktemp("build")
    for name in PARTS:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, place / name)
    here = [*("--no-deps", "--no-build-isolation", "--no-index", "--quiet"), "--wheel-dir", "dist"]
    call([sys.executable, "-m", "pip", "wheel", *here, "."], place)
    (built,) = (place / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folder of the programs of a new environment with the wheel in it."""
    place = tmp_path_factory.mktemp("installed")
    call([sys.executable, "-m", "venv", "--without-pip", place / "venv"], place)
    python = place / "venv" / SCRIPTS / f"python{SUFFIX}"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    call([*pip, "--no-deps", "--no-index", wheel], place)
    (site,) = (place / "venv").rglob("site-packages")
    # Folders named in a file of this kind are searched, but not for such files of their own, which
    # lead to checkouts.
    folders = [x for x in sys.path if pathlib.Path(x).name in ("site-packages", "dist-packages")]
    (site / "libraries.pth").write_text("\n".join(folders), encoding="utf-8")
    return python.parent


def test_building_takes_every_file_of_the_package(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == files_below(ROOT / "mprm_jax")


def test_the_package_is_that_of_the_wheel_and_reads_its_own_files(installed, tmp_path):
    code = """
import json, mprm_jax
from mprm_jax.commands.reproduction.tables import PAPER
from mprm_jax.scans.scannet import official_split
splits = {name: len(official_split(name)) for name in ("train", "val", "test")}
print(json.dumps([mprm_jax.__file__, splits, len(PAPER)]))
"""
    python = installed / f"python{SUFFIX}"
    file, splits, num_tables = json.loads(call([python, "-c", code], tmp_path))
    assert pathlib.Path(file).is_relative_to(installed.parent)
    assert splits == {"train": 1201, "val": 312, "test": 100} and num_tables


def test_every_command_explains_itself(installed, tmp_path):
    mprm = installed / f"mprm{SUFFIX}"
    listed = call([mprm, "--help"], tmp_path)
    for name in COMMANDS:
        assert name in listed and f"usage: mprm {name}" in call([mprm, name, "--help"], tmp_path)


def test_a_network_is_trained_in_an_empty_folder(installed, tmp_path):
    mprm = installed / f"mprm{SUFFIX}"
    settings = ["--set", *runs.SETTINGS, "optim.epochs=1", "model.paths=plain"]
    data = ["--data", "rooms:tiny", *settings]
    assert "scenes prepared" in call([mprm, "prepare", *data], tmp_path)
    assert "pseudo-labels" in call(
        [mprm, "train", "--stage", "cls", "--devices", "1", *data], tmp_path
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["prepared", "rooms", "runs"]
    (results,) = tmp_path.glob("runs/*/results.json")
    assert json.loads(results.read_text(encoding="utf-8"))["measures"]
