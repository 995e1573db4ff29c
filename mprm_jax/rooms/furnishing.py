"""Which furniture stands where, in each room of homes and workplaces."""

from collections.abc import Callable

import numpy as np

from mprm_jax.rooms import clutter, openings, sanitary, seating, storage, tables
from mprm_jax.rooms import sanitary as kitchen
from mprm_jax.rooms.layout import Layout
from mprm_jax.rooms.materials import Kit
from mprm_jax.rooms.seating import bed, bunk_bed
from mprm_jax.rooms.shapes import Item, Placed


def furnish_bedroom(layout: Layout, kit: Kit) -> None:
    """Beds with nightstands, a desk, cupboards."""
    rng = layout.rng
    for _ in range(2 if rng.random() < 0.3 else 1):
        maker = bunk_bed if rng.random() < 0.1 else bed
        place_bed(layout, maker(rng, kit), kit)
    if rng.random() < 0.35:
        layout.at_wall(storage.wardrobe(rng, kit), front=0.4)
    if rng.random() < 0.45:
        place_desk(layout, kit)
    if rng.random() < 0.4:
        layout.at_wall(storage.dresser(rng, kit), front=0.3)
    for _ in range(2 if rng.random() < 0.35 else 0):
        layout.at_wall(storage.cabinet(rng, kit), front=0.3)
    for _ in range(2 if rng.random() < 0.15 else 0):
        layout.at_wall(storage.bookshelf(rng, kit), front=0.3)
    if rng.random() < 0.3:
        place_seat(layout, seating.armchair(rng, kit))
    if rng.random() < 0.3:
        place_dining(layout, kit)
    if rng.random() < 0.2:
        layout.at_wall(storage.refrigerator(rng, kit))
    hang_pictures(layout, kit, 0.35)


def furnish_bathroom(layout: Layout, kit: Kit) -> None:
    """A tub or shower, a toilet, a sink."""
    rng = layout.rng
    if rng.random() < 0.55:
        tub = sanitary.tub_with_curtain(rng, kit, curtain=rng.random() < 0.75)
        layout.at_wall(tub, corner=True) or layout.at_wall(sanitary.shower(rng, kit), corner=True)
    elif rng.random() < 0.4:
        layout.at_wall(sanitary.shower(rng, kit), corner=True)
    if rng.random() < 0.97:
        layout.at_wall(sanitary.toilet(rng, kit), front=0.3)
    maker = sanitary.vanity if rng.random() < 0.55 else sanitary.pedestal_sink
    sink = layout.at_wall(maker(rng, kit), front=0.3)
    if sink is None:
        sink = layout.at_wall(sanitary.pedestal_sink(rng, kit))
    if sink and rng.random() < 0.7:
        above(layout, sink, sanitary.mirror(rng, kit), 1.15)
    hang(layout, sanitary.towel, kit, rng.integers(0, 3), 0.8, z=(0.8, 1.2))
    if rng.random() < 0.25:
        layout.at_wall(storage.cabinet(rng, kit))
    if rng.random() < 0.2:
        layout.at_wall(storage.washing_machine(rng, kit))
    hang_pictures(layout, kit, 0.1)


def furnish_kitchen(layout: Layout, kit: Kit) -> None:
    """One or two counters with wall cabinets, a refrigerator, a dining table."""
    rng = layout.rng
    if rng.random() < 0.9:
        layout.at_wall(storage.refrigerator(rng, kit), front=0.3)
    for i in range(2 if rng.random() < 0.5 else 1):
        length = rng.uniform(1.6, min(3.6, max(1.7, max(layout.size[:2]) - 0.8)))
        run = kitchen.kitchen_run(rng, kit, length, sink=i == 0, stove=rng.random() < 0.7)
        placed = layout.at_wall(run, front=0.5, corner=rng.random() < 0.7)
        if placed and rng.random() < 0.8:
            above(layout, placed, kitchen.wall_cabinet(rng, kit, 0.9 * length), 1.4)
    if rng.random() < 0.7:
        place_dining(layout, kit)
    if rng.random() < 0.3:
        layout.at_wall(storage.cabinet(rng, kit))
    hang_pictures(layout, kit, 0.15)


def furnish_living_room(layout: Layout, kit: Kit) -> None:
    """Sofas around a coffee table, a television, shelves."""
    rng = layout.rng
    for i in range(1 + int(rng.random() < 0.6)):
        sofa = seating.sofa(rng, kit, corner=rng.random() < 0.25)
        if i or rng.random() < 0.25:
            placed = layout.free(sofa, yaw=rng.integers(4) * np.pi / 2, margin=0.8)
        else:
            placed = layout.at_wall(sofa, front=0.5, gap=rng.uniform(0, 0.15))
        if placed and rng.random() < 0.85:
            offset = (rng.uniform(-0.3, 0.3), sofa.size[1] + rng.uniform(0.2, 0.45))
            layout.beside(placed, tables.coffee_table(rng, kit), offset)
        if placed and rng.random() < 0.45:
            side = rng.choice([-1, 1]) * (sofa.size[0] / 2 + 0.32)
            layout.beside(placed, tables.end_table(rng, kit), (side, 0.1))
    for _ in range(rng.integers(0, 3)):
        place_seat(layout, seating.armchair(rng, kit))
    if rng.random() < 0.6:
        layout.at_wall(storage.tv_stand(rng, kit), front=0.4)
    for maker, share in ((storage.bookshelf, 0.22), (storage.cabinet, 0.4), (clutter.piano, 0.08)):
        if rng.random() < share:
            layout.at_wall(maker(rng, kit), front=0.3)
    if rng.random() < 0.5:
        place_dining(layout, kit)
    hang_pictures(layout, kit, 0.5)


def place_bed(layout: Layout, item: Item, kit: Kit) -> None:
    """Puts a bed with its head at a wall and nightstands beside it."""
    placed = layout.at_wall(item, front=0.2)
    if placed is None:
        return
    for side in (-1, 1):
        if layout.rng.random() < 0.6:
            stand = storage.nightstand(layout.rng, kit)
            offset = side * ((item.size[0] + stand.size[0]) / 2 + 0.05)
            layout.beside(placed, stand, (offset, 0.0))


def place_desk(layout: Layout, kit: Kit) -> None:
    """Puts a desk at a wall, or in the room, with a chair tucked in."""
    rng = layout.rng
    item = tables.desk(rng, kit)
    placed = layout.at_wall(item, front=0.6) if rng.random() < 0.8 else None
    placed = placed or layout.free(item, yaw=rng.integers(4) * np.pi / 2, margin=0.6)
    if placed and rng.random() < 0.9:
        maker = seating.office_chair if rng.random() < 0.65 else seating.chair
        seat = maker(rng, kit)
        spot = (rng.uniform(-0.2, 0.2), item.size[1] + rng.uniform(0.35, 0.8))
        layout.beside(placed, seat, spot, np.pi + rng.uniform(-0.5, 0.5), tucked=True)


def place_dining(layout: Layout, kit: Kit, *, large: bool = False) -> None:
    """Puts a table with chairs around it."""
    rng = layout.rng
    round_one = rng.random() < 0.3 and not large
    item = tables.round_table(rng, kit) if round_one else tables.table(rng, kit, large=large)
    placed = layout.free(item, yaw=rng.integers(4) * np.pi / 2 + rng.normal(0, 0.02), margin=0.7)
    if placed:
        surround(layout, placed, kit, rng.uniform(0.6, 1.0))


def surround(layout: Layout, table: Placed, kit: Kit, share: float) -> None:
    """Puts chairs of one kind at the long sides and the ends of a table."""
    rng, (width, depth, _) = layout.rng, table.item.size
    seed = int(rng.integers(2**31))
    maker = seating.office_chair if rng.random() < 0.2 else seating.chair
    # Chairs stand with their back away from the table; see the frame of items.
    xs = np.arange(-width / 2 + 0.35, width / 2 - 0.2, 0.62)
    out = rng.uniform(0.05, 0.4)
    spots = [(x, -out, 0.0) for x in xs] + [(x, depth + out, np.pi) for x in xs]
    spots += [(-width / 2 - out, depth / 2, -np.pi / 2), (width / 2 + out, depth / 2, np.pi / 2)]
    for x, y, turn in spots:
        if rng.random() < share:
            item = maker(np.random.default_rng(seed), kit)
            turn = turn + rng.normal(0, 0.15)
            layout.beside(table, item, (x, y), turn, tucked=True)


def place_seat(layout: Layout, item: Item) -> None:
    """Puts a seat near a wall or anywhere."""
    if layout.rng.random() < 0.6:
        layout.at_wall(item, front=0.3, gap=0.05)
    else:
        layout.free(item)


def above(layout: Layout, placed: Placed, item: Item, z: float) -> None:
    """Hangs an item on the wall above another one."""
    x, y, _ = placed.position
    layout.put(Placed(item, (x, y, z), placed.yaw))


def hang_pictures(layout: Layout, kit: Kit, share: float) -> None:
    """Hangs one to three pictures in a share of rooms."""
    if layout.rng.random() < share:
        hang(layout, openings.picture, kit, layout.rng.integers(1, 4), 1.0)


def hang(
    layout: Layout,
    maker: Callable[[np.random.Generator, Kit], Item],
    kit: Kit,
    count: int,
    share: float,
    z: tuple[float, float] = (1.1, 1.5),
) -> None:
    """Hangs up to `count` items on walls, each with probability `share`."""
    for _ in range(count):
        if layout.rng.random() < share:
            layout.at_wall(maker(layout.rng, kit), z=layout.rng.uniform(*z))


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
