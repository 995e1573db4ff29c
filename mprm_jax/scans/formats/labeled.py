"""Writes clouds with a label and a confidence for each point: `write_labeled(path, labeled)`.

Coordinates, colors and normals come out as they were read, in the order they were read. Every
format has a `label` (class index, -1 for none) and a `confidence` in [0, 1] (0 for none), and
beside the file lies the legend `<name>.classes.csv`.

    .ply          binary; x y z, red green blue, nx ny nz, label, confidence, the faces of a mesh
    .las .laz     1.4; extra dimensions `NormalX` to `NormalZ`, `label` and `confidence`
    .npz          coord, color, normal, label, confidence, faces, classes
    .npy          records with the fields of the PLY file

In LAS and LAZ, the classification that viewers color by is 64 + label: LAS leaves the codes from 64
to its users, below are ground, vegetation and the like. Points without a label are 1,
"unclassified".

A LAS scan keeps its integer coordinates, scale and offset, so that positions are the same to the
last bit. Its point format becomes one of 1.4, since the older ones have no code above 31.
"""

import contextlib
import copy
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import laspy
import lazrs
import numpy as np
from laspy.vlrs.vlrlist import VLRList

from mprm_jax.errors import UserError
from mprm_jax.palette import label_bytes, write_legend
from mprm_jax.scans.formats.cloud import CloudFile
from mprm_jax.scans.formats.las import open_las
from mprm_jax.scans.formats.ply import ply_header, triangle_records
from mprm_jax.types import IGNORED, Array
from mprm_jax.writing import whole_file

FIRST_CODE = 64  # Source: LAS 1.4 R15, table of classes for point formats 6 to 10
UNCLASSIFIED = 1
NUM_CODES = 256 - FIRST_CODE
# The point format of 1.4 that holds what an older one does.
MODERN_FORMATS = {0: 6, 1: 6, 2: 7, 3: 7, 4: 9, 5: 10}
DEGREES_PER_ANGLE = 0.006  # unit of scan_angle since 1.4; before, scan_angle_rank was in degrees
MAX_NAME = 15  # bytes of a name in the table of classes
COPC_USER = "copc"
NORMALS = ("NormalX", "NormalY", "NormalZ")  # as PDAL and CloudCompare name them
FINEST_SCALE = -6  # power of ten, units of the file: far below what a scanner resolves
LAS_SUFFIXES = (".las", ".laz")
LEGEND_SUFFIX = ".classes.csv"
CHUNK = 1 << 19  # points or faces that are put together in memory before they are written


class LabeledCloud(NamedTuple):
    """Points as they were read, and their labels; labels that the cloud came with are left out."""

    cloud: CloudFile  # N points
    labels: Array  # [N] integer class index, IGNORED (-1) for none
    confidence: Array  # [N] float in [0, 1]; 0 where there is no label
    classes: tuple[str, ...]  # names in index order


def color_by_class(labeled: LabeledCloud) -> LabeledCloud:
    """The same cloud with the colors of its legend in place of those of the scan."""
    colors = label_bytes(labeled.labels, len(labeled.classes))
    return labeled._replace(cloud=labeled.cloud._replace(colors=colors))


def check_labeled(path: Path, labeled: LabeledCloud) -> None:
    """Raises `ValueError` if labels do not fit the cloud or the classes; `path` is named in it."""
    num_points = len(labeled.cloud.coords)
    for what, values in (("labels", labeled.labels), ("confidences", labeled.confidence)):
        if values.shape != (num_points,):
            raise UserError(
                f"{path}: {what} of shape {list(values.shape)} for {num_points} points; "
                "give one for each point of the file."
            )
    wrong = (labeled.labels < IGNORED) | (labeled.labels >= len(labeled.classes))
    if labeled.labels.dtype.kind not in "iu" or wrong.any():
        found = labeled.labels[wrong][0] if wrong.any() else labeled.labels.dtype
        raise UserError(
            f"{path}: label {found} is no index of {len(labeled.classes)} classes; "
            f"give integers, and {IGNORED} for none."
        )
    within = (labeled.confidence >= 0) & (labeled.confidence <= 1)
    if not within.all():
        raise UserError(
            f"{path}: confidence {labeled.confidence[~within][0]} is not in [0, 1]; "
            "give probabilities."
        )


def check_labeled_las(path: Path, labeled: LabeledCloud, source: Path | None) -> None:
    """Raises `ValueError`, with the name of `path`, if LAS cannot hold the cloud.

    Args:
      source: the LAS file whose points are copied, if there is one.
    """
    if len(labeled.classes) > NUM_CODES:
        raise UserError(
            f"{path}: {len(labeled.classes)} classes, LAS has codes for {NUM_CODES}; "
            "write .ply or .npz."
        )
    if not np.isfinite(labeled.cloud.coords).all():
        raise UserError(
            f"{path}: a point has no finite position, which LAS cannot hold; write .ply or .npz."
        )
    if source is not None:
        with open_las(source) as reader:
            num_points = reader.header.point_count
        if num_points != len(labeled.labels):
            raise UserError(
                f"{source}: {num_points} points, but {len(labeled.labels)} labels for {path}; "
                "predict this file again."
            )


def write_labeled_las(file: BinaryIO, labeled: LabeledCloud, *, compress: bool) -> None:
    """Writes points of another format, to a millionth of their unit or as fine as 32 bits go.

    Raises:
      OSError: the file cannot be written.
    """
    coords, colors = labeled.cloud.coords, labeled.cloud.colors
    header = laspy.LasHeader(version="1.4", point_format=6 if colors is None else 7)
    low, high = coords.min(axis=0), coords.max(axis=0)
    header.offsets = np.floor(low)
    header.scales = np.full(3, _scale(float(np.max(high - np.floor(low)))))
    if labeled.cloud.normals is not None:
        header.add_extra_dims([laspy.ExtraBytesParams(name, np.float32) for name in NORMALS])
    _add_labels(header, labeled.classes)
    _write(file, header, _made_points(labeled, header), None, compress)


def copy_labeled_las(
    file: BinaryIO, labeled: LabeledCloud, source: Path, *, compress: bool
) -> None:
    """Writes the points of a LAS or LAZ file with all that it knows of them, and the labels.

    Raises:
      OSError: the file cannot be written.
      ValueError: the source cannot be read any more.
    """
    with open_las(source) as reader:
        header = _modern_header(reader.header)
        _add_labels(header, labeled.classes)
        points = _copied_points(reader, labeled, header)
        _write(file, header, points, _kept_records(reader.evlrs), compress)


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


def _write(
    file: BinaryIO,
    header: laspy.LasHeader,
    chunks: Iterable[laspy.PackedPointRecord],
    long_records: VLRList | None,
    compress: bool,
) -> None:
    with _explain_encoder():
        # Bytes of the header that are no text are copied as they are.
        writer = laspy.open(
            file,
            mode="w",
            header=header,
            do_compress=compress,
            closefd=False,
            encoding_errors="ignore",
        )
    for points in chunks:
        with _explain_encoder():
            writer.write_points(points)
    with _explain_encoder():
        if long_records is not None:
            writer.write_evlrs(long_records)
        writer.close()


@contextlib.contextmanager
def _explain_encoder() -> Iterator[None]:
    """The encoder of LAZ says "IoError" of a full disk, in an error of its own."""
    try:
        yield
    except lazrs.LazrsError as error:
        raise OSError(f"the LAZ encoder stopped, {error}") from error


def _made_points(
    labeled: LabeledCloud, header: laspy.LasHeader
) -> Iterator[laspy.PackedPointRecord]:
    coords, colors, normals = labeled.cloud.coords, labeled.cloud.colors, labeled.cloud.normals
    for start in range(0, len(coords), CHUNK):
        rows = slice(start, start + CHUNK)
        points = laspy.ScaleAwarePointRecord.zeros(len(coords[rows]), header=header)
        points.x, points.y, points.z = coords[rows].T
        if colors is not None:
            # 255 becomes 65535, and the high byte is the color as it was.
            points.red, points.green, points.blue = colors[rows].T.astype(np.uint16) * 257
        if normals is not None:
            for axis, name in enumerate(NORMALS):
                points[name] = normals[rows, axis]
        _set_labels(points, labeled.labels[rows], labeled.confidence[rows])
        yield points


def _copied_points(
    reader: laspy.LasReader, labeled: LabeledCloud, header: laspy.LasHeader
) -> Iterator[laspy.PackedPointRecord]:
    start = 0
    for old in reader.chunk_iterator(CHUNK):
        rows = slice(start, start + len(old))
        points = laspy.PackedPointRecord.zeros(len(old), header.point_format)
        _copy_dimensions(old, points)
        _set_labels(points, labeled.labels[rows], labeled.confidence[rows])
        yield points
        start += len(old)


def _scale(extent: float) -> float:
    """The finest power of ten at which an extent fits into 31 bits."""
    steps = np.iinfo(np.int32).max
    return 10.0 ** max(FINEST_SCALE, math.ceil(math.log10(max(extent, 1.0) / steps)))


def _modern_header(old: laspy.LasHeader) -> laspy.LasHeader:
    """The header for 1.4, without labels of an earlier prediction."""
    header = copy.deepcopy(old)
    number = old.point_format.id
    point_format = laspy.PointFormat(MODERN_FORMATS.get(number, number))
    point_format.dimensions.extend(old.point_format.extra_dimensions)
    version = max(str(old.version), "1.4")
    header.set_version_and_point_format(laspy.header.Version.from_str(version), point_format)
    names = [name for name in ("label", "confidence") if name in point_format.dimension_names]
    header.remove_extra_dims(names)
    header.vlrs.extract("ClassificationLookupVlr")
    header.vlrs = _kept_records(header.vlrs)
    return header


def _kept_records(records: VLRList | None) -> VLRList:
    """Leaves out what a COPC file says of the places of its points, which are others now.

    Names beyond ASCII lose the letters that laspy does not write.
    """
    kept = VLRList()
    for record in records or ():
        user, text = record.user_id, record.description
        if isinstance(text, bytes) or not user.isascii():
            user = user.encode("ascii", "ignore").decode()
            text = text.decode("ascii", "ignore") if isinstance(text, bytes) else text
            record = laspy.VLR(user, record.record_id, text, record.record_data_bytes())
        if record.user_id != COPC_USER:
            kept.append(record)
    return kept


def _add_labels(header: laspy.LasHeader, classes: tuple[str, ...]) -> None:
    """Declares the extra dimensions and names the classification codes in the file."""
    label = laspy.ExtraBytesParams("label", np.int16, "class index, -1 for none")
    confidence = laspy.ExtraBytesParams("confidence", np.float32, "0 to 1")
    header.add_extra_dims([label, confidence])
    lookup = laspy.vlrs.known.ClassificationLookupVlr()
    for index, name in enumerate(classes):
        lookup[FIRST_CODE + index] = name.encode("ascii", "replace")[:MAX_NAME].decode()
    header.vlrs.append(lookup)


def _copy_dimensions(old: laspy.PackedPointRecord, points: laspy.PackedPointRecord) -> None:
    """Copies what both point formats know, and the scan angle in its new unit."""
    names = set(old.point_format.dimension_names)
    for name in points.point_format.dimension_names:
        if name in names - {"label", "confidence", "classification"}:
            points[name] = np.array(old[name])
    if "scan_angle_rank" in names:
        points["scan_angle"] = np.round(old["scan_angle_rank"] / DEGREES_PER_ANGLE)


def _set_labels(points: laspy.PackedPointRecord, labels: Array, confidence: Array) -> None:
    labels = labels.astype(np.int16)
    points["label"] = labels
    points["confidence"] = confidence
    points["classification"] = np.where(labels >= 0, FIRST_CODE + labels, UNCLASSIFIED)


def _suffix(source: str | Path | None) -> str:
    return "" if source is None else Path(source).suffix.lower()


def _write_las(file: BinaryIO, labeled: LabeledCloud) -> None:
    write_labeled_las(file, labeled, compress=False)


def _write_laz(file: BinaryIO, labeled: LabeledCloud) -> None:
    write_labeled_las(file, labeled, compress=True)


def _write_ply(file: BinaryIO, labeled: LabeledCloud) -> None:
    """Writes header, points and faces, some at a time."""
    faces, dtype = labeled.cloud.faces, _record_type(labeled)
    num_faces = None if faces is None else len(faces)
    file.write(ply_header(dtype, len(labeled.labels), num_faces))
    _write_records(file, labeled, dtype)
    for rows in _chunks(num_faces or 0):
        file.write(triangle_records(faces[rows]).tobytes())


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
    arrays |= {} if cloud.normals is None else {"normal": cloud.normals}
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
        if cloud.normals is not None:
            for axis, name in enumerate(("nx", "ny", "nz")):
                records[name] = cloud.normals[rows, axis]
        records["label"] = labeled.labels[rows]
        records["confidence"] = labeled.confidence[rows]
        file.write(records.tobytes())


def _record_type(labeled: LabeledCloud) -> np.dtype:
    fields = [(name, _coord_type(labeled.cloud.coords)) for name in "xyz"]
    if labeled.cloud.colors is not None:
        fields += [(name, "u1") for name in ("red", "green", "blue")]
    if labeled.cloud.normals is not None:
        fields += [(name, "<f4") for name in ("nx", "ny", "nz")]
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
