"""No private name of a library is used: neither imported nor reached as an attribute."""

import ast
import functools
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
FOLDERS = ("mprm_jax", "experiments", "benchmarks", "tests")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
OWN = {"mprm_jax"} | {path.stem for path in FILES} | {path.parent.name for path in FILES}
# Documented with an underscore: of named tuples, and of the standard library.
PUBLIC = {"_asdict", "_fields", "_make", "_replace", "_exit"}
# Importable by a plain name, but no surface of the library.
UNDOCUMENTED = {"tensorboardX": ("proto", "record_writer"), "jax": ("interpreters",)}


def is_private(name):
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


@functools.cache
def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_names(tree):
    """Full dotted names of all that a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def private_imports(tree):
    found = []
    for name in imported_names(tree):
        library, *parts = name.split(".")
        undocumented = parts[:1] and parts[0] in UNDOCUMENTED.get(library, ())
        if library not in OWN and (undocumented or any(map(is_private, [library, *parts]))):
            found.append(name)
    return found


def is_set_on_self(node):
    is_set = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    return is_set and isinstance(node.value, ast.Name) and node.value.id == "self"


def defined_names(tree):
    """Names that a module gives to something: functions, classes, variables, attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif is_set_on_self(node):
            yield node.attr


@functools.cache
def own_names():
    return {name for path in FILES for name in defined_names(tree_of(path))}


def private_attributes(tree, own):
    """Attributes with an underscore whose names nobody here defined."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    return [ast.unparse(x) for x in found if is_private(x.attr) and x.attr not in PUBLIC | own]


def test_only_public_names_of_libraries_are_used():
    found = {}
    for path in FILES:
        tree = tree_of(path)
        if names := private_imports(tree) + private_attributes(tree, own_names()):
            found[path.relative_to(ROOT).as_posix()] = names
    assert found == {}


@pytest.mark.parametrize(
    "line",
    [
        "import jax._src.core",
        "from jax._src import distributed",
        "from scipy.sparse import _sparsetools",
        "from tensorboardX import proto",
        "from tensorboardX.record_writer import RecordWriter",
        "import _thread",
        "step._cache_size()",
        "group: argparse._ArgumentGroup",
        "jax._src.core.trace_ctx",
    ],
)
def test_a_private_name_is_noticed(line):
    tree = ast.parse(line)
    assert private_imports(tree) + private_attributes(tree, {"_own"})


@pytest.mark.parametrize(
    "line",
    ["from __future__ import annotations", "self._own", "point._replace(x=1)", "kind.__name__"],
)
def test_a_public_or_own_name_is_not(line):
    tree = ast.parse(line)
    assert private_imports(tree) + private_attributes(tree, {"_own"}) == []
