"""Writes clouds with a label and a confidence for each point: `write_labeled(path, labeled)`.

Coordinates and colors come out as they were read, in the order they were read. Every format has a
`label` (class index, -1 for none) and a `confidence` in [0, 1] (0 for none), and beside the file
lies the legend `<name>.classes.csv`.

    .ply          binary; x y z, red green blue, label, confidence, and the faces of a mesh
    .las .laz     1.4; see mprm_jax/scans/formats/labeled_las.py
    .npz          coord, color, label, confidence, faces, classes
    .npy          records with the fields of the PLY file
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mprm_jax.errors import UserError
from mprm_jax.palette import write_legend
from mprm_jax.scans.formats.labeled_cloud import LabeledCloud, check_labeled
from mprm_jax.scans.formats.labeled_las import (
    check_labeled_las,
    copy_labeled_las,
    write_labeled_las,
)
from mprm_jax.types import Array
from mprm_jax.writing import whole_file

LAS_SUFFIXES = (".las", ".laz")
LEGEND_SUFFIX = ".classes.csv"
CHUNK = 1 << 19  # points or faces that are put together in memory before they are written
PLY_TYPES = {"<f8": "double", "<f4": "float", "|u1": "uchar", "<i4": "int"}
TRIANGLE = np.dtype([("count", "u1"), ("vertex_indices", "<i4", (3,))])


def write_labeled(
    path: str | Path, labeled: LabeledCloud, source: str | Path | None = None
) -> None:
    """Writes a labeled cloud and its legend, whole or not at all; the suffix tells the format.

    Args:
      path: of the file to write.
      source: the file the cloud was read from. If both are LAS or LAZ, everything else that it
        knows of its points (intensity, time, 16-bit colors, ...) is copied too; leave it out to
        write the colors of `color_by_class`.

    Raises:
      ValueError: the format cannot be written, labels do not fit, or the scan itself would be
        overwritten.
      OSError: a file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in WRITERS:
        raise UserError(
            f"{path}: labels cannot be written as {suffix or '(no suffix)'!r}; "
            f"choose one of {' '.join(WRITERS)}."
        )
    if source is not None and path.exists() and path.samefile(source):
        raise UserError(f"{path}: is the scan itself; write to another place.")
    check_labeled(path, labeled)
    las_source = Path(source) if {suffix, _suffix(source)} <= set(LAS_SUFFIXES) else None
    if suffix in LAS_SUFFIXES:
        check_labeled_las(path, labeled, las_source)
    with whole_file(path) as partial:
        with partial.open("wb") as file:
            if las_source is not None:
                copy_labeled_las(file, labeled, las_source, compress=suffix == ".laz")
            else:
                WRITERS[suffix](file, labeled)
        write_legend(legend_path(path), labeled.classes)


def legend_path(path: Path) -> Path:
    """`office.laz` -> `office.classes.csv`."""
    return path.with_suffix(LEGEND_SUFFIX)


def _suffix(source: str | Path | None) -> str:
    return "" if source is None else Path(source).suffix.lower()


def _write_las(file: BinaryIO, labeled: LabeledCloud) -> None:
    write_labeled_las(file, labeled, compress=False)


def _write_laz(file: BinaryIO, labeled: LabeledCloud) -> None:
    write_labeled_las(file, labeled, compress=True)


def _write_ply(file: BinaryIO, labeled: LabeledCloud) -> None:
    """Writes the header and the bytes; plyfile would loop over the faces in Python."""
    faces, dtype = labeled.cloud.faces, _record_type(labeled)
    lines = ["ply", "format binary_little_endian 1.0"]
    lines.append(f"element vertex {len(labeled.labels)}")
    lines += [f"property {PLY_TYPES[dtype[name].str]} {name}" for name in dtype.names]
    if faces is not None:
        lines.append(f"element face {len(faces)}")
        lines.append("property list uchar int vertex_indices")
    file.write("\n".join([*lines, "end_header", ""]).encode("ascii"))
    _write_records(file, labeled, dtype)
    for rows in _chunks(0 if faces is None else len(faces)):
        triangles = np.empty(len(faces[rows]), TRIANGLE)
        triangles["count"], triangles["vertex_indices"] = 3, faces[rows]
        file.write(triangles.tobytes())


def _write_npy(file: BinaryIO, labeled: LabeledCloud) -> None:
    dtype = _record_type(labeled)
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False}
    np.lib.format.write_array_header_1_0(file, header | {"shape": (len(labeled.labels),)})
    _write_records(file, labeled, dtype)


def _write_npz(file: BinaryIO, labeled: LabeledCloud) -> None:
    cloud = labeled.cloud
    arrays = {
        "coord": cloud.coords.astype(_coord_type(cloud.coords)),
        "label": labeled.labels.astype(np.int32),
        "confidence": labeled.confidence.astype(np.float32),
        "classes": np.array(labeled.classes, np.str_),
    }
    arrays |= {} if cloud.colors is None else {"color": cloud.colors}
    arrays |= {} if cloud.faces is None else {"faces": cloud.faces}
    np.savez(file, **arrays)


def _write_records(file: BinaryIO, labeled: LabeledCloud, dtype: np.dtype) -> None:
    """Appends one record per point."""
    cloud = labeled.cloud
    for rows in _chunks(len(labeled.labels)):
        records = np.empty(len(labeled.labels[rows]), dtype)
        for axis, name in enumerate("xyz"):
            records[name] = cloud.coords[rows, axis]
        if cloud.colors is not None:
            for channel, name in enumerate(("red", "green", "blue")):
                records[name] = cloud.colors[rows, channel]
        records["label"] = labeled.labels[rows]
        records["confidence"] = labeled.confidence[rows]
        file.write(records.tobytes())


def _record_type(labeled: LabeledCloud) -> np.dtype:
    fields = [(name, _coord_type(labeled.cloud.coords)) for name in "xyz"]
    if labeled.cloud.colors is not None:
        fields += [(name, "u1") for name in ("red", "green", "blue")]
    return np.dtype([*fields, ("label", "<i4"), ("confidence", "<f4")])


def _coord_type(coords: Array) -> str:
    """float32 where it holds the coordinates exactly, as those of most meshes, else float64."""
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = coords.astype(np.float32)
    return "<f4" if np.array_equal(narrow, coords, equal_nan=True) else "<f8"


def _chunks(num_rows: int) -> Iterator[slice]:
    return (slice(start, start + CHUNK) for start in range(0, num_rows, CHUNK))


WRITERS = {
    ".ply": _write_ply,
    ".las": _write_las,
    ".laz": _write_laz,
    ".npz": _write_npz,
    ".npy": _write_npy,
}
