"""A simulated person: tags balls and scenes, answers clicks, and needs time.

All answers are those of the point labels of the training scenes, written to the files that
`mprm tag` writes. As a command of its own it answers what a network asks, beside links to the
scans, and prepares them with these clicks; the last line it prints is JSON.
"""

import argparse
import csv
import dataclasses
import io
import json
import pathlib
import shutil
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mprm_jax.config import Config, DataConfig
from mprm_jax.evidence import clicks
from mprm_jax.evidence.tags import GEOMETRY, SCENE, TAGS
from mprm_jax.scans.scan_files import CLICKS_FILE
from mprm_jax.store.datasets import DEFAULT_SIZE, ROOMS_ROOT, ensure_store
from mprm_jax.store.exports import Export
from mprm_jax.store.scenes import SceneStore
from mprm_jax.store.truth import point_labels
from mprm_jax.tagging.helpful_balls import Balls, rank_balls
from mprm_jax.tagging.questions import DIGITS, find_questions
from mprm_jax.tagging.scans_shown import filled_balls
from mprm_jax.types import Array
from mprm_jax.writing import write_whole

BALL_SECONDS = 10.0  # the paper has under 3 minutes for all balls of a scene
SCENE_SECONDS = 15.0  # measured in the paper
CLICK_SECONDS = 3.5  # an estimate
SPLIT = "train"


def main() -> None:
    """Answers clicks in a folder of links to the scans of a data set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="of the scans")
    parser.add_argument("--store", type=pathlib.Path, required=True, help="prepared without clicks")
    parser.add_argument("--export", type=pathlib.Path, required=True, help="whose network asks")
    parser.add_argument("--labels", type=pathlib.Path, help="the same after the CRF")
    parser.add_argument("--clicks", type=int, required=True, help="of each scene, in all")
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="of links and clicks")
    parser.add_argument("--prepared", type=pathlib.Path, required=True, help="store with clicks")
    args = parser.parse_args()
    plain, settings = SceneStore(args.store), SceneStore(args.store).manifest.settings
    data = link_scans(args.data, args.folder)
    path = args.folder / CLICKS_FILE
    already = clicked(path, plain)
    count = args.clicks - max(map(len, already.values()), default=0)
    labeled = args.labels and Export(args.labels)
    asked = asked_points(Export(args.export), plain, count, already, labeled) if count > 0 else {}
    nothing = np.zeros((0, 3))
    points = {
        scene: np.concatenate([already.get(scene, nothing), asked.get(scene, nothing)])
        for scene in {**already, **asked}
    }
    click(path, plain, points)
    known = {field.name for field in dataclasses.fields(DataConfig)}
    values = {name: x for name, x in dataclasses.asdict(settings).items() if name in known}
    config = Config(data=DataConfig(**values))
    store = ensure_store(data, config, args.prepared)
    given = sum(map(len, points.values()))
    print(json.dumps({"clicks": given, "scenes": len(store.scenes(SPLIT))}))


def link_scans(data: str, folder: pathlib.Path) -> str:
    """Links to all that the folder of a data set holds but its clicks; the data set that this is.

    Where the system has no links, copies.
    """
    kind, _, place = data.partition(":")
    root = ROOMS_ROOT / (place or DEFAULT_SIZE) if kind == "rooms" else pathlib.Path(place)
    folder.mkdir(parents=True, exist_ok=True)
    for path in root.expanduser().iterdir():
        if path.name.startswith(".") or path.name == CLICKS_FILE:
            continue
        if not (folder / path.name).exists():
            _link(path.absolute(), folder / path.name)
    return f"{'scannet' if kind == 'rooms' else kind}:{folder}"


def clicked(path: pathlib.Path, store: SceneStore) -> dict[str, Array]:
    """The points of each scene in a file of clicks, [K, 3] meters; none if it is not there."""
    if not path.exists():
        return {}
    rows = clicks.read_clicks(path, store.scenes(SPLIT), store.classes).rows
    return {scene: np.array([row.point for row in given]) for scene, given in rows.items()}


class Effort(NamedTuple):
    """What the person did in one room, or in all of them."""

    balls: int  # tagged
    scene_tags: int  # of rooms as a whole
    clicks: int

    @property
    def minutes(self) -> float:
        seconds = BALL_SECONDS * self.balls + SCENE_SECONDS * self.scene_tags
        return (seconds + CLICK_SECONDS * self.clicks) / 60


def click(path: pathlib.Path, store: SceneStore, points: Mapping[str, Array]) -> None:
    """Writes `clicks.csv`: what the scan's point nearest to each asked one is.

    Args:
      points: by scene, [K, 3] meters, frame of the scan.
    """
    rows: list[Sequence[Any]] = []
    for scene, asked in points.items():
        coords = store.points(SPLIT, scene).coords.astype(np.float64)
        coords += np.array(store.info(SPLIT, scene).origin)[None]
        labels = point_labels(store, SPLIT, scene)
        for point in np.asarray(asked, np.float64).reshape(-1, 3):
            nearest = int(np.sum(np.square(coords - point[None]), axis=1).argmin())
            label = int(labels[nearest])
            said = [store.classes[label], clicks.YES] if label >= 0 else ["", clicks.NONE]
            rows.append([scene, *coords[nearest].round(DIGITS).tolist(), *said])
    _write(path, clicks.COLUMNS, rows)


def tag_balls(path: pathlib.Path, store: SceneStore, chosen: Mapping[str, Array]) -> None:
    """Writes `tags.csv` with some balls of the grid.

    Args:
      store: with the tags of the whole grid.
      chosen: by scene, the balls, [K] int64.
    """
    rows = []
    for scene, balls in chosen.items():
        weak, origin = store.weak_labels(SPLIT, scene), np.array(store.info(SPLIT, scene).origin)
        for ball in balls:
            center = weak.centers[ball].astype(np.float64) + origin
            names = _names(store, weak.tags[ball])
            rows.append([scene, *center.tolist(), float(weak.radii[ball]), names])
    _write(path, (SCENE, *GEOMETRY, TAGS), rows)


def tag_scenes(path: pathlib.Path, store: SceneStore, *, all_classes: bool = False) -> None:
    """Writes `tags.csv` with the tags of every scene.

    Args:
      all_classes: tag each with every class, which says nothing: no tags of the grid count then.
    """
    rows = []
    for scene in store.scenes(SPLIT):
        tags = store.weak_labels(SPLIT, scene).scene_tags
        rows.append([scene, _names(store, tags | all_classes)])
    _write(path, (SCENE, TAGS), rows)


def half_ranked(store: SceneStore) -> dict[str, Array]:
    """Half of the balls of each scene, as `mprm tag --next helpful` asks for them.

    After each answer the others are ranked again. No network has been trained yet.
    """
    chosen = {}
    for scene in store.scenes(SPLIT):
        weak, voxels = store.weak_labels(SPLIT, scene), store.voxel_cloud(SPLIT, scene).coords
        offered = _offered(store, scene)
        balls = Balls(weak.centers[offered], weak.radii[offered])
        known = np.zeros(len(offered), bool)
        for _ in range(_half(len(offered))):
            tags = weak.tags[offered] & known[:, None]
            known[rank_balls(voxels, balls, known, tags)[0]] = True
        chosen[scene] = offered[known]
    return chosen


def half_at_random(store: SceneStore, seed: int) -> dict[str, Array]:
    """As many of the balls of each scene as `half_ranked` gives, at random."""
    chosen = {}
    for number, scene in enumerate(store.scenes(SPLIT)):
        rng, offered = np.random.default_rng((seed, 0, number)), _offered(store, scene)
        chosen[scene] = rng.permutation(offered)[: _half(len(offered))]
    return chosen


def random_points(store: SceneStore, count: int, seed: int) -> dict[str, Array]:
    """Points on the surfaces of each scene; those of a smaller count are among them.

    Returns:
      By scene, [count, 3] meters, frame of the scan.
    """
    points = {}
    for number, scene in enumerate(store.scenes(SPLIT)):
        coords = store.voxel_cloud(SPLIT, scene).coords.astype(np.float64)
        rows = np.random.default_rng((seed, 1, number)).permutation(len(coords))[:count]
        points[scene] = coords[rows] + np.array(store.info(SPLIT, scene).origin)[None]
    return points


def asked_points(
    export: Export,
    store: SceneStore,
    count: int,
    already: Mapping[str, Array] | None = None,
    labeled: Export | None = None,
) -> dict[str, Array]:
    """The points that a network asks about, by scene, [at most count, 3] meters.

    Args: as of `find_questions`.
    """
    points: dict[str, list] = {}
    for question in find_questions(export, store, count, already, labeled=labeled):
        points.setdefault(question.scene, []).append(question.point)
    return {scene: np.array(asked) for scene, asked in points.items()}


def count_grid(store: SceneStore) -> Effort:
    """What it takes to tag all balls of the grid."""
    return Effort(sum(len(_offered(store, scene)) for scene in store.scenes(SPLIT)), 0, 0)


def _offered(store: SceneStore, scene: str) -> Array:
    """The balls that the page would offer, [S] int64: those that surely hold a point."""
    weak, voxels = store.weak_labels(SPLIT, scene), store.voxel_cloud(SPLIT, scene).coords
    centers, radius = weak.centers.astype(np.float64), store.manifest.settings.sphere_radius
    kept = filled_balls(voxels, centers, radius).centers
    return np.flatnonzero((centers[:, None] == kept[None]).all(axis=2).any(axis=1))


def _link(path: pathlib.Path, place: pathlib.Path) -> None:
    try:
        place.symlink_to(path, target_is_directory=path.is_dir())
    except OSError:  # Windows links for administrators alone
        copy = shutil.copytree if path.is_dir() else shutil.copy2
        copy(path, place)


def _half(count: int) -> int:
    return (count + 1) // 2


def _names(store: SceneStore, tags: Array) -> str:
    return ";".join(name for name, there in zip(store.classes, tags, strict=True) if there)


def _write(path: pathlib.Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_whole(path, text.getvalue())


if __name__ == "__main__":
    main()
