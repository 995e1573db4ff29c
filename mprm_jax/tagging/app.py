"""What the page asks, and what it is answered; independent of how the question came here."""

import importlib.resources
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mprm_jax.errors import UserError, explain
from mprm_jax.evidence.candidates import CLICK_RADIUS
from mprm_jax.evidence.clicks import ANSWERS, NO, YES
from mprm_jax.evidence.people import STRAY
from mprm_jax.tagging.balls_to_tag import BallsToTag, helpful_order, offered_balls
from mprm_jax.tagging.class_colors import class_colors
from mprm_jax.tagging.helpful_balls import Balls
from mprm_jax.tagging.looks import Look
from mprm_jax.tagging.messages import (
    JSON,
    Answer,
    RefusedError,
    named_classes,
    numbers_of,
    part_of,
    read_body,
    said_of_ball,
    said_of_scene,
    seconds_of,
    to_json,
)
from mprm_jax.tagging.minutes import cost_of, count_minutes
from mprm_jax.tagging.review import LAYERS
from mprm_jax.tagging.scans_shown import (
    CHUNK_POINTS,
    ShownScan,
    ShownScans,
    chunk_bytes,
    points_of_ball,
)
from mprm_jax.tagging.tag_files import (
    SAME_BALL,
    ChangedError,
    Evidence,
    Said,
    TagFiles,
    click_ids,
)
from mprm_jax.types import Array
from mprm_jax.writing import FailedWriteError

# Of the page: what it answers itself, see page/main.js and those beside it.
TAKEN_KEYS = "chmnstux"
CLASS_KEYS = "1234567890" + "".join(
    key for key in "abcdefghijklmnopqrstuvwxyz" if key not in TAKEN_KEYS
)
BINARY = "application/octet-stream"
_PAGE_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": JSON,
    ".txt": "text/plain; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}


class Wishes(NamedTuple):
    """How the page is to be."""

    data: str  # the data set as the user named it
    max_points: int  # of a scan that are shown
    radius: float  # meters, of balls that are not of the grid
    whole_scenes: bool = False  # no balls are offered
    num_balls: int | None = None  # so few that cover a scan; None for the grid of the paper
    helpful: bool = False  # the most telling balls first
    mode: str = "tag"  # or "review", "ask": what the page begins with
    readonly: bool = False
    notes: tuple[str, ...] = ()  # lines for the person


class App:
    """The state of one `mprm tag`: scans, files, and the balls that were shown."""

    def __init__(
        self, scans: ShownScans, files: TagFiles, wishes: Wishes, look: Look | None = None
    ):
        """Begins to tag.

        Args:
          look: what a run made of the scans, if that is to be seen.
        """
        self._scans, self._files, self._wishes, self._look = scans, files, wishes, look
        self._balls: dict[int, BallsToTag] = {}  # of scans that were opened once
        self._told: tuple[str, ...] = ()  # classes whose indices the page has
        self._finding = threading.Lock()

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        """Answers a question; what went wrong is an answer, too.

        Args:
          path: behind the token, without a slash in front.
        """
        try:
            return self._answer(method, path, body)
        except RefusedError as error:
            return to_json(error.more | {"error": str(error)}, error.status)
        except ChangedError as error:
            return to_json({"error": str(error)}, 409)
        except FailedWriteError as error:
            return to_json({"error": f"{error} Nothing was saved."}, 507)
        except UserError as error:
            return to_json({"error": str(error)}, 422)
        except OSError as error:  # such as a table that another program keeps to itself
            return to_json({"error": explain(error)}, 500)

    def _answer(self, method: str, path: str, body: bytes) -> Answer:
        if method == "GET" and not path.startswith("api/"):
            return page_file(path)
        for wanted, pattern, act in _ROUTES:
            match = re.fullmatch(pattern, path, re.ASCII)
            if match and wanted == method:
                values = {
                    name: text if name == "name" else int(text)
                    for name, text in match.groupdict().items()
                }
                if method == "POST" and self._wishes.readonly:
                    raise RefusedError(403, "this page is for looking only: nothing is saved.")
                found = (
                    act(self, **values) if method == "GET" else act(self, read_body(body), **values)
                )
                return found if isinstance(found, Answer) else to_json(found)
        raise RefusedError(404, f"there is no {method} {path[:80]!r}.")

    def state(self) -> dict[str, Any]:
        """What the page shows beside a scan."""
        evidence = self._files.read()
        self._told = evidence.classes
        return {
            "mode": self._wishes.mode,
            "data": self._wishes.data,
            "readonly": self._wishes.readonly,
            "helpful": self._wishes.helpful,  # the order of the balls changes with each answer
            "whole_scenes": self._wishes.whole_scenes,
            "class_keys": CLASS_KEYS,
            "classes": self._classes(evidence),
            "scans": [self._summary(index, evidence) for index in range(len(self._scans.keys))],
            "report": count_minutes(evidence, [name for _, name in self._scans.keys]).values,
            "notes": [*self._wishes.notes],
        }

    def scan(self, index: int) -> dict[str, Any]:
        """One scan without its points."""
        shown, evidence = self._open(index), self._files.read()
        known = self._known(index, shown, evidence)
        if not self._wishes.readonly:
            self._scans.read_ahead(index + 1)
        num_shown = min(len(shown.coords), self._wishes.max_points)
        return {
            "index": index,
            "name": self._scans.keys[index][1],
            "total_points": len(shown.coords),
            "shown_points": num_shown,
            "chunk_points": CHUNK_POINTS,
            "has_colors": shown.has_colors,
            "bounds": shown.bounds.tolist(),
            "origin": shown.origin.tolist(),
            "balls": self._balls_in_order(index, shown, evidence),
            "scene_tags": self._scene_tags(index, evidence),
            "clicks": self._clicks(index, known, evidence),
            "questions": self._questions(index, known, evidence),
            "findings": self._findings(index, known),
            "layers": self._layers(index),
        }

    def points(self, index: int, chunk: int) -> Answer:
        """A chunk of the points that are shown."""
        shown, rows = self._open(index), self._chunk(index, chunk)
        return Answer(200, BINARY, chunk_bytes(shown.coords[rows], shown.colors[rows]))

    def ball_points(self, index: int, ball: int) -> Answer:
        """The points of a ball, more of them than where the whole scan is shown."""
        shown = self._open(index)
        center, radius = self._ball(index, ball)
        rows = points_of_ball(shown, center, radius)
        return Answer(200, BINARY, chunk_bytes(shown.coords[rows], shown.colors[rows]))

    def layer(self, index: int, name: str, chunk: int) -> Answer:
        """Labels or shares of a chunk of the points that are shown."""
        shown, rows = self._open(index), self._chunk(index, chunk)
        found = self._look.layers(self._name(index)) if self._look else {}
        if name not in found:
            raise RefusedError(404, f"this scan has no layer {name!r}.")
        values = found[name]
        if len(values) != shown.num_points:
            raise RefusedError(
                422,
                f"the labels are of {len(values)} points, the scan has {shown.num_points}: it "
                "changed since; prepare, train and export again.",
            )
        return Answer(200, BINARY, values[shown.rows[rows]].tobytes())

    def say_ball(self, body: Mapping[str, Any], index: int, ball: int) -> dict[str, Any]:
        """Writes what a person says of a ball."""
        classes = self._class_names()
        center, radius = self._ball(index, ball)
        in_file = self._balls[index].in_file([*center, radius])
        said, before = said_of_ball(body, classes), said_of_ball(part_of(body, "before"), classes)
        try:
            self._files.say(self._name(index), in_file, said, before)
        except ChangedError as error:
            raise RefusedError(409, str(error), ball=self._ball_answer(index, ball)) from error
        return {"scan": self._now(index), "ball": self._ball_answer(index, ball)}

    def say_scene(self, body: Mapping[str, Any], index: int) -> dict[str, Any]:
        """Writes the tags of a whole scan."""
        self._index(index)
        classes = self._class_names()
        said = said_of_scene(body, classes)
        if body.get("before") is not None:
            before = said_of_scene(part_of(body, "before"), classes)
        else:
            before = self._unsure_scene(index)
        if said is not None and not said.tags:
            raise RefusedError(400, "a whole scan holds at least one class; tick it.")
        try:
            self._files.say(self._name(index), None, said, before)
        except ChangedError as error:
            tags = self._scene_tags(index, self._files.read())
            raise RefusedError(409, str(error), scene_tags=tags) from error
        return {
            "scan": self._now(index),
            "scene_tags": self._scene_tags(index, self._files.read()),
        }

    def click(self, body: Mapping[str, Any], index: int) -> dict[str, Any]:
        """Writes what a person says of a point."""
        known, classes = self._opened(index), self._class_names()
        point, answer = numbers_of(body, "point", 3), body.get("answer")
        if answer not in ANSWERS:
            raise RefusedError(400, f"answer is {answer!r:.40}; give one of {', '.join(ANSWERS)}.")
        low, high = self._open(index).bounds
        if np.any((point < low - STRAY) | (point > high + STRAY)):
            raise RefusedError(422, f"this point is more than {STRAY} m from the scan.")
        name = None
        if answer in (YES, NO):
            name = named_classes([body.get("class")], classes)[0]
        in_file = known.in_file(point)
        made = self._files.click(self._name(index), in_file, name, answer, seconds_of(body))
        evidence = self._files.read()
        clicks = {click["id"]: click for click in self._clicks(index, known, evidence)}
        return {"scan": self._summary(index, evidence), "click": clicks.get(made)}

    def unclick(self, body: Mapping[str, Any], index: int) -> dict[str, Any]:
        """Takes a click back."""
        self._index(index)
        if not isinstance(body.get("id"), str):
            raise RefusedError(400, "id is missing; give that of a click.")
        self._files.unclick(self._name(index), body["id"])
        return {"scan": self._now(index)}

    def add_class(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Adds a class."""
        if not isinstance(body.get("name"), str):
            raise RefusedError(400, "name is missing; give that of a class.")
        self._files.add_class(body["name"])
        return {"classes": self._classes(self._files.read())}

    def _class_names(self) -> tuple[str, ...]:
        """The classes, in which the page means those of its indices still."""
        classes = self._files.read().classes
        if classes[: len(self._told)] != self._told:
            raise RefusedError(409, "the list of classes was changed elsewhere; reload the page.")
        return classes

    def _index(self, index: int) -> int:
        if index >= len(self._scans.keys):
            raise RefusedError(404, f"there is no scan {index}.")
        return index

    def _name(self, index: int) -> str:
        return self._scans.keys[index][1]

    def _open(self, index: int) -> ShownScan:
        return self._scans.open(self._index(index))

    def _chunk(self, index: int, chunk: int) -> slice:
        """Rows of a chunk of the points that are shown."""
        count = min(len(self._open(index).coords), self._wishes.max_points)
        rows = slice(chunk * CHUNK_POINTS, min((chunk + 1) * CHUNK_POINTS, count))
        if rows.start >= count:
            raise RefusedError(404, f"this scan has no chunk {chunk}.")
        return rows

    def _opened(self, index: int) -> BallsToTag:
        """The balls of a scan, which is opened for it if it never was."""
        if index not in self._balls:
            self._known(index, self._open(index), self._files.read())
        return self._balls[self._index(index)]

    def _known(self, index: int, shown: ShownScan, evidence: Evidence) -> BallsToTag:
        """The balls of a scan: of the grid, and those that only the files have."""
        with self._finding:
            if index not in self._balls:
                balls = Balls(np.zeros((0, 3)), np.zeros(0))
                if not self._wishes.whole_scenes:
                    balls = offered_balls(shown, self._wishes.num_balls, self._wishes.radius)
                self._balls[index] = BallsToTag(balls, shown.origin, self._files.scale)
            known = self._balls[index]
            given = [row.ball for row, _ in evidence.said(self._name(index)) if row.ball]
            known.add(given, self._files.tolerance)
            return known

    def _ball(self, index: int, ball: int) -> tuple[Array, float]:
        """Center and radius in the shown frame."""
        known = self._opened(index)
        if ball >= len(known.rows):
            raise RefusedError(404, f"this scan has no ball {ball}.")
        return known.rows[ball, :3], float(known.rows[ball, 3])

    def _ball_answer(self, index: int, ball: int) -> dict[str, Any]:
        return self._ball_answers(index, self._balls[index], self._files.read())[ball]

    def _ball_answers(
        self, index: int, known: BallsToTag, evidence: Evidence
    ) -> list[dict[str, Any]]:
        said = known.said(evidence, self._name(index), self._files.tolerance)
        return [
            {
                "id": ball,
                "center": row[:3].tolist(),
                "radius": float(row[3]),
                "state": "open" if what is None else "unsure" if what.unsure else "tagged",
                "tags": _indices(what, evidence.classes),
                "seconds": (what.seconds or 0.0) if what else 0.0,
            }
            for ball, (row, what) in enumerate(zip(known.rows, said, strict=True))
        ]

    def _unsure_scene(self, index: int) -> Said | None:
        """What somebody typed who was not sure of a whole scan: for the page, no tags."""
        found = self._files.read().of_ball(self._name(index), None, self._files.tolerance)
        return found[1] if found is not None and found[1].unsure else None

    def _balls_in_order(
        self, index: int, shown: ShownScan, evidence: Evidence
    ) -> list[dict[str, Any]]:
        """The balls in the order in which they are to be tagged."""
        known = self._balls[index]
        answers = self._ball_answers(index, known, evidence)
        if not self._wishes.helpful or not answers:
            return answers
        said = known.said(evidence, self._name(index), self._files.tolerance)
        confusion = self._look.confusion if self._look else None
        order = helpful_order(shown, known.balls, said, evidence.classes, confusion)
        return [answers[ball] for ball in order]

    def _scene_tags(self, index: int, evidence: Evidence) -> dict[str, Any] | None:
        found = evidence.of_ball(self._name(index), None, self._files.tolerance)
        if found is None or found[1].unsure:
            return None
        return {
            "tags": _indices(found[1], evidence.classes),
            "seconds": found[1].seconds or 0.0,
        }

    def _clicks(self, index: int, known: BallsToTag, evidence: Evidence) -> list[dict[str, Any]]:
        rows = evidence.clicks.rows.get(self._name(index), ())
        return [
            {
                "id": made,
                "point": known.in_shown(row.point).tolist(),
                "class": evidence.classes.index(row.class_name) if row.class_name else None,
                "answer": row.answer,
                "seconds": row.seconds or 0.0,
            }
            for made, row in zip(click_ids(rows), rows, strict=True)
        ]

    def _questions(self, index: int, known: BallsToTag, evidence: Evidence) -> list[dict[str, Any]]:
        if self._look is None:
            return []
        name = self._name(index)
        answered = self._answered(index, evidence)
        return [
            {
                "id": number,
                "point": (np.array(question.point) - known.origin).tolist(),
                "radius": question.radius,
                "weight": question.weight,
                "candidates": [*question.candidates],
                "answered": bool(is_answered),
            }
            for number, (question, is_answered) in enumerate(
                zip(self._look.questions.get(name, ()), answered, strict=True)
            )
        ]

    def _answered(self, index: int, evidence: Evidence) -> list[bool]:
        """Whether somebody clicked where each question of a scan is asked."""
        name = self._name(index)
        questions = self._look.questions.get(name, ()) if self._look else ()
        clicks = evidence.clicks.rows.get(name, ())
        points = np.array([row.point for row in clicks]).reshape(-1, 3) * self._files.scale
        asked = np.array([question.point for question in questions]).reshape(-1, 1, 3)
        apart = np.linalg.norm(asked - points[None], axis=2)
        return (apart.min(axis=1, initial=np.inf) <= CLICK_RADIUS).tolist()

    def _findings(self, index: int, known: BallsToTag) -> list[dict[str, Any]]:
        name = self._name(index)
        return [
            {
                "id": number,
                "kind": finding.kind,
                "text": finding.text,
                "point": (np.array(finding.point) - known.origin).tolist(),
                "radius": finding.radius,
                "classes": [*finding.classes],
                "weight": finding.weight,
                "ball": self._ball_of(name, finding.ball, known),
            }
            for number, finding in enumerate(
                self._look.findings.get(name, ()) if self._look else ()
            )
        ]

    def _ball_of(self, name: str, ball: int | None, known: BallsToTag) -> int | None:
        """The number that a ball of the store has here; None if it is not offered."""
        if ball is None:
            return None
        row = self._look.ball(name, ball)
        return known.find(row - np.append(known.origin, 0.0), SAME_BALL)

    def _layers(self, index: int) -> list[dict[str, str]]:
        found = self._look.layers(self._name(index)) if self._look else {}
        return [{"name": name, "kind": LAYERS[name][0], "title": LAYERS[name][1]} for name in found]

    def _now(self, index: int) -> dict[str, Any]:
        return self._summary(index, self._files.read())

    def _summary(self, index: int, evidence: Evidence) -> dict[str, Any]:
        split, name = self._scans.keys[index]
        known, cost = self._balls.get(index), cost_of(evidence, name)
        return {
            "index": index,
            "name": name,
            "split": split,
            "balls": None if known is None else len(known.rows),  # not known before it was read
            "done": cost.balls,
            "unsure": cost.unsure,
            "clicks": cost.clicks,
            "scene_tags": cost.scenes > 0,
            "seconds": cost.seconds,
            "questions": self._answered(index, evidence).count(False),
            "findings": len(self._look.findings.get(name, ())) if self._look else 0,
            "broken": self._scans.broken.get(index),
        }

    def _classes(self, evidence: Evidence) -> list[dict[str, Any]]:
        names = evidence.classes
        keys = [*CLASS_KEYS, *[""] * len(names)][: len(names)]
        return [
            {"name": name, "color": color, "key": key}
            for name, color, key in zip(names, class_colors(len(names)), keys, strict=True)
        ]


def page_file(path: str) -> Answer:
    """One of the fixed files of the page, by its name; "" is the page itself.

    Raises:
      RefusedError: there is no such file.
    """
    folder = importlib.resources.files("mprm_jax.tagging") / "page"
    files = {f"page/{file.name}": file for file in folder.iterdir() if file.is_file()}
    file = files.get("page/index.html" if path in ("", "index.html") else path)
    kind = _PAGE_KINDS.get(path[path.rfind(".") :] if "." in path else ".html")
    if file is None or kind is None:
        raise RefusedError(404, f"there is no {path[:80]!r}.")
    return Answer(200, kind, file.read_bytes())


def _indices(said: Said | None, classes: Sequence[str]) -> list[int]:
    return [] if said is None else sorted(map(classes.index, said.tags))


_ROUTES: tuple[tuple[str, str, Callable[..., Any]], ...] = (
    ("GET", r"api/state", App.state),
    ("GET", r"api/scan/(?P<index>\d{1,6})", App.scan),
    ("GET", r"api/scan/(?P<index>\d{1,6})/points/(?P<chunk>\d{1,6})", App.points),
    ("GET", r"api/scan/(?P<index>\d{1,6})/ball/(?P<ball>\d{1,6})", App.ball_points),
    (
        "GET",
        r"api/scan/(?P<index>\d{1,6})/layer/(?P<name>[a-z]{1,20})/(?P<chunk>\d{1,6})",
        App.layer,
    ),
    ("POST", r"api/scan/(?P<index>\d{1,6})/ball/(?P<ball>\d{1,6})", App.say_ball),
    ("POST", r"api/scan/(?P<index>\d{1,6})/scene", App.say_scene),
    ("POST", r"api/scan/(?P<index>\d{1,6})/click", App.click),
    ("POST", r"api/scan/(?P<index>\d{1,6})/unclick", App.unclick),
    ("POST", r"api/classes", App.add_class),
)
