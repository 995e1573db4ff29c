"""Submissions to the ScanNet benchmark's 3D semantic label task: written whole, and checked.

A ZIP archive with one file `<scene>.txt` per test scan at its root. Each line is the NYU40 id of
one mesh vertex, in the order of the mesh.
"""

import pathlib
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from mprm_jax.errors import MissingError, UserError
from mprm_jax.scans.scannet import CLASSES, NYU40_IDS, official_split
from mprm_jax.store.scenes import SceneStore
from mprm_jax.types import IGNORED, Array
from mprm_jax.writing import whole_file

SUFFIX = ".txt"
SPLIT = "test"
_LINES = tuple(f"{nyu40}\n" for nyu40 in NYU40_IDS)
_EPOCH = (1980, 1, 1, 0, 0, 0)  # ZIP's first date: equal labels give equal bytes


def vertex_counts(store: SceneStore, scenes: Sequence[str] | None = None) -> dict[str, int]:
    """Mesh vertices of each scan that a submission must cover, by name.

    Args:
      store: has the scans in its split "test".
      scenes: the expected scans; the benchmark's own 100 if not given.

    Raises:
      ValueError: the store has other classes, lacks scans or has more of them.
    """
    if tuple(store.classes) != CLASSES:
        raise UserError(
            f"{store.path}: not of ScanNet's 20 classes; the benchmark takes no others."
        )
    expected = official_split(SPLIT) if scenes is None else scenes
    found = store.scenes(SPLIT) if SPLIT in store.splits else ()
    _check_names(str(store.path), found, expected, "prepare all scans of the test list again.")
    return {scene: store.info(SPLIT, scene).points for scene in expected}


def write_submission(
    path: pathlib.Path, labels: Mapping[str, Array], num_vertices: Mapping[str, int]
) -> None:
    """Writes the archive; everything is checked before the first byte.

    Args:
      path: of the archive to write.
      labels: scene -> [N] class indices 0..19 in the order of `data.scannet.CLASSES`, one per
        vertex.
      num_vertices: scene -> vertices of its mesh, see `vertex_counts`.

    Raises:
      ValueError: scenes are missing or too many, or labels are too few, too many or no classes.
      OSError: the archive cannot be written.
    """
    _check_names(str(path), labels, num_vertices, "predict exactly the scans of the test split.")
    for scene, expected in num_vertices.items():
        _check_labels(f"{path}: {scene}", labels[scene], expected)
    with whole_file(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        for scene in sorted(num_vertices):
            entry = zipfile.ZipInfo(scene + SUFFIX, _EPOCH)
            text = "".join([_LINES[label] for label in labels[scene].tolist()])
            archive.writestr(entry, text, zipfile.ZIP_DEFLATED)


def check_submission(path: pathlib.Path, num_vertices: Mapping[str, int]) -> None:
    """Checks an archive that is already written.

    Args:
      path: of the archive.
      num_vertices: scene -> vertices of its mesh, see `vertex_counts`.

    Raises:
      OSError: there is no such file.
      ValueError: not a whole archive, other files than expected, or a file with another number of
        lines than vertices or a line that is no NYU40 id of the 20 classes.
    """
    if not path.is_file():
        raise MissingError(f"{path}: no such file; write the submission first.")
    try:
        with zipfile.ZipFile(path) as archive:
            expected = [scene + SUFFIX for scene in num_vertices]
            remedy = "zip the text files of the test split alone, without a folder around them."
            _check_names(str(path), archive.namelist(), expected, remedy)
            for scene, vertices in num_vertices.items():
                name = scene + SUFFIX
                _check_text(f"{path}: {name}", archive.read(name), vertices)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:  # the last: encrypted
        raise UserError(f"{path}: not a readable ZIP archive ({error}); write it again.") from None


def _check_names(where: str, found: Iterable[str], expected: Iterable[str], remedy: str) -> None:
    """Raises unless each expected name is there once and nothing else is."""
    found, expected = list(found), list(expected)
    missing = [name for name in expected if name not in set(found)]
    extra = [name for name in found if name not in set(expected)]
    twice = [name for name in dict.fromkeys(found) if found.count(name) > 1]
    for names, what in ((extra, "unexpected"), (missing, "missing"), (twice, "there twice")):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise UserError(f"{where}: {names[0]}{more} {what}; {remedy}")


def _check_labels(where: str, labels: Array, num_vertices: int) -> None:
    """Raises unless there is one class index for each vertex."""
    if labels.shape != (num_vertices,):
        raise UserError(
            f"{where}: labels of shape {list(labels.shape)} for {num_vertices} mesh vertices; "
            "spread the prediction to the vertices of this scan."
        )
    num_unlabeled = int(np.sum(labels == IGNORED))
    if num_unlabeled:
        raise UserError(
            f"{where}: {num_unlabeled} of {num_vertices} vertices have no label; "
            "predict all of them, the benchmark counts each."
        )
    wrong = (labels < 0) | (labels >= len(CLASSES))
    if labels.dtype.kind not in "iu" or wrong.any():
        found = labels[wrong][0] if wrong.any() else labels.dtype
        raise UserError(
            f"{where}: {found} is no class index; give integers 0..{len(CLASSES) - 1} in the "
            "order of ScanNet's classes, not NYU40 ids."
        )


def _check_text(where: str, data: bytes, num_vertices: int) -> None:
    """Raises unless the text is one allowed id a line, one line a vertex."""
    lines = data.decode("ascii", errors="replace").splitlines()
    wrong = {line for line in set(lines) if not _is_allowed(line)}
    if wrong:
        number, line = next((i, line) for i, line in enumerate(lines, start=1) if line in wrong)
        raise UserError(
            f"{where}: line {number} is {line[:20]!r}; write one NYU40 id of the 20 classes, such "
            f"as {NYU40_IDS[0]} or {NYU40_IDS[-1]}, a line."
        )
    if len(lines) != num_vertices:
        raise UserError(
            f"{where}: {len(lines)} lines for {num_vertices} mesh vertices; write one line for "
            "each vertex of the scan's _vh_clean_2.ply, in its order."
        )


def _is_allowed(line: str) -> bool:
    return line.strip().isdigit() and int(line) in NYU40_IDS
