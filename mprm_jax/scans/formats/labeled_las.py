"""Labeled clouds as LAS or LAZ 1.4, with extra dimensions `label` and `confidence`.

The classification that viewers color by is 64 + label: LAS leaves the codes from 64 to its users,
below are ground, vegetation and the like. Points without a label are 1, "unclassified".

A LAS scan keeps its integer coordinates, scale and offset, so that positions are the same to the
last bit. Its point format becomes one of 1.4, since the older ones have no code above 31.
"""

import contextlib
import copy
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import laspy
import lazrs
import numpy as np
from laspy.vlrs.vlrlist import VLRList

from mprm_jax.errors import UserError
from mprm_jax.scans.formats.labeled_cloud import LabeledCloud
from mprm_jax.scans.formats.las_header import open_las
from mprm_jax.types import Array

FIRST_CODE = 64  # Source: LAS 1.4 R15, table of classes for point formats 6 to 10
UNCLASSIFIED = 1
NUM_CODES = 256 - FIRST_CODE
CHUNK = 1 << 19  # points in memory at a time
# The point format of 1.4 that holds what an older one does.
MODERN_FORMATS = {0: 6, 1: 6, 2: 7, 3: 7, 4: 9, 5: 10}
DEGREES_PER_ANGLE = 0.006  # unit of scan_angle since 1.4; before, scan_angle_rank was in degrees
MAX_NAME = 15  # bytes of a name in the table of classes
COPC_USER = "copc"
FINEST_SCALE = -6  # power of ten, units of the file: far below what a scanner resolves


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
            *(file, "w"),
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
    coords, colors = labeled.cloud.coords, labeled.cloud.colors
    for start in range(0, len(coords), CHUNK):
        rows = slice(start, start + CHUNK)
        points = laspy.ScaleAwarePointRecord.zeros(len(coords[rows]), header=header)
        points.x, points.y, points.z = coords[rows].T
        if colors is not None:
            # 255 becomes 65535, and the high byte is the color as it was.
            points.red, points.green, points.blue = colors[rows].T.astype(np.uint16) * 257
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
