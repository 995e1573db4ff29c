"""The empty room: floor, walls with holes for doors and windows, ceiling, and those openings."""

import numpy as np

from mprm_jax.rooms.layout import Layout, Opening
from mprm_jax.rooms.materials import BLOTCHES, CHECKS, WOOD, Kit, pick, tinted
from mprm_jax.rooms.openings import curtain, door, radiator, window
from mprm_jax.rooms.shapes import Item, Part, Placed, part
from mprm_jax.types import Array

_MARGIN = 0.15  # meters between an opening and the end of its wall


def add_door(layout: Layout, kit: Kit) -> None:
    """Cuts a door into a random wall and keeps the floor before it free."""
    rng = layout.rng
    width, height = rng.uniform(0.75, 0.98), rng.uniform(1.95, 2.12)
    spot = _cut(layout, width, (0.0, height))
    if spot is None:
        return
    wall, along = spot
    item = door(rng, kit, width, height)
    depth = max(0.7, item.size[1] + 0.1)
    layout.reserve(wall, (along - 0.55, along + 0.55), (0.0, height), depth)
    _mount(layout, item, wall, along, 0.0)


def add_window(layout: Layout, kit: Kit, *, curtains: float, heater: float) -> None:
    """Cuts a window, perhaps with a curtain before and a radiator below it.

    Args:
      curtains, heater: probabilities.
    """
    rng = layout.rng
    height, sill = rng.uniform(0.9, 1.4), rng.uniform(0.75, 1.05)
    width = rng.uniform(0.7, 1.9)
    sill = min(sill, layout.size[2] - height - 0.15)
    spot = _cut(layout, width, (sill, sill + height))
    if spot is None:
        return
    wall, along = spot
    _mount(layout, window(rng, kit, width, height), wall, along, sill)
    top = sill + height
    if rng.random() < curtains:
        low = rng.choice([0.05, max(0.05, sill - 0.12)], p=[0.6, 0.4])
        cloth = curtain(rng, kit, width, min(top + 0.12, layout.size[2] - 0.08) - low)
        half = cloth.size[0] / 2
        _mount(layout, cloth, wall, along, low)
        layout.reserve(wall, (along - half, along + half), (low, top), 0.16)
    else:
        layout.reserve(wall, (along - width / 2, along + width / 2), (sill, top), 0.1)
    if rng.random() < heater and sill > 0.75:
        heater_item = radiator(rng, kit)
        layout.fix(heater_item, wall, along)


def shell_parts(layout: Layout, kit: Kit, *, tiled: bool) -> list[Part]:
    """Returns floor, walls and ceiling; the walls last leave out the openings."""
    rng = layout.rng
    paint = tinted(rng, kit.paints[0], 0.05)
    if tiled:
        paint = paint._replace(texture=CHECKS, period=rng.uniform(0.15, 0.4))
    accent = pick(rng, kit, paints=1)
    feature = rng.integers(len(layout.walls)) if rng.random() < 0.3 else -1
    parts = [_floor(layout, kit, tiled=tiled)]
    for i in range(len(layout.walls)):
        material = accent if i == feature else paint
        name = "shower wall" if tiled and rng.random() < 0.15 else "wall"
        parts.append(part(name, tinted(rng, material, 0.03), _wall_quads(layout, i)))
    ceiling = _level_quads(layout, layout.size[2])[:, ::-1]
    parts.append(part("ceiling", pick(rng, kit, whites=3, paints=1), ceiling))
    return parts


def _floor(layout: Layout, kit: Kit, *, tiled: bool) -> Part:
    """Returns a floor of wood, tiles or carpet."""
    rng = layout.rng
    material = pick(rng, kit, woods=0.5 if tiled else 5, fabrics=0.2 if tiled else 4, stones=3)
    if material.texture == WOOD:
        material = material._replace(
            axis=(1.0, 0.0, 0.0) if rng.random() < 0.5 else (0.0, 1.0, 0.0)
        )
    elif tiled:
        material = material._replace(texture=CHECKS, period=rng.uniform(0.2, 0.45))
    elif material.texture != CHECKS:
        material = material._replace(texture=BLOTCHES)
    return part("floor", material, _level_quads(layout, 0.0))


def _level_quads(layout: Layout, z: float) -> Array:
    """Returns the plan as one or two rectangles at height z, seen from above."""
    width, depth, _ = layout.size
    if layout.notch is None:
        spans = [(0, 0, width, depth)]
    else:
        x, y = layout.notch
        spans = [(0, 0, width, y), (0, y, x, depth)]
    corners = [[(a, b, z), (c, b, z), (c, d, z), (a, d, z)] for a, b, c, d in spans]
    return np.array(corners, float)


def _wall_quads(layout: Layout, index: int) -> Array:
    """Returns one wall cut into rectangles around its openings."""
    start, yaw, length = layout.walls[index]
    height = layout.size[2]
    cuts = sorted((o for o in layout.openings if o.wall == index), key=lambda o: o.low)
    spans, x = [], 0.0
    for _, (x0, z0), (x1, z1) in cuts:
        spans += [(x, 0.0, x0, height), (x0, 0.0, x1, z0), (x0, z1, x1, height)]
        x = x1
    spans.append((x, 0.0, length, height))
    spans = np.array([s for s in spans if s[2] - s[0] > 1e-6 and s[3] - s[1] > 1e-6])
    # Along x before along z shows the side to the left of the wall, which is the room.
    along, z = spans[:, [2, 0, 0, 2]], spans[:, [1, 1, 3, 3]]
    x, y = start[0] + along * np.cos(yaw), start[1] + along * np.sin(yaw)
    return np.stack([x, y, z], axis=-1)


def _cut(layout: Layout, width: float, z: tuple[float, float]) -> tuple[int, float] | None:
    """Cuts a hole at a free place of a random wall and returns wall and middle; None if full."""
    rng = layout.rng
    for _ in range(20):
        lengths = np.array([wall.length for wall in layout.walls])
        wall = int(rng.choice(len(lengths), p=lengths / lengths.sum()))
        room = lengths[wall] - width - 2 * _MARGIN
        if room < 0:
            continue
        along = _MARGIN + width / 2 + rng.uniform(0, room)
        low, high = along - width / 2, along + width / 2
        taken = [o for o in layout.openings if o.wall == wall]
        if all(high + 0.35 < o.low[0] or low - 0.35 > o.high[0] for o in taken):
            layout.openings.append(Opening(wall, (low, z[0]), (high, z[1])))
            return wall, along
    return None


def _mount(layout: Layout, item: Item, wall: int, along: float, z: float) -> None:
    """Adds an item at its opening without asking for free space."""
    start, yaw, _ = layout.walls[wall]
    x, y = np.add(start, along * np.array([np.cos(yaw), np.sin(yaw)]))
    layout.placed.append(Placed(item, (float(x), float(y), z), yaw))
