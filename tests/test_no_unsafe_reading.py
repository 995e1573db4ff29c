"""No file of somebody else can run code: none is unpickled, evaluated or imported."""

import ast
import io
import pathlib
import zipfile

import numpy as np
import pytest

from mprm_jax.commands.jobs import DURATIONS_FILE, durations
from mprm_jax.errors import UserError
from mprm_jax.scans.formats import read_cloud
from mprm_jax.store.exports import Export, load_scene
from mprm_jax.store.scenes import SceneStore, read_array, read_candidates, read_weak_labels
from mprm_jax.training.workdir import read_workdir

PACKAGE = pathlib.Path(__file__).parents[1] / "mprm_jax"
SOURCES = sorted(PACKAGE.rglob("*.py"))
UNSAFE_MODULES = {"pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "code", "runpy"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__", "execfile"}


def called(node):
    """`np.load` of a call, as words."""
    return ast.unparse(node.func)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_source_unpickles_or_evaluates(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert not {name.name.partition(".")[0] for name in node.names} & UNSAFE_MODULES
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] not in UNSAFE_MODULES
        if isinstance(node, ast.Call):
            assert called(node) not in UNSAFE_CALLS, ast.unparse(node)
            for flag in node.keywords:
                if flag.arg == "allow_pickle":
                    assert ast.literal_eval(flag.value) is False, ast.unparse(node)


class Payload:
    """Leaves a file where it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (pathlib.Path.touch, (self.trace,))


@pytest.fixture
def hostile(tmp_path):
    """An array and an archive of pickled objects, and the file that they would leave."""
    trace = tmp_path / "it ran"
    objects = np.array([Payload(trace)], object)
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    names = ("coord", "points", "scores", "allowed", "label", "centers", "num_classes", "certain")
    np.savez(tmp_path / "a.npz", **dict.fromkeys(names, objects))
    return tmp_path, trace


def test_the_payload_would_run(hostile):
    folder, trace = hostile
    np.load(folder / "a.npy", allow_pickle=True)
    assert trace.exists()


@pytest.mark.parametrize(
    ("read", "name"),
    [
        (read_cloud, "a.npy"),
        (read_cloud, "a.npz"),
        (read_array, "a.npy"),
        (read_weak_labels, "a.npz"),
        (read_candidates, "a.npz"),
        (load_scene, "a.npz"),
    ],
)
def test_pickled_objects_are_refused_in_one_line(hostile, read, name):
    folder, trace = hostile
    with pytest.raises(UserError) as error:
        read(folder / name)
    assert name in str(error.value) and "\n" not in str(error.value)
    assert not trace.exists()


def promising(path, count=10**13):
    """An archive whose arrays promise more than any memory holds."""
    header = io.BytesIO()
    about = {"descr": "<f8", "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(header, about)
    names = ("scores", "allowed", "label", "centers", "num_classes", "certain", "radii", "tags")
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(f"{name}.npy", header.getvalue() + b"1" * 64)
    return path


@pytest.mark.parametrize("read", [read_weak_labels, read_candidates, load_scene])
def test_arrays_that_promise_too_much_are_refused_in_one_line(tmp_path, read):
    with pytest.raises(UserError, match=r"a\.npz") as error:
        read(promising(tmp_path / "a.npz"))
    assert "\n" not in str(error.value)


HOSTILE_JSON = {
    "nested": "[" * 200_000,
    "long number": '{"format": ' + "9" * 10_000 + "}",
    "no object": "[1]",
    "not text": b"\xff\xfe\x00",
    "names that Python knows": '{"__class__": "os.system", "__reduce__": ["touch x"]}',
}


@pytest.mark.parametrize("content", HOSTILE_JSON.values(), ids=HOSTILE_JSON)
@pytest.mark.parametrize("name", ["config.json", "data.json"])
def test_hostile_settings_of_a_run_are_one_line(tmp_path, name, content):
    for file in ("config.json", "data.json"):
        (tmp_path / file).write_text("{}", encoding="utf-8")
    refuses(read_workdir, tmp_path, tmp_path / name, content)


@pytest.mark.parametrize("content", HOSTILE_JSON.values(), ids=HOSTILE_JSON)
def test_hostile_manifests_are_one_line(tmp_path, content):
    for name, read in (("export.json", Export), ("manifest.json", SceneStore)):
        refuses(read, tmp_path, tmp_path / name, content)


@pytest.mark.parametrize("content", HOSTILE_JSON.values(), ids=HOSTILE_JSON)
def test_hostile_durations_are_one_line(tmp_path, content):
    refuses(durations, tmp_path, tmp_path / DURATIONS_FILE, content)


def refuses(read, folder, path, content):
    """Asserts that what lies in a folder is refused in one line."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as error:
        read(folder)
    assert "\n" not in str(error.value)
