"""What deserves a look in labels that a network chose from tags, and the layers to look at it with.

Findings of all kinds are weighed in voxels that may be wrong, so that one list can hold them:

- `TAG_NOT_FOUND`, a tag that hardly a label of its ball follows: as many voxels as the class
  usually has in a ball tagged with it, but no more than may have it here, less those that do.
- `CLASS_WITHOUT_TAG`, a class that wins clearly over a ball's tags where every class is allowed:
  the share of belief by which it wins, summed over those voxels.
- `CANNOT_TELL`, a region whose candidates the network cannot tell apart: its doubt, summed over
  its voxels, as of questions.
- `HOLDS_NOTHING`, a region inside balls that share no tag there, so that it is known to hold no
  class: a tenth of its voxels, because that is seldom wrong.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from mprm_jax.evidence.weak_labels import WeakLabelArrays
from mprm_jax.geometry.balls import ball_rows
from mprm_jax.geometry.neighbors import make_tree
from mprm_jax.geometry.voxels import spread_to_points
from mprm_jax.store.exports import UNLABELED, Export, as_labels, as_stored
from mprm_jax.store.scenes import SceneStore
from mprm_jax.store.truth import has_labels, point_labels
from mprm_jax.tagging.doubt import Belief, Beliefs
from mprm_jax.tagging.questions import DIGITS, Question
from mprm_jax.tagging.regions import connected, near_pairs
from mprm_jax.types import Array

TAG_NOT_FOUND = "tag not found"
CLASS_WITHOUT_TAG = "class without tag"
CANNOT_TELL = "cannot tell apart"
HOLDS_NOTHING = "holds nothing"
KINDS = (TAG_NOT_FOUND, CLASS_WITHOUT_TAG, CANNOT_TELL, HOLDS_NOTHING)

FEW = 5  # voxels: of a class, too few to be an object of it; of a region, too few to look at
MANY = 20  # voxels where a class must win before it is said to be there
CLEARLY = 2.0  # times the belief in the best tag of the ball
SELDOM = 0.1  # weight of a voxel that no tag fits
LAYERS = {
    "pseudo": ("labels", "labels"),
    "before": ("labels", "labels before the CRF"),
    "changed": ("labels", "what the CRF changed"),
    "confidence": ("share", "confidence"),
    "candidates": ("share", "1 / number of candidates"),
    "truth": ("labels", "truth"),
    "errors": ("labels", "truth where the label is wrong"),
}
UNKNOWN = 255  # of a layer: no label, no share
FULL = 254  # a share of 1


class Finding(NamedTuple):
    """Something in a scene that deserves a look."""

    kind: str  # one of KINDS
    scene: str
    point: tuple[float, float, float]  # meters, frame of the scan
    radius: float  # meters, around the point
    classes: tuple[int, ...]  # it is about
    weight: float  # voxels that may be wrong
    text: str  # one sentence
    ball: int | None  # of the scene's weak labels, if it is about one


def find_findings(
    export: Export,
    store: SceneStore,
    questions: Sequence[Question] = (),
    labeled: Export | None = None,
) -> list[Finding]:
    """What deserves a look, worst first.

    Args:
      export: whose evidence counts, not refined.
      questions: of `find_questions`, to be listed among the findings.
      labeled: the export with the labels to look at, e.g. the refined one; `export` if None.

    Raises:
      ValueError: an export of other data, or a refined one in place of its source.
    """
    beliefs, labeled = Beliefs(store, export), labeled or export
    labeled.require_scenes(store)
    views = [_view(beliefs, labeled, scene) for scene in beliefs.scenes]
    usual = _usual_counts(views, len(store.classes))
    found = [_cannot_tell(question, store.classes) for question in questions]
    for view in views:
        found += _tags_not_found(view, usual, store.classes)
        found += _classes_without_tag(view, beliefs.unrestricted(view.scene), store.classes)
        found += _holding_nothing(view, store.manifest.settings.voxel_size)
    return sorted(found, key=lambda finding: -finding.weight)


def layers(
    export: Export, before: Export | None, store: SceneStore, scene: str
) -> dict[str, Array]:
    """What the page can show of a scene, [N] uint8 for each point of the scan in its order.

    Labels are classes, shares 0 to 254 for 0 to 1, both 255 where there is none; `LAYERS` tells
    them apart. What there is nothing to compare with is left out.

    Args:
      export: with the labels to look at.
      before: with those before the CRF; None if they are the same.
    """
    split, found = export.manifest.split, export.load(scene)
    counts = store.candidates(split, scene).allowed.sum(axis=1)
    confidence = _as_shares(found.confidence.astype(np.float32), found.label != UNLABELED)
    voxels = {
        "pseudo": found.label,
        "confidence": confidence,
        "candidates": _as_shares(1 / np.maximum(counts, 1), counts > 0),
    }
    if before is not None:
        voxels["before"] = before.load(scene).label
        changed = voxels["before"] != found.label
        voxels["changed"] = np.where(changed, found.label, UNKNOWN).astype(np.uint8)
    shown = {
        name: spread_to_points(x, store.point_voxel(split, scene)) for name, x in voxels.items()
    }
    if has_labels(store, split, scene):
        shown["truth"] = as_stored(point_labels(store, split, scene))
        is_wrong = (shown["truth"] != shown["pseudo"]) & (shown["truth"] != UNKNOWN)
        shown["errors"] = np.where(is_wrong, shown["truth"], UNKNOWN).astype(np.uint8)
    return {name: shown[name] for name in LAYERS if name in shown}


class _Part(NamedTuple):
    """A tagged ball of a scene; or all of it, if its tags are of the whole."""

    ball: int | None  # of the weak labels
    rows: Array  # voxels in it
    tags: Array  # [C] bool
    counts: Array  # [C] int64, voxels in it with the label


class _View(NamedTuple):
    """A scene as findings are looked for in it."""

    scene: str
    origin: Array  # [3] float64 meters
    coords: Array  # [V, 3] float32 meters
    belief: Belief
    weak: WeakLabelArrays
    parts: list[_Part]

    def at(self, rows: Array) -> dict[str, Any]:
        """The place of some voxels: the one nearest to their mean, and how far they reach."""
        coords = self.coords[rows].astype(np.float64)
        gaps = np.linalg.norm(coords - coords.mean(axis=0)[None], axis=1)
        middle = coords[gaps.argmin()]
        return self.place(middle, np.linalg.norm(coords - middle[None], axis=1).max())

    def at_part(self, part: _Part) -> dict[str, Any]:
        """The place of a ball."""
        if part.ball is None:
            return self.at(part.rows)
        return self.place(self.weak.centers[part.ball], self.weak.radii[part.ball])

    def place(self, point: Array, radius: float) -> dict[str, Any]:
        point = tuple(np.round(point + self.origin, DIGITS).tolist())
        return {"scene": self.scene, "point": point, "radius": round(float(radius), DIGITS)}


def _view(beliefs: Beliefs, labeled: Export, scene: str) -> _View:
    store, split = beliefs.store, beliefs.split
    coords, weak = store.voxel_cloud(split, scene).coords, store.weak_labels(split, scene)
    labels, tree = as_labels(labeled.load(scene).label), make_tree(coords)

    def part(ball: int | None, rows: Array, tags: Array) -> _Part:
        return _Part(ball, rows, tags, np.bincount(labels[rows] + 1, minlength=len(tags) + 1)[1:])

    # A scene that was tagged as a whole has a grid of balls, which all have its tags.
    if len(weak.tags) > 1 and np.all(weak.tags == weak.scene_tags[None]):
        parts = [part(None, np.arange(len(coords)), weak.scene_tags)]
    else:
        balls = zip(weak.centers, weak.radii, weak.tags, strict=True)
        parts = [
            part(ball, ball_rows(coords, tree, center, radius), tags)
            for ball, (center, radius, tags) in enumerate(balls)
        ]
    origin = np.array(store.info(split, scene).origin)
    return _View(scene, origin, coords, beliefs.of(scene), weak, parts)


def _usual_counts(views: Sequence[_View], num_classes: int) -> Array:
    """Voxels with the label of a class in a ball that is tagged with it and has some, [C]."""
    found: list[list[int]] = [[] for _ in range(num_classes)]
    for view in views:
        for part in view.parts:
            for c in np.flatnonzero(part.tags & (part.counts >= FEW)):
                found[c].append(int(part.counts[c]))
    medians = [np.median(counts) for counts in found if counts]
    elsewhere = float(np.mean(medians)) if medians else 0.0  # for classes that are found nowhere
    return np.array([np.median(counts) if counts else elsewhere for counts in found])


def _tags_not_found(view: _View, usual: Array, classes: Sequence[str]) -> Iterator[Finding]:
    for part in view.parts:
        possible = view.belief.allowed[part.rows].sum(axis=0)
        for c in np.flatnonzero(part.tags & (part.counts < FEW)).tolist():
            count = int(part.counts[c])
            what = "This scene" if part.ball is None else "This ball"
            found = "no voxel in it is" if not count else f"only {count} of its voxels are"
            yield Finding(
                kind=TAG_NOT_FOUND,
                **view.at_part(part),
                classes=(c,),
                weight=_weight(max(min(usual[c], possible[c]) - count, 0)),
                text=f"{what} is tagged with {classes[c]}, but {found} labeled so.",
                ball=part.ball,
            )


def _classes_without_tag(view: _View, shares: Array, classes: Sequence[str]) -> Iterator[Finding]:
    """Classes that win clearly where they may not be; each voxel once, in the fullest ball.

    Args:
      shares: [V, C], belief if all classes are candidates.
    """
    winner, reported = shares.argmax(axis=1), view.belief.certain.copy()
    found = [
        (part, c, rows, margins)
        for part in view.parts
        for c, rows, margins in _winners(part, shares, winner)
    ]
    for part, c, rows, margins in sorted(found, key=lambda entry: -len(entry[2])):
        fresh = ~reported[rows]
        if fresh.sum() < MANY:
            continue
        reported[rows] = True
        what = "this scene" if part.ball is None else "this ball"
        yield Finding(
            kind=CLASS_WITHOUT_TAG,
            **view.at(rows[fresh]),
            classes=(c,),
            weight=_weight(margins[fresh].sum()),
            text=f"{fresh.sum()} voxels of {what} look like {classes[c]}, which is not tagged.",
            ball=part.ball,
        )


def _winners(part: _Part, shares: Array, winner: Array) -> Iterator[tuple[int, Array, Array]]:
    """Classes that a ball is not tagged with: where each wins clearly, and by what share."""
    own, best = shares[part.rows], winner[part.rows]
    tagged = np.where(part.tags[None], own, 0).max(axis=1, initial=0)
    won = own.max(axis=1, initial=0)
    is_clear = ~part.tags[best] & (won > CLEARLY * tagged)
    for c in np.flatnonzero(np.bincount(best[is_clear], minlength=len(part.tags)) >= MANY):
        there = is_clear & (best == c)
        yield int(c), part.rows[there], (won - tagged)[there]


def _holding_nothing(view: _View, voxel_size: float) -> Iterator[Finding]:
    belief = view.belief
    rows = np.flatnonzero(belief.covered & ~belief.certain & ~belief.allowed.any(axis=1))
    if not len(rows):
        return
    pieces = connected(near_pairs(view.coords[rows], voxel_size), len(rows))
    for piece in np.flatnonzero(np.bincount(pieces) >= FEW):
        inside = rows[pieces == piece]
        yield Finding(
            kind=HOLDS_NOTHING,
            **view.at(inside),
            classes=(),
            weight=_weight(SELDOM * len(inside)),
            text=f"The balls around these {len(inside)} voxels share no tag: known to hold none "
            "of the classes.",
            ball=None,
        )


def _cannot_tell(question: Question, classes: Sequence[str]) -> Finding:
    names = [classes[c] for c in question.candidates[:2]]
    what = f"whether this is {' or '.join(names)}" if names else "what this is"
    return Finding(
        kind=CANNOT_TELL,
        scene=question.scene,
        point=question.point,
        radius=question.radius,
        classes=question.candidates,
        weight=question.weight,
        text=f"The network cannot tell {what}.",
        ball=None,
    )


def _weight(voxels: float) -> float:
    return round(float(voxels), DIGITS)


def _as_shares(values: Array, known: Array) -> Array:
    """Shares in [0, 1] as bytes."""
    return np.where(known, np.round(values * FULL), UNKNOWN).astype(np.uint8)
