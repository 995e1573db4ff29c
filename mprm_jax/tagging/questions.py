"""Which points to ask about: one in each region whose summed doubt within its candidates is large.

A question is "what is this?" about one voxel. Points that a network asks for are worth about four
at random each, on real rooms. They are kept in a file, `questions.csv`, made without a GPU:

    scene,x,y,z,radius,weight,candidates
    office,1.2,0.35,0.44,0.61,38.2,chair;table

in meters, in the frame of the scan; the heaviest first, its likeliest candidate first.
"""

import csv
import io
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from mprm_jax.errors import UserError
from mprm_jax.evidence.candidates import CLICK_RADIUS
from mprm_jax.evidence.tags import find_scene
from mprm_jax.geometry.normals import surface_normals
from mprm_jax.scans.typed_files import CsvRow, read_csv_rows, suggest
from mprm_jax.store.exports import Export, as_labels
from mprm_jax.store.scenes import CloudArrays, SceneStore
from mprm_jax.tagging.doubt import Belief, Beliefs
from mprm_jax.tagging.regions import regions
from mprm_jax.types import Array
from mprm_jax.writing import write_whole

COLUMNS = ("scene", "x", "y", "z", "radius", "weight", "candidates")
NUMBERS = COLUMNS[1:6]
DIGITS = 4  # of meters: a tenth of a millimeter


class Question(NamedTuple):
    """A point to ask about, for its region."""

    scene: str
    point: tuple[float, float, float]  # meters, frame of the scan
    radius: float  # meters, of the ball around the point that holds the region
    weight: float  # sum of the doubt of the region's voxels
    candidates: tuple[int, ...]  # classes, most likely first


def find_questions(
    export: Export | None,
    store: SceneStore,
    count: int,
    already: Mapping[str, Array] | None = None,
    *,
    total: int | None = None,
    labeled: Export | None = None,
    split: str = "train",
) -> list[Question]:
    """The points whose answers would settle most, the heaviest first.

    Args:
      export: whose evidence counts, not refined; None before any training.
      count: questions of a scene, at most.
      already: by scene, [K, 3] meters, frame of the scan: points that were asked, whatever the
        answer. Their regions are left alone, and so are regions whose point would be as near as
        a click speaks for.
      total: questions of all scenes, at most; as many as there are if None.
      labeled: the export with the labels that cut regions, e.g. the refined one; `export` if None.
      split: of the store, if there is no export.

    Raises:
      ValueError: an export of other data, or a refined one in place of its source.
    """
    beliefs, labeled = Beliefs(store, export, split), labeled or export
    if labeled is not None:
        labeled.require_scenes(store)
    questions: list[Question] = []
    for scene in beliefs.scenes:
        labels = as_labels(labeled.load(scene).label) if labeled else None
        asked = np.asarray((already or {}).get(scene, ()), np.float64).reshape(-1, 3)
        questions += _questions_of(beliefs, scene, labels, asked, count)
    return sorted(questions, key=lambda question: -question.weight)[:total]


def write_questions(
    path: pathlib.Path, questions: Sequence[Question], classes: Sequence[str]
) -> None:
    """Writes `questions.csv`, whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for scene, point, radius, weight, candidates in questions:
        names = ";".join(classes[c] for c in candidates)
        writer.writerow([scene, *point, radius, weight, names])
    write_whole(path, text.getvalue())


def read_questions(
    path: pathlib.Path, scenes: Sequence[str], classes: Sequence[str]
) -> list[Question]:
    """Reads `questions.csv`.

    Args:
      scenes: those that exist.
      classes: names in index order.

    Raises:
      ValueError: a column is missing, or a line names an unknown scene or class, or has a bad
        number.
    """
    header, lines = read_csv_rows(path)
    if tuple(header) != COLUMNS:
        raise UserError(
            f"{path}: its columns are not {','.join(COLUMNS)}; make the list of questions again."
        )
    return [_question(path, line, scenes, classes) for line in lines]


def _questions_of(
    beliefs: Beliefs, scene: str, labels: Array | None, asked: Array, count: int
) -> list[Question]:
    cloud = beliefs.store.voxel_cloud(beliefs.split, scene)
    origin = np.array(beliefs.store.info(beliefs.split, scene).origin)
    voxel_size = beliefs.store.manifest.settings.voxel_size
    coords, belief = cloud.coords.astype(np.float64), beliefs.of(scene)
    region = _regions_of(cloud, labels, voxel_size)
    weights = np.bincount(region, belief.doubt)
    middles = _middles(coords, region)
    asked = asked - origin[None]
    order = np.argsort(-weights, kind="stable")
    chosen = order[(weights[order] > 0) & ~_asked_before(coords, region, middles, asked)[order]]
    questions = []
    for number in chosen[: max(count, 0)]:
        rows, middle = np.flatnonzero(region == number), coords[middles[number]]
        reach = np.linalg.norm(coords[rows] - middle[None], axis=1).max() + voxel_size / 2
        questions.append(
            Question(
                scene=scene,
                point=tuple(np.round(middle + origin, DIGITS).tolist()),
                radius=round(float(reach), DIGITS),
                weight=round(float(weights[number]), DIGITS),
                candidates=_likeliest(belief, rows),
            )
        )
    return questions


def _regions_of(cloud: CloudArrays, labels: Array | None, voxel_size: float) -> Array:
    if labels is None:
        labels = np.zeros(len(cloud.coords), np.int32)
    normals = surface_normals(cloud.coords, cloud.coords)
    return regions(cloud.coords, cloud.colors, normals, labels, voxel_size)


def _middles(coords: Array, region: Array) -> Array:
    """The voxel of each region that is nearest to its mean, [R] int64; the first of equals."""
    counts = np.bincount(region)
    sums = [np.bincount(region, column) for column in coords.T]
    means = np.stack(sums, axis=1) / counts[:, None]
    sq_dist = np.sum(np.square(coords - means[region]), axis=1)
    order = np.lexsort((sq_dist, region))
    return order[np.cumsum(counts) - counts]


def _asked_before(coords: Array, region: Array, middles: Array, asked: Array) -> Array:
    """Whether a question was asked in a region, or where it would be asked, [R] bool."""
    if not len(asked):
        return np.zeros(len(middles), bool)
    done = cKDTree(asked).query(coords[middles])[0] <= CLICK_RADIUS
    done[region[cKDTree(coords).query(asked)[1]]] = True
    return done


def _likeliest(belief: Belief, rows: Array) -> tuple[int, ...]:
    """Classes by their evidence in some voxels, those without any left out."""
    evidence = belief.shares[rows].sum(axis=0, dtype=np.float64)
    order = np.argsort(-evidence, kind="stable")
    return tuple(order[evidence[order] > 0].tolist())


def _question(
    path: pathlib.Path, row: CsvRow, scenes: Sequence[str], classes: Sequence[str]
) -> Question:
    names = [name for name in row.cells["candidates"].split(";") if name]
    for name in names:
        if name not in classes:
            raise UserError(
                f"{path}: line {row.line} names class {name!r}, which is none of this data set; "
                f"{suggest(name, classes)}"
            )
    x, y, z, radius, weight = (_number(path, row, name) for name in NUMBERS)
    candidates = tuple(list(classes).index(name) for name in names)
    return Question(find_scene(path, row, scenes), (x, y, z), radius, weight, candidates)


def _number(path: pathlib.Path, row: CsvRow, name: str) -> float:
    try:
        value = float(row.cells[name])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(
            f"{path}: line {row.line} has {row.cells[name]!r} for {name}; write a number, or make "
            "the list of questions again."
        )
    return value
