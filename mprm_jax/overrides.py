"""Changes single settings of a config by name: `section.field=value`."""

import ast
import dataclasses
import difflib
import functools
import typing
from collections.abc import Sequence
from typing import Any

from mprm_jax.config import Config, fits
from mprm_jax.errors import UserError


def override(config: Config, assignments: Sequence[str]) -> Config:
    """Returns `config` with each `section.field=value` applied, left to right.

    A value is a Python literal; anything else is taken as a string. It is checked against the
    declared type, and every section checks itself again.

    Raises:
      ValueError: an unknown setting, a missing `=`, a value of the wrong type or out of range.
    """
    for assignment in assignments:
        path, sep, text = assignment.partition("=")
        if not sep:
            raise UserError(f"--set {assignment}: expected section.field=value.")
        config = _assign(config, path.split("."), text, path)
    return config


def setting_names(config: Any, prefix: str = "") -> list[str]:
    """Every setting as `section.field`, in order of declaration."""
    names = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            names += setting_names(value, f"{prefix}{field.name}.")
        else:
            names.append(prefix + field.name)
    return names


def setting_values(config: Config) -> dict[str, str]:
    """Every setting by its full name, as text."""

    def value(name: str) -> str:
        return str(functools.reduce(getattr, name.split("."), config))

    return {name: value(name) for name in setting_names(config)}


def _assign(node: Any, keys: list[str], text: str, path: str) -> Any:
    hints = typing.get_type_hints(type(node))
    key, *rest = keys
    is_section = dataclasses.is_dataclass(hints.get(key))
    if key not in hints or (rest and not is_section):
        raise UserError(_unknown(path))
    if is_section:
        if not rest:
            inside = ", ".join(field.name for field in dataclasses.fields(hints[key]))
            raise UserError(f"--set {path}: name a field of this section: {inside}.")
        value = _assign(getattr(node, key), rest, text, path)
    else:
        value = _parse(text, hints[key], path)
    return dataclasses.replace(node, **{key: value})


def _unknown(path: str) -> str:
    names = setting_names(Config())
    close = difflib.get_close_matches(path, names, n=3, cutoff=0.5)
    close = close or [name for name in names if name.startswith(path.split(".")[0] + ".")] or names
    return f"--set {path}: unknown setting; did you mean {', '.join(close)}?"


def _parse(text: str, kind: Any, path: str) -> Any:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if fits(value, kind):
        return float(value) if kind is float else value
    # The words of a tuple setting, or its one entry, may be written without parentheses.
    if typing.get_origin(kind) is tuple:
        entries = tuple(value.split(",")) if isinstance(value, str) else (value,)
        if fits(entries, kind):
            return entries
    wanted = kind.__name__ if isinstance(kind, type) else kind
    raise UserError(f"--set {path}: wants {wanted}, got {text!r}.")
