"""What a command says at its end: JSON values for programs, a text for people."""

from typing import Any, NamedTuple


class Report(NamedTuple):
    """The result of a command."""

    values: dict[str, Any]  # JSON
    text: str
