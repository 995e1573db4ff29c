"""What page and server send each other: answers, refusals, and the checked parts of a question."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mprm_jax.errors import UserError
from mprm_jax.reading import parse_json
from mprm_jax.tagging.tag_files import Said
from mprm_jax.types import Array

JSON = "application/json"
MAX_SECONDS = 24 * 3600.0


class Answer(NamedTuple):
    """An answer of the server."""

    status: int  # of HTTP
    kind: str  # media type
    body: bytes


class RefusedError(UserError):
    """A question that cannot be answered, with the status of HTTP that says so."""

    def __init__(self, status: int, text: str, **more: Any):
        super().__init__(text)
        self.status, self.more = status, more


def to_json(values: Any, status: int = 200) -> Answer:
    """An answer for the page, in JSON."""
    text = json.dumps(values, ensure_ascii=False, allow_nan=False)
    return Answer(status, JSON, text.encode("utf-8", "replace"))


def read_body(body: bytes) -> dict[str, Any]:
    """The JSON object of a question."""
    try:
        values = parse_json(body)
    except ValueError:
        raise RefusedError(400, "the question is no JSON.") from None
    if not isinstance(values, dict):
        raise RefusedError(400, "the question is no JSON object.")
    return values


def part_of(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object in a body."""
    part = body.get(name)
    if not isinstance(part, dict):
        raise RefusedError(400, f"{name} is missing.")
    return part


def said_of_ball(body: Mapping[str, Any], classes: Sequence[str]) -> Said | None:
    """What a body says of a ball; None for nothing yet."""
    state = body.get("state")
    if state not in ("open", "tagged", "unsure"):
        raise RefusedError(400, f"state is {state!r:.40}; give open, tagged or unsure.")
    tags = named_classes(body.get("tags"), classes)
    if state == "open":
        return None
    return Said(frozenset(tags if state == "tagged" else ()), state == "unsure", seconds_of(body))


def said_of_scene(body: Mapping[str, Any], classes: Sequence[str]) -> Said | None:
    """What a body says of a whole scan; None for nothing."""
    if body.get("tags") is None:
        return None
    return Said(frozenset(named_classes(body["tags"], classes)), False, seconds_of(body))


def named_classes(indices: Any, classes: Sequence[str]) -> list[str]:
    """The names of classes that are given by their index."""
    if not isinstance(indices, list) or not all(
        type(index) is int and 0 <= index < len(classes) for index in indices
    ):
        raise RefusedError(400, f"give classes by their index, 0 to {len(classes) - 1}.")
    return [classes[index] for index in indices]


def numbers_of(body: Mapping[str, Any], name: str, count: int) -> Array:
    """The numbers of a body, [count] float64."""
    values = body.get(name)
    if (
        not isinstance(values, list)
        or len(values) != count
        or not all(type(value) in (int, float) and abs(value) < 1e9 for value in values)
    ):
        raise RefusedError(400, f"{name} is wrong; give {count} numbers.")
    return np.array(values, np.float64)


def seconds_of(body: Mapping[str, Any]) -> float | None:
    """The time a body tells; None without one."""
    seconds = body.get("seconds")
    if seconds is None:
        return None
    if type(seconds) not in (int, float) or not 0 <= seconds <= MAX_SECONDS:
        raise RefusedError(400, f"seconds are wrong; give a number of 0 to {MAX_SECONDS:g}.")
    return float(seconds) if math.isfinite(seconds) else None
