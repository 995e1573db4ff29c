"""Reads JSON that anybody may have written."""

import json
import pathlib
from typing import Any


def read_json(path: pathlib.Path) -> Any:
    """The values in a file.

    Raises:
      ValueError: it holds no JSON, or some that is nested deeper than Python follows.
      OSError: it cannot be read.
    """
    return parse_json(path.read_text(encoding="utf-8"))


def parse_json(text: str | bytes) -> Any:
    """The values of a text; errors as of `read_json`."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
