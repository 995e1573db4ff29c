"""LAS and LAZ scans, through laspy, opened only after their counts are held against the file.

The LAZ decoder comes with the lazrs wheel.

laspy and the LAZ decoder believe a header: they take memory for the points, records and chunks that
it promises, and the decoder ends the whole process when there is not enough.
"""

import contextlib
import itertools
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import laspy
import lazrs
import numpy as np

from mprm_jax.errors import UserError
from mprm_jax.scans.formats.cloud import (
    LABEL_NAMES,
    NORMAL_NAMES,
    NORMAL_VECTORS,
    CloudFile,
    check_unpacked_size,
    cloud_from_columns,
)
from mprm_jax.scans.formats.notes import MORE_POINTS

NEVER_CLASSIFIED = 0  # LAS 1.4 specification, table of classification values
COLORS = ("red", "green", "blue")
NORMALS = {*NORMAL_VECTORS, *itertools.chain(*NORMAL_NAMES)}
FIXED = struct.Struct("<4s20xBB68xHIIBHI")  # up to the legacy number of points, see `_check_header`
LONG = struct.Struct("<QIQ")  # since 1.4: start and number of long records, number of points
LONG_START = 235
HEADER_BYTES = {0: 227, 1: 227, 2: 227, 3: 235, 4: 375}  # by minor version
# A record: user, number, the bytes that follow, description.
RECORD = struct.Struct("<2x16xHH32x")
LONG_RECORD = struct.Struct("<2x16xHQ32x")
CHUNKS = struct.Struct("<II")  # version and number of chunks, before the table of chunks
OFFSET = struct.Struct("<q")  # of the table of chunks, before the points
CHUNK_SIZE = struct.Struct("<I")
CHUNK_SIZE_START = 12  # in the record of the compression
ERRORS = (
    *(laspy.LaspyException, lazrs.LazrsError),
    *(ValueError, EOFError, OverflowError, struct.error),
)


def read_las(path: Path) -> CloudFile:
    """Reads scaled coordinates, colors where the point format has them, labels and normals.

    Labels are an extra dimension of whole numbers with the name of a label, as in the files of
    `write_labeled`, else the classification. One that is 0 everywhere was never made and is left
    out. Normals are extra dimensions.

    Raises:
      ValueError: the file is truncated or not LAS/LAZ.
    """
    with open_las(path) as reader:
        num_points, is_more = reader.header.point_count, holds_more(path, reader.header)
        points = reader.read_points(-1)
        if len(points) != num_points:
            raise UserError(f"{len(points)} of {num_points} points")
        columns = {name: np.asarray(points[name]) for name in "xyz"}
        if set(COLORS) <= set(points.point_format.dimension_names):
            columns |= {name: np.asarray(points[name]) for name in COLORS}
        extra = list(points.point_format.extra_dimension_names)
        columns |= {name: np.asarray(points[name]) for name in extra if name.lower() in NORMALS}
        labels = {
            name: np.asarray(points[name])
            for name in extra
            if name.lower() in LABEL_NAMES and np.asarray(points[name]).dtype.kind in "iu"
        }
        classification = np.asarray(points["classification"])
    if not labels and np.any(classification != NEVER_CLASSIFIED):
        labels["classification"] = classification
    cloud = cloud_from_columns(path, (columns | labels).items())
    return cloud._replace(notes=(*cloud.notes, MORE_POINTS)) if is_more else cloud


@contextlib.contextmanager
def open_las(path: Path) -> Iterator[laspy.LasReader]:
    """A laspy reader whose header can be believed; also of 1.4 with one of its two counts.

    Raises:
      OSError: the file cannot be opened.
      ValueError: the file is no LAS or LAZ file, or a broken one, also where that is found later.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            num_points = _check_header(file, size)
            file.seek(0)
            # One decoder: laspy would log the error of each that it tries.
            backend = laspy.LazBackend.LazrsParallel
            with laspy.open(file, closefd=False, laz_backend=backend) as reader:
                reader.header.point_count = num_points
                _check_points(file, reader.header, size)
                file.seek(reader.header.offset_to_point_data)
                yield reader
    except ERRORS as error:
        raise UserError(
            f"{path}: not a readable LAS/LAZ file ({' '.join(str(error).split())}); "
            "copy or export it again."
        ) from error


def holds_more(path: Path, header: laspy.LasHeader) -> bool:
    """Whether a LAS file has room for more points than its header promises.

    Nothing is said of LAZ, and of files that keep wave forms behind their points.
    """
    if header.are_points_compressed or header.point_format.has_waveform_packet:
        return False
    end = path.stat().st_size
    if header.number_of_evlrs:
        end = min(end, header.start_of_first_evlr)
    promised = (header.point_count + 1) * header.point_format.size
    return end - header.offset_to_point_data >= promised


def _check_header(file: BinaryIO, size: int) -> int:
    """Raises `ValueError` where the header or its records cannot be true; returns the points."""
    head = file.read(HEADER_BYTES[4])
    if len(head) < FIXED.size or not head.startswith(b"LASF"):
        raise UserError("it does not begin as one")
    _, major, minor, header_size, start, num_records, _, point_size, num_points = FIXED.unpack_from(
        head
    )
    if major != 1 or minor not in HEADER_BYTES:
        raise UserError(f"version {major}.{minor} is not known")
    if not HEADER_BYTES[minor] <= header_size <= start <= size:
        raise UserError(f"its points begin at byte {start} of {size}")
    if not point_size:
        raise UserError("its points have 0 bytes")
    _check_records(file, RECORD, header_size, num_records, start)
    if minor == 4:
        long_start, num_long, long_points = LONG.unpack_from(head, LONG_START)
        num_points = long_points or num_points
        _check_records(file, LONG_RECORD, long_start, num_long, size)
    return num_points


def _check_records(
    file: BinaryIO, record: struct.Struct, start: int, num_records: int, end: int
) -> None:
    for number in range(num_records):
        if start + record.size > end:
            raise UserError(f"{number} of {num_records} records before the end")
        file.seek(start)
        _, length = record.unpack(file.read(record.size))
        start += record.size + length
    if num_records and start > end:
        raise UserError("its last record goes beyond the end")


def _check_points(file: BinaryIO, header: laspy.LasHeader, size: int) -> None:
    """Raises `ValueError` where the file cannot hold the points that its header promises."""
    if any(not dimension.num_elements for dimension in header.point_format.extra_dimensions):
        raise UserError("an extra dimension of its points has no values")
    promised = header.point_count * header.point_format.size
    there = size - header.offset_to_point_data
    if header.are_points_compressed and promised:
        check_unpacked_size(promised, size)
        _check_chunks(file, header, size)
    elif promised > there:
        raise UserError(f"{header.point_count} points are {promised} bytes, {there} are there")


def _check_chunks(file: BinaryIO, header: laspy.LasHeader, size: int) -> None:
    """Holds the chunks of points against the points and the bytes."""
    compression = header.vlrs[header.vlrs.index("LasZipVlr")]
    record = lazrs.LazVlr(compression.record_data)
    if record.item_size() != header.point_format.size:
        raise UserError(
            f"points of {header.point_format.size} bytes, compressed as {record.item_size()}"
        )
    first = header.offset_to_point_data + OFFSET.size
    table = _table_of_chunks(file, header.offset_to_point_data, size)
    file.seek(table)
    _, num_chunks = CHUNKS.unpack(file.read(CHUNKS.size))
    # The first point of a chunk is stored as it is.
    if not 0 < num_chunks * header.point_format.size <= table - first:
        raise UserError(f"{num_chunks} chunks of points in {table - first} bytes")
    if not record.uses_variable_size_chunks():
        chunk_size = min(record.chunk_size(), header.point_count)
        if not chunk_size or num_chunks != -(-header.point_count // chunk_size):
            raise UserError(f"{num_chunks} chunks of {chunk_size} for {header.point_count} points")
        # The decoder takes memory for a whole chunk, also where there are not as many points.
        data = bytearray(compression.record_data)
        CHUNK_SIZE.pack_into(data, CHUNK_SIZE_START, chunk_size)
        compression.record_data = bytes(data)
    file.seek(header.offset_to_point_data)
    chunks = lazrs.read_chunk_table(file, record)
    if sum(num_bytes for _, num_bytes in chunks) > table - first:
        raise UserError("its chunks go beyond their place")
    in_chunks = sum(num_points for num_points, _ in chunks)
    if record.uses_variable_size_chunks() and in_chunks != header.point_count:
        raise UserError(f"{in_chunks} points in its chunks, {header.point_count} in its header")


def _table_of_chunks(file: BinaryIO, start: int, size: int) -> int:
    if start + OFFSET.size + CHUNKS.size > size:
        raise UserError("its points are missing")
    file.seek(start)
    (table,) = OFFSET.unpack(file.read(OFFSET.size))
    if table == -1:  # written at the very end, by those who cannot go back
        file.seek(size - OFFSET.size)
        (table,) = OFFSET.unpack(file.read(OFFSET.size))
    if not start + OFFSET.size <= table <= size - CHUNKS.size:
        raise UserError("its table of chunks is missing")
    return table
