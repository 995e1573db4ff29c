"""How often each class is tagged, per scene and per subcloud (the paper's Table 1).

Reads tags only: of a prepared store, of the released archive, or a `tags.csv`.
"""

import pathlib
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from mprm_jax.errors import MissingError, UserError
from mprm_jax.evidence.archive import archive_files, count_grid_seeds, read_archive
from mprm_jax.evidence.tags import SCENE, read_tags
from mprm_jax.scans.scan_files import CLASSES_FILE, TAGS_FILE, typed_scene
from mprm_jax.scans.scannet import CLASSES as SCANNET_CLASSES
from mprm_jax.scans.typed_files import composed, read_class_list, read_csv_rows
from mprm_jax.store.manifest import MANIFEST_FILE
from mprm_jax.store.scenes import SceneStore
from mprm_jax.types import Array


class SceneTags(NamedTuple):
    """The tags of one scene."""

    scene: Array  # [C] bool, class occurs in the scene
    subclouds: Array  # [S, C] bool, per non-empty ball
    num_seeds: int  # balls of the full grid, empty ones included


class TagStatistics(NamedTuple):
    """Counts over scenes."""

    classes: Sequence[str]
    num_scenes: int
    num_subclouds: int  # non-empty
    num_seeds: int  # empty ones included
    scene_counts: Array  # [C] int64, scenes that hold the class
    subcloud_counts: Array  # [C] int64


def read_statistics(folder: pathlib.Path, names: Collection[str] | None = None) -> TagStatistics:
    """Counts the tags in a folder.

    Args:
      folder: a prepared store, the unpacked archive, or a folder with `tags.csv`.
      names: scenes to count; None means every tagged one.

    Raises:
      FileNotFoundError: the folder is none of these.
      ValueError: a scene of `names` is not there, or a file is damaged.
    """
    if (folder / MANIFEST_FILE).is_file():
        return store_statistics(SceneStore(folder), names)
    if (folder / TAGS_FILE).is_file():
        classes, tags = _read_tag_table(folder)
    elif any(folder.glob("*.npy")):
        return _archive_statistics(folder, names)
    else:
        raise MissingError(
            f"{folder}: no {MANIFEST_FILE}, {TAGS_FILE} or <scene>.npy in it; name a prepared "
            "store, a folder with tags, or the unpacked subcloud_label archive."
        )
    chosen = _choose(folder, tags, names)
    return count_tags(classes, (tags[name] for name in chosen))


def store_statistics(store: SceneStore, names: Collection[str] | None = None) -> TagStatistics:
    """Counts the tags of a store, scenes without any left out."""
    tagged = {
        scene: split
        for split in store.splits
        for scene in store.scenes(split)
        if store.info(split, scene).has_tags
    }
    chosen = _choose(store.path, tagged, names)
    weak = (store.weak_labels(tagged[scene], scene) for scene in chosen)
    rows = (SceneTags(labels.scene_tags, labels.tags, int(labels.num_seeds)) for labels in weak)
    return count_tags(store.classes, rows)


def candidate_counts(store: SceneStore, split: str) -> dict[str, int] | None:
    """What the evidence leaves to the voxels of a split, and the clicks among it.

    Returns:
      Voxels by number of candidates ("0" to "3", "4+"), "clicks" and "clicks_outside"; None for a
      store of an older version.
    """
    infos = [store.info(split, scene) for scene in store.scenes(split)]
    if not infos or not all(info.set_sizes for info in infos):
        return None
    totals = np.sum([info.set_sizes for info in infos], axis=0).tolist()
    counts = dict(zip(("0", "1", "2", "3", "4+"), totals, strict=True))
    counts["clicks"] = sum(info.clicks for info in infos)
    return counts | {"clicks_outside": sum(info.clicks_outside for info in infos)}


def count_tags(classes: Sequence[str], scenes: Iterable[SceneTags]) -> TagStatistics:
    """Sums the tags of scenes."""
    scene_counts = np.zeros(len(classes), np.int64)
    subcloud_counts = np.zeros(len(classes), np.int64)
    num_scenes = num_subclouds = num_seeds = 0
    for tags in scenes:
        num_scenes += 1
        num_subclouds += len(tags.subclouds)
        num_seeds += tags.num_seeds
        scene_counts += tags.scene
        subcloud_counts += tags.subclouds.sum(axis=0)
    return TagStatistics(
        classes, num_scenes, num_subclouds, num_seeds, scene_counts, subcloud_counts
    )


def to_json(counts: TagStatistics) -> dict:
    """Means per scene and percentages by class; `subcloud` is the share of non-empty ones."""

    def percent(values: Array, total: int) -> dict[str, float]:
        shares = 100 * values / max(total, 1)
        return dict(zip(counts.classes, shares.round(3).tolist(), strict=True))

    per_scene = max(counts.num_scenes, 1)
    return {
        "scenes": counts.num_scenes,
        "subclouds": counts.num_subclouds,
        "subclouds_per_scene": round(counts.num_subclouds / per_scene, 4),
        "seeds": counts.num_seeds,
        "subclouds_per_scene_with_empty": round(counts.num_seeds / per_scene, 4),
        "scene": percent(counts.scene_counts, counts.num_scenes),
        "subcloud": percent(counts.subcloud_counts, counts.num_subclouds),
        "subcloud_with_empty": percent(counts.subcloud_counts, counts.num_seeds),
    }


def to_table(counts: TagStatistics) -> str:
    """The same for reading."""
    values = to_json(counts)
    width = max([len(name) for name in counts.classes] + [5])
    lines = [
        f"{counts.num_scenes} tagged scenes, {counts.num_subclouds} balls: "
        f"{values['subclouds_per_scene']:.2f} per scene, "
        f"{values['subclouds_per_scene_with_empty']:.2f} with empty ones",
        f"{'class':<{width}}   scene %       ball %   of all seeds %",
    ]
    for name in counts.classes:
        scene, ball, seed = (
            values[key][name] for key in ("scene", "subcloud", "subcloud_with_empty")
        )
        lines.append(f"{name:<{width}}   {scene:7.1f}   {ball:10.1f}   {seed:14.1f}")
    lines.append(
        f"ball %: of the {counts.num_subclouds} that hold points; of all seeds %: of the "
        f"{counts.num_seeds} of the full grid, as in the paper's Table 1"
    )
    return "\n".join(lines)


def _archive_statistics(folder: pathlib.Path, names: Collection[str] | None) -> TagStatistics:
    files = archive_files(folder)
    labels = (read_archive(files[name]) for name in _choose(folder, files, names))
    rows = (
        SceneTags(scene.tags.any(axis=0), scene.tags, count_grid_seeds(scene.centers))
        for scene in labels
    )
    return count_tags(SCANNET_CLASSES, rows)


def _read_tag_table(folder: pathlib.Path) -> tuple[Sequence[str], dict[str, SceneTags]]:
    """Tags of people, who tag balls or whole scenes and leave no grid to reconstruct."""
    path = folder / TAGS_FILE
    _, lines = read_csv_rows(path)
    listed = folder / CLASSES_FILE
    classes = read_class_list(listed).names if listed.is_file() else None
    table = read_tags(path, {typed_scene(line.cells.get(SCENE, "")) for line in lines}, classes)
    tags = {}
    for name, rows in table.rows.items():
        bits = np.array([[known in row.present for known in table.classes] for row in rows])
        balls = bits[[row.ball is not None for row in rows]]
        tags[name] = SceneTags(bits.any(axis=0), balls, len(balls))
    return table.classes, tags


def _choose(
    folder: pathlib.Path, known: Collection[str], names: Collection[str] | None
) -> Sequence[str]:
    if names is None:
        return list(known)
    by_name = {composed(name): name for name in known}
    missing = [name for name in names if composed(name) not in by_name]
    if missing:
        raise UserError(
            f"{folder}: no tags of {len(missing)} of the {len(names)} listed scenes, such as "
            f"{missing[0]}; check the list."
        )
    return [by_name[composed(name)] for name in names]
