"""Packaging: both ways to install ask for the same, and name a Python that fits."""

import pathlib
import tomllib

from mprm_jax.training.parallel import SLOW_ON_GPUS

ROOT = pathlib.Path(__file__).parent.parent
TABLES = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = TABLES["project"]


def requirement_lines():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_requirements_are_those_of_the_project_and_its_tests():
    expected = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
    assert requirement_lines() == [*expected, "-e ."]


def test_every_dependency_has_a_lower_and_an_upper_bound():
    extras = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    for line in PROJECT["dependencies"] + extras:
        assert ">=" in line and ",<" in line, line


def test_accelerator_extras_ask_for_the_same_jax():
    (jax,) = [line for line in PROJECT["dependencies"] if line.startswith("jax>")]
    low, high = jax.removeprefix("jax").split(",")
    on_gpus = ",".join([low, *(f"!={version}" for version in SLOW_ON_GPUS), high])
    extras = PROJECT["optional-dependencies"]
    assert extras["tpu"] == [f"jax[tpu]{low},{high}"]
    for name in ("cuda12", "cuda13"):
        assert extras[name] == [f"jax[{name}]{on_gpus}", f"jaxlib{on_gpus}"]
    assert extras["cuda"] == extras["cuda13"]


def test_what_builds_the_package_is_there_for_the_tests():
    dev = PROJECT["optional-dependencies"]["dev"]
    assert set(TABLES["build-system"]["requires"]) <= set(dev)


def test_python_is_new_enough_for_the_syntax_in_use():
    assert PROJECT["requires-python"] == ">=3.11"


def test_the_license_file_exists():
    assert all((ROOT / name).is_file() for name in PROJECT["license-files"])
