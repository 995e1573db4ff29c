"""A scan as the page draws it: near the origin, in an order whose every start covers it evenly.

Scans are read when they are asked for, and the least recently used ones are dropped again.
"""

import contextlib
import threading
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int32, UInt8

from mprm_jax.config import DataConfig
from mprm_jax.errors import SCAN_ERRORS, UserError, explain
from mprm_jax.geometry.balls import ball_rows, grid_seed_counts, grid_seeds
from mprm_jax.geometry.neighbors import make_tree
from mprm_jax.geometry.surfaces import sample_surface
from mprm_jax.geometry.voxels import voxel_grid, voxel_means
from mprm_jax.scans.scene import Scene, Source
from mprm_jax.store.prepared_scene import SAMPLES_PER_VOXEL, check_scene
from mprm_jax.tagging.helpful_balls import Balls
from mprm_jax.types import Array

CHUNK_POINTS = 1 << 18
MAX_BALL_POINTS = 400_000
MEMORY_BYTES = 2 << 30  # of all scans that are kept; the last one is kept whatever its size
MAX_BALLS = 20_000  # more are nobody's to tag, and suggest a wrong unit
GRAY = 180  # of scans without colors
# What a written center loses to rounding, in meters, and more: a ball whose points all lie at its
# surface would be refused as empty when it is read.
_SURFACE = 1e-3
_MAX_CELL_BITS = 14  # per axis: millimeters of a room
# Voxels of more points look the same; they only place balls here.
_VOXELIZED_POINTS = 2_000_000


class ShownScan(NamedTuple):
    """One scan in level-of-detail order; meshes are covered with samples."""

    origin: Float64[Array, "3"]  # whole meters, of the frame of the source; the rest is relative
    coords: Float32[Array, "M 3"]  # meters
    colors: UInt8[Array, "M 3"]
    rows: Int32[Array, " M"]  # point of the scan that each came from
    num_points: int  # of the scan
    has_colors: bool
    voxels: Float32[Array, "V 3"]  # meters
    bounds: Float32[Array, "2 3"]  # meters, lowest and highest coordinates
    grid: Balls  # the balls of the paper's grid that are not empty

    @property
    def num_bytes(self) -> int:
        return sum(x.nbytes for x in self if isinstance(x, np.ndarray))


class ShownScans:
    """The scans of a source, by index; safe to use from several threads."""

    def __init__(self, source: Source, data: DataConfig, memory: int = MEMORY_BYTES):
        """Lists the scans; none is read yet.

        Args:
          data: voxel size, ball radius and placement of seeds count.
          memory: bytes of the scans that are kept.
        """
        self._source, self._data, self._memory = source, data, memory
        self.keys = [(split, name) for split in source.splits for name in source.splits[split]]
        if source.optional:
            # The splits of a folder change while it is tagged; its list should not.
            self.keys.sort(key=lambda key: key[1])
        self.broken: dict[int, str] = {}  # why a scan cannot be shown, by index
        self._kept: OrderedDict[int, ShownScan] = OrderedDict()
        self._reading = threading.Lock()  # one scan at a time is in the making
        self._sorting = threading.Lock()

    def open(self, index: int) -> ShownScan:
        """The scan of an index, from memory or from disk.

        Raises:
          UserError: it cannot be read; one line says why.
        """
        shown = self._find(index)
        if shown is not None:
            return shown
        with self._reading:
            # Another thread may have read it meanwhile.
            return self._find(index) or self._read(index)

    def read_ahead(self, index: int) -> threading.Thread | None:
        """Reads a scan that may be asked for next, in a thread beside; not while one is read."""
        if not 0 <= index < len(self.keys) or self._reading.locked():
            return None
        with self._sorting:
            largest = max((shown.num_bytes for shown in self._kept.values()), default=0)
        if 2 * largest > self._memory:
            return None  # it would take the place of the one that is looked at

        def read() -> None:
            # Whoever asks for the scan is told why it cannot be read.
            with contextlib.suppress(UserError):
                self.open(index)

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        return thread

    def _find(self, index: int) -> ShownScan | None:
        with self._sorting:
            if index in self._kept:
                self._kept.move_to_end(index)
            return self._kept.get(index)

    def _read(self, index: int) -> ShownScan:
        try:
            scene = self._source.read(*self.keys[index])
            shown = show_scan(scene, len(self._source.classes), self._data)
        except SCAN_ERRORS as error:
            self.broken[index] = explain(error)
            raise UserError(self.broken[index]) from error
        self.broken.pop(index, None)
        with self._sorting:
            self._kept[index] = shown
            while len(self._kept) > 1 and self._num_bytes() > self._memory:
                self._kept.popitem(last=False)
        return shown

    def _num_bytes(self) -> int:
        return sum(shown.num_bytes for shown in self._kept.values())


def show_scan(scene: Scene, num_classes: int, data: DataConfig) -> ShownScan:
    """Puts a scan into the order and frame of the page.

    Raises:
      ValueError: it is empty, not finite, inconsistent, or absurdly large for its unit.
    """
    check_scene(scene, num_classes)
    origin = np.floor([column.min() for column in scene.coords.T])
    coords, rows = scene.coords - origin[None], np.arange(len(scene.coords), dtype=np.int32)
    if scene.faces is not None and len(scene.faces):
        coords, rows = sample_surface(coords, scene.faces, data.voxel_size / SAMPLES_PER_VOXEL)
    coords = coords.astype(np.float32)
    # Column by column: NumPy reduces [N, 3] over its rows many times slower.
    bounds = np.array([[column.min(), column.max()] for column in coords.T]).T
    order = detail_order(coords)
    coords, rows = coords.take(order, axis=0), rows[order]
    some = coords[:_VOXELIZED_POINTS]
    voxels = voxel_means(some, voxel_grid(some, data.voxel_size)).astype(np.float32)
    grid = grid_balls(voxels, bounds, data.sphere_radius, data.seeds)
    has_colors = scene.colors is not None
    colors = (
        scene.colors.take(rows, axis=0) if has_colors else np.full((len(rows), 3), GRAY, np.uint8)
    )
    num_points = len(scene.coords)
    return ShownScan(origin, coords, colors, rows, num_points, has_colors, voxels, bounds, grid)


def grid_balls(
    voxels: Float32[Array, "V 3"], bounds: Float32[Array, "2 3"], radius: float, placement: str
) -> Balls:
    """The balls of the paper's grid that hold a voxel.

    The grid is that of the scan, not of its voxels, so that it is the same with any voxel size.

    Args:
      bounds: lowest and highest coordinates of the scan, meters.

    Raises:
      UserError: there would be more than anyone can tag.
    """
    count = np.prod(grid_seed_counts(bounds, radius).astype(float))
    if count > MAX_BALLS:
        raise UserError(
            f"{count:.2g} balls of {radius:g} m would be needed to cover the scan; check the unit "
            "of its coordinates (data.scale) or raise data.sphere_radius."
        )
    return filled_balls(voxels, grid_seeds(bounds, radius, placement), radius)


def filled_balls(
    voxels: Float32[Array, "V 3"], centers: Float64[Array, "S 3"], radius: float
) -> Balls:
    """Those of some balls that hold a voxel, also when their centers were written and read."""
    tree, near = make_tree(voxels), centers.astype(np.float32)
    is_filled = [len(ball_rows(voxels, tree, center, radius - _SURFACE)) > 0 for center in near]
    kept = centers[np.array(is_filled, bool)]
    return Balls(kept, np.full(len(kept), float(radius)))


def detail_order(coords: Float32[Array, "N 3"]) -> Int32[Array, " N"]:
    """An order of points in which every start covers the cloud evenly.

    One point of each of the coarsest cells comes first, then one of each cell half as wide that
    has none yet, and so on; points of one level are in a random order, always the same.

    Args:
      coords: meters, near the origin, N >= 1.
    """
    index_bits = max(len(coords) - 1, 1).bit_length()
    cell_bits = min((63 - index_bits) // 3, _MAX_CELL_BITS)
    # A number for each point: the code of its cell and, below it, its row. Sorting plain numbers
    # is several times faster than sorting rows by them.
    codes = _cell_codes(coords, cell_bits) << np.uint64(index_bits)
    codes |= np.arange(len(coords), dtype=np.uint64)
    codes.sort()
    rows = (codes & np.uint64((1 << index_bits) - 1)).astype(np.int32)
    codes >>= np.uint64(index_bits)
    # A point stands for the cells that it is the first in: those finer than the finest cell that
    # it shares with its predecessor. Their codes differ from there on.
    differs = np.full(len(codes), 2.0 ** (3 * cell_bits))
    differs[1:] = codes[1:] ^ codes[:-1]
    levels = np.empty(len(codes), np.uint8)
    levels[rows] = cell_bits + 1 - (np.frexp(differs)[1] + 2) // 3  # 0 for the coarsest
    shuffled = np.random.default_rng(0).permutation(len(codes)).astype(np.int32)
    return shuffled[np.argsort(levels[shuffled], kind="stable")]


def _cell_codes(coords: Float32[Array, "N 3"], cell_bits: int) -> Array:
    """The Morton codes [N] uint64 of the finest cells: points of a coarse cell share a start."""
    low = [column.min() for column in coords.T]
    width = max(*(column.max() - column.min() for column in coords.T), np.float32(1e-6))
    codes, spread = np.zeros(len(coords), np.uint64), _spread_bits(cell_bits)
    for axis in range(3):
        cells = (coords[:, axis] - low[axis]) * np.float32((2**cell_bits - 1) / width)
        codes |= spread[cells.astype(np.int32)] << np.uint64(axis)
    return codes


def _spread_bits(count: int) -> Array:
    """All numbers of some bits with two zeros between any two bits, [2^count] uint64."""
    numbers = np.arange(1 << count, dtype=np.uint64)
    bits = np.arange(count, dtype=np.uint64)
    apart = ((numbers[:, None] >> bits[None]) & np.uint64(1)) << (2 * bits + bits)[None]
    return np.bitwise_or.reduce(apart, axis=1)


def chunk_bytes(coords: Float32[Array, "N 3"], colors: UInt8[Array, "N 3"]) -> bytes:
    """Points as the page reads them, little endian: their number, positions, colors."""
    count = np.array([len(coords)], "<u4")
    return count.tobytes() + coords.astype("<f4").tobytes() + colors.tobytes()


def points_of_ball(
    shown: ShownScan, center: Float64[Array, "3"], radius: float
) -> Int32[Array, " K"]:
    """Rows of the shown scan in a ball, at most MAX_BALL_POINTS, spread evenly over it."""
    near = center.astype(np.float32)
    sq_dist = sum(np.square(shown.coords[:, axis] - near[axis]) for axis in range(3))
    return np.flatnonzero(sq_dist < radius**2)[:MAX_BALL_POINTS].astype(np.int32)
