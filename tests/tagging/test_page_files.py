"""The files of the page: all there, named where they are needed, and nothing from elsewhere."""

import json
import pathlib
import re

import pytest

PAGE = pathlib.Path(__file__).parents[2] / "mprm_jax" / "tagging" / "page"
OTHERS = {"three.module.js", "three.core.js", "OrbitControls.js"}  # as they come with three.js
MODULES = json.loads((PAGE / "modules.json").read_text(encoding="utf-8"))
OWN = sorted(path for path in PAGE.glob("*.*") if path.name not in OTHERS)


def imported(name):
    text = (PAGE / name).read_text(encoding="utf-8")
    return re.findall(r'from "\./([\w.]+)"', text)


def test_every_module_is_listed_after_those_it_imports():
    for place, name in enumerate(MODULES):
        assert set(imported(name)) <= set(MODULES[:place]), name
    scripts = {path.name for path in PAGE.glob("*.js")}
    assert scripts == set(MODULES) | OTHERS


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_lines_are_short_and_nothing_is_asked_of_the_network(path):
    text = path.read_text(encoding="utf-8")
    assert "://" not in text
    if path.suffix != ".txt":
        assert max(map(len, text.splitlines())) <= 100


def test_three_js_has_its_license_beside_it():
    assert "MIT" in (PAGE / "three-LICENSE.txt").read_text(encoding="utf-8")
    assert 'REVISION = "187"' in (PAGE / "three.core.js").read_text(encoding="utf-8").replace(
        "'", '"'
    )
