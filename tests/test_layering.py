"""The package keeps its layers, and training cannot reach a point label."""

import ast
import functools
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / "mprm_jax"

# A module imports from its own folder and from the rows above its row only.
LAYERS = (
    ("errors",),
    ("types", "machine", "progress", "reading", "writing", "worker_processes"),
    ("palette", "one_writer", "provenance"),
    ("config", "overrides", "presets"),
    ("geometry",),
    ("ops",),
    ("crf", "models"),
    ("scans",),
    ("rooms",),
    ("evidence",),
    ("store",),
    ("batches",),
    ("clouds", "training", "evaluation"),
    ("labeling",),
    ("prediction",),
    ("tagging",),
    ("commands",),
    ("__main__",),
)
RANKS = {name: rank for rank, names in enumerate(LAYERS) for name in names}
SETTINGS = ("config", "overrides", "presets")  # may also import each other

# Workers start without jax.
ON_THE_HOST = (
    *("errors", "types", "machine", "progress", "reading", "writing", "worker_processes"),
    *("palette", "one_writer", "provenance"),
    *SETTINGS,
    *("geometry", "scans", "rooms", "evidence", "store", "batches"),
)
FORBIDDEN = {layer: {"jax", "jaxlib", "flax", "optax", "orbax"} for layer in ON_THE_HOST} | {
    "ops": {"flax"},
    "models": {"optax"},
}

FILES = sorted(PACKAGE.rglob("*.py"))


def module_name(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in FILES}


def layer_of(module):
    """`mprm_jax.batches.plan` -> batches; the package itself has none."""
    return ([*module.split("."), ""])[1]


@functools.cache
def imports(module):
    """Full names of all modules a module imports anywhere in its code."""
    names = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute here"
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {node.module} | (inside & MODULES.keys())
    return names


def own_imports(module):
    return imports(module) & MODULES.keys()


def reachable(module):
    """Modules of the package that are loaded with a module, by any way."""
    found, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            packages = {name.rsplit(".", level)[0] for level in range(1, name.count(".") + 1)}
            waiting += own_imports(name) | packages
    return found


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downwards(module):
    layer = layer_of(module)
    for name in own_imports(module):
        other = layer_of(name)
        below = RANKS.get(other, -1) < RANKS.get(layer, -1)
        beside = other == layer or (layer in SETTINGS and other in SETTINGS)
        assert below or beside, f"{module} imports {name}"


@pytest.mark.parametrize("module", MODULES)
def test_layers_import_no_library_above_them(module):
    libraries = {name.partition(".")[0] for name in imports(module)}
    assert not libraries & FORBIDDEN.get(layer_of(module), set())


@pytest.mark.parametrize("module", MODULES)
def test_every_file_says_its_idea_first(module):
    assert ast.get_docstring(ast.parse(MODULES[module].read_text(encoding="utf-8")))


def test_every_module_belongs_to_a_layer():
    assert {layer_of(module) for module in MODULES} - {""} <= RANKS.keys()


def test_only_checkpoints_and_hosts_import_orbax():
    users = {name for name in MODULES if any(x.startswith("orbax") for x in imports(name))}
    names = ("checkpoints", "hosts", "joining")
    assert users == {f"mprm_jax.training.{name}" for name in names}


@pytest.mark.parametrize("module", [name for name in MODULES if layer_of(name) == "training"])
def test_no_private_module_of_a_library_is_imported_to_train(module):
    parts = [part for name in imports(module) - MODULES.keys() for part in name.split(".")]
    assert not [part for part in parts if part.startswith("_") and part != "__future__"]


@pytest.mark.parametrize("module", [name for name in MODULES if layer_of(name) == "tagging"])
def test_tagging_needs_no_training_and_no_jax(module):
    found = reachable(module)
    assert not [name for name in found if layer_of(name) == "training"]
    assert not {x.partition(".")[0] for name in found for x in imports(name)} & {"jax", "flax"}


@pytest.mark.parametrize("module", [name for name in MODULES if layer_of(name) == "training"])
def test_training_cannot_reach_point_labels(module):
    assert "mprm_jax.store.truth" not in reachable(module)
