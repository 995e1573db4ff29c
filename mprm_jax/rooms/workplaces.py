"""How other rooms are furnished: office, classroom, storage."""

import numpy as np

from mprm_jax.rooms import clutter, kitchen, openings, sanitary, seating, storage, tables
from mprm_jax.rooms.homes import (
    furnish_bathroom,
    furnish_bedroom,
    furnish_kitchen,
    furnish_living_room,
    hang,
    hang_pictures,
    place_desk,
    place_dining,
    place_seat,
    surround,
)  # fmt: skip
from mprm_jax.rooms.layout import Layout
from mprm_jax.rooms.materials import Kit


def furnish_office(layout: Layout, kit: Kit) -> None:
    """Desks with office chairs, file cabinets, shelves."""
    rng = layout.rng
    area = layout.size[0] * layout.size[1]
    for _ in range(1 + rng.binomial(4, min(0.8, area / 70))):
        place_desk(layout, kit)
    for _ in range(rng.integers(2, 5) if rng.random() < 0.25 else 0):
        layout.at_wall(storage.bookshelf(rng, kit), front=0.2)
    for maker, share in (
        (storage.refrigerator, 0.08), (storage.file_cabinet, 0.55), (storage.file_cabinet, 0.3),
        (storage.cabinet, 0.35), (storage.shelf, 0.2), (clutter.trash_can, 0.6),
    ):  # fmt: skip
        if rng.random() < share:
            layout.at_wall(maker(rng, kit), front=0.2)
    if rng.random() < 0.5:
        place_dining(layout, kit)
    if rng.random() < 0.15:
        layout.at_wall(seating.sofa(rng, kit), front=0.3)
    if rng.random() < 0.3:
        place_seat(layout, seating.chair(rng, kit))
    hang(layout, openings.board, kit, 1, 0.4, z=(0.85, 1.0))
    hang_pictures(layout, kit, 0.15)


def furnish_classroom(layout: Layout, kit: Kit) -> None:
    """Large tables with many chairs, a board."""
    rng = layout.rng
    hang(layout, openings.board, kit, 2, 0.6, z=(0.85, 1.0))
    for _ in range(rng.integers(2, 6)):
        large = rng.random() < 0.6
        item = tables.table(rng, kit, large=large)
        placed = layout.free(item, yaw=rng.integers(4) * np.pi / 2, margin=0.8)
        if placed:
            surround(layout, placed, kit, rng.uniform(0.5, 1.0))
    for _ in range(rng.integers(0, 3)):
        place_seat(layout, seating.chair(rng, kit))
    for maker, share in ((storage.cabinet, 0.3), (storage.bookshelf, 0.15), (seating.sofa, 0.25)):
        if rng.random() < share:
            layout.at_wall(maker(rng, kit), front=0.2)
    if rng.random() < 0.15:
        layout.at_wall(kitchen.reception_counter(rng, kit))
    hang_pictures(layout, kit, 0.25)


def furnish_storage(layout: Layout, kit: Kit) -> None:
    """Shelves, boxes, machines: hallways, laundries, mail rooms."""
    rng = layout.rng
    for maker, share in (
        (storage.shelf, 0.5), (storage.cabinet, 0.5), (storage.washing_machine, 0.25),
        (storage.washing_machine, 0.15), (kitchen.reception_counter, 0.3), (seating.bench, 0.25),
        (storage.bookshelf, 0.2), (tables.table, 0.3), (storage.refrigerator, 0.2),
        (sanitary.pedestal_sink, 0.12), (seating.chair, 0.4), (storage.wardrobe, 0.2),
    ):  # fmt: skip
        if rng.random() < share:
            layout.at_wall(maker(rng, kit), front=0.2)
    hang_pictures(layout, kit, 0.25)


def furnish_studio(layout: Layout, kit: Kit) -> None:
    """A home in one room: two programs that share the space."""
    rng = layout.rng
    furnish_bedroom(layout, kit)
    other = (furnish_kitchen, furnish_living_room, furnish_office)[rng.integers(3)]
    other(layout, kit)


def furnish_suite(layout: Layout, kit: Kit) -> None:
    """A bathroom that opens into a larger room."""
    furnish_bathroom(layout, kit)
    if layout.rng.random() < 0.5:
        furnish_storage(layout, kit)
