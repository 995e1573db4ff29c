"""The kinds of rooms, how often they occur and how large they are."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mprm_jax.rooms import clutter
from mprm_jax.rooms import furnishing as homes
from mprm_jax.rooms import furnishing as workplaces
from mprm_jax.rooms.layout import Layout
from mprm_jax.rooms.materials import Kit, make_kit
from mprm_jax.rooms.seating import bench
from mprm_jax.rooms.shell import add_door, add_window

_GOLDEN = 0.6180339887498949  # its multiples mod 1 fill [0, 1] evenly


class RoomType(NamedTuple):
    """One kind of room."""

    name: str
    share: float  # of all rooms
    area: float  # square meters, median
    furnish: Callable[[Layout, Kit], None]
    windows: tuple[float, ...]  # probability of a first, second, ... window
    curtains: float  # probability at each window
    extras: float  # mean number of boxes, bins, lamps, ...
    tiled: float = 0.0  # probability of tiles


ROOM_TYPES = (
    RoomType("bathroom", 0.15, 8.0, homes.furnish_bathroom, (0.15,), 0.1, 0.8, 0.7),
    RoomType("bedroom", 0.15, 24.0, homes.furnish_bedroom, (0.6, 0.35), 0.8, 3.0),
    RoomType("office", 0.17, 27.0, workplaces.furnish_office, (0.4, 0.35), 0.12, 3.5),
    RoomType("kitchen", 0.11, 22.0, homes.furnish_kitchen, (0.4, 0.3), 0.15, 2.5, 0.3),
    RoomType("living room", 0.18, 31.0, homes.furnish_living_room, (0.5, 0.4), 0.45, 4.5),
    RoomType("classroom", 0.11, 41.0, workplaces.furnish_classroom, (0.5, 0.5, 0.4), 0.08, 4.0),
    RoomType("storage", 0.06, 17.0, workplaces.furnish_storage, (0.1,), 0.05, 5.0),
    RoomType("studio", 0.05, 34.0, workplaces.furnish_studio, (0.6, 0.4), 0.7, 4.0),
    RoomType("suite", 0.02, 15.0, workplaces.furnish_suite, (0.2,), 0.1, 2.0, 0.6),
)


def room_type(seed: int, index: int) -> RoomType:
    """Returns the type of a scene; any run of scenes has nearly the shares of the table."""
    start = np.random.default_rng((seed, 0)).random()
    edges = np.cumsum([t.share for t in ROOM_TYPES])
    place = (start + _GOLDEN * index) % 1.0 * edges[-1]
    return ROOM_TYPES[int(np.searchsorted(edges, place, side="right"))]


def furnished(kind: RoomType, rng: np.random.Generator, scale: float) -> tuple[Layout, Kit]:
    """Draws a room of a kind: its plan, its openings, its furniture.

    Args:
      scale: 1, or less for small rooms.
    """
    area = kind.area * np.exp(np.clip(rng.normal(0, 0.3), -0.8, 0.8)) * scale**2
    ratio = np.exp(rng.normal(0, 0.2))
    width, depth = np.clip([np.sqrt(area * ratio), np.sqrt(area / ratio)], 1.7, 9.5)
    height = min(rng.uniform(2.15, 2.75), 2.4) if scale < 1 else rng.uniform(2.3, 2.75)
    layout, kit = Layout(rng, width, depth, height), make_kit(rng)
    for share in (0.66, 0.5):
        if rng.random() < share:
            add_door(layout, kit)
    for share in kind.windows:
        if rng.random() < share:
            add_window(layout, kit, curtains=kind.curtains, heater=0.25)
    kind.furnish(layout, kit)
    _strew(layout, kit, kind.extras)
    return layout, kit


def _strew(layout: Layout, kit: Kit, mean: float) -> None:
    """Adds bins, boxes, lamps and the like."""
    rng = layout.rng
    makers = (
        clutter.trash_can, clutter.carton, clutter.clothes, clutter.ottoman, clutter.floor_lamp,
        clutter.plant, bench,
    )  # fmt: skip
    shares = np.array([0.28, 0.3, 0.12, 0.08, 0.1, 0.08, 0.04])
    # Some rooms are tidy, and others all the more strewn.
    for _ in range(rng.poisson(1.3 * mean) if rng.random() < 0.77 else 0):
        item = makers[rng.choice(len(makers), p=shares / shares.sum())](rng, kit)
        if rng.random() < 0.7:
            layout.at_wall(item, gap=0.02)
        else:
            layout.free(item)
