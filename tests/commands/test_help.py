"""Help comes at once: no command loads the large libraries before it has read its flags."""

import dataclasses
import json
import pathlib
import subprocess
import sys

from mprm_jax.commands.export import MINING_HELP
from mprm_jax.commands.main import COMMANDS
from mprm_jax.config import MiningConfig

ROOT = pathlib.Path(__file__).parents[2]
LARGE = ("jax", "scipy", "matplotlib", "flax", "orbax")
ASK = f"""
import contextlib, io, json, sys
from mprm_jax.commands.main import main
loaded, nowhere = {{}}, io.TextIOWrapper(io.BytesIO())
for name in {[*COMMANDS]}:
    sys.argv = ["mprm", name, "--help"]
    with contextlib.redirect_stdout(nowhere), contextlib.suppress(SystemExit):
        main()
    loaded[name] = [library for library in {LARGE} if library in sys.modules]
print(json.dumps(loaded))
"""


def test_no_command_loads_large_libraries_to_explain_itself():
    asked = [sys.executable, "-c", ASK]
    result = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(result.stdout) == {name: [] for name in COMMANDS}


def test_the_help_of_export_names_every_setting_of_mining_and_its_choices():
    for field in dataclasses.fields(MiningConfig):
        assert f"mining.{field.name}=" in MINING_HELP
        line = MINING_HELP[MINING_HELP.index(f"mining.{field.name}=") :].split()[0]
        if field.metadata["about"].choices and field.name != "paths":
            assert {*line.partition("=")[2].split("|")} == {*field.metadata["about"].choices}
