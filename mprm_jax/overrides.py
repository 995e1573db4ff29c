"""Changes single settings of a config by name, `section.field=value`, and explains them."""

import ast
import dataclasses
import difflib
import inspect
import textwrap
import typing
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from mprm_jax.config import About, Config, fits
from mprm_jax.errors import UserError
from mprm_jax.presets import PRESETS

_WIDTH, _INDENT = 100, 36  # columns of the explanation of settings, and where meanings begin


def override(config: Config, assignments: Sequence[str]) -> Config:
    """Returns `config` with each `section.field=value` applied; of one setting the last counts.

    A value is a Python literal; anything else is taken as a string. It is checked against the
    declared type, and every section checks itself again with all that was changed. Who names
    `optim.epochs` gets so many: `optim.min_steps` adds none, if it is not named as well.

    Raises:
      ValueError: an unknown setting, a missing `=`, a value of the wrong type or out of range.
    """
    names = {assignment.partition("=")[0] for assignment in assignments}
    if "optim.epochs" in names and "optim.min_steps" not in names:
        assignments = ["optim.min_steps=0", *assignments]
    changes: dict[str, dict[str, Any]] = {}
    for assignment in assignments:
        path, sep, text = assignment.partition("=")
        if not sep:
            raise UserError(f"--set {assignment}: expected section.field=value.")
        section, field, value = _value_of(path, text)
        changes.setdefault(section, {})[field] = value
    outside = changes.pop("", {})
    sections = {
        name: dataclasses.replace(getattr(config, name), **fields)
        for name, fields in changes.items()
    }
    return dataclasses.replace(config, **sections, **outside)


def setting_names(config: Config) -> list[str]:
    """Every setting as `section.field`, in order of declaration."""
    return [setting.name for setting in _settings(config)]


def setting_values(config: Config) -> dict[str, str]:
    """Every setting by its full name, as text."""
    return {setting.name: str(setting.value) for setting in _settings(config)}


def section_names() -> list[str]:
    """The sections of a config."""
    return [
        field.name for field in dataclasses.fields(Config) if dataclasses.is_dataclass(field.type)
    ]


def explain_settings(config: Config, stage: str, chosen: Sequence[str] = ()) -> str:
    """Meaning, unit, choices and value of settings, with their values in all presets of a stage.

    Args:
      config: whose values are shown.
      chosen: sections and settings; all if there are none.

    Raises:
      ValueError: one of them is unknown.
    """
    known = [*section_names(), *setting_names(config)]
    for word in chosen:
        if word not in known:
            raise UserError(f"--set help {word}: unknown; did you mean {_near(word, known)}?")
    presets = {name: setting_values(preset(stage)) for name, preset in PRESETS.items()}
    lines = [
        f"Settings of preset {config.preset}, stage {stage}.",
        "In brackets: unit, what is allowed, and the value in every preset where they differ.",
    ]
    section = ""
    for setting in _settings(config):
        if chosen and not {setting.name, setting.section} & {*chosen}:
            continue
        if setting.section != section:
            section = setting.section
            summary = inspect.getdoc(getattr(config, section)).partition("\n")[0]
            lines += ["", f"{section}: {summary}"]
        in_presets = {name: values[setting.name] for name, values in presets.items()}
        lines += _explained(setting, in_presets)
    return "\n".join(lines)


class _Setting(NamedTuple):
    section: str  # "" outside of any
    name: str  # full
    value: Any
    about: About


def _settings(config: Config, section: str = "") -> Iterator[_Setting]:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _settings(value, field.name)
        else:
            name = f"{section}.{field.name}".removeprefix(".")
            yield _Setting(section, name, value, field.metadata["about"])


def _explained(setting: _Setting, presets: dict[str, str]) -> list[str]:
    """Lines about a setting.

    Args:
      presets: its value in each of them.
    """
    about, differ = setting.about, len({*presets.values()}) > 1 and setting.name != "preset"
    details = [
        about.unit,
        about.allowed.text if about.allowed else "",
        " | ".join(about.choices),
        ", ".join(f"{name}: {value}" for name, value in presets.items()) if differ else "",
    ]
    text = "; ".join(filter(None, details))
    texts = (about.meaning, f"[{text}]" if text else "")
    lines = [line for text in texts for line in textwrap.wrap(text, _WIDTH - _INDENT)]
    shown = f"  {setting.name}={setting.value}"
    if len(shown) >= _INDENT:
        return [shown, *(" " * _INDENT + line for line in lines)]
    return [f"{shown:{_INDENT}}{lines[0]}", *(" " * _INDENT + line for line in lines[1:])]


def _value_of(path: str, text: str) -> tuple[str, str, Any]:
    """Section ("" outside of any), field and value of an assignment."""
    node, section, names = Config, "", path.split(".")
    for number, name in enumerate(names, start=1):
        hint, last = typing.get_type_hints(node).get(name), number == len(names)
        if hint is None or (not last and not dataclasses.is_dataclass(hint)):
            known = setting_names(Config())
            raise UserError(f"--set {path}: unknown setting; did you mean {_near(path, known)}?")
        if not dataclasses.is_dataclass(hint):
            return section, name, _parse(text, hint, path)
        node, section = hint, name
    inside = ", ".join(field.name for field in dataclasses.fields(node))
    raise UserError(f"--set {path}: name a field of this section: {inside}.")


def _near(path: str, names: Sequence[str]) -> str:
    """The names that somebody may have meant."""
    close = difflib.get_close_matches(path, names, n=3, cutoff=0.5)
    close = close or [name for name in names if name.startswith(path.split(".")[0] + ".")]
    return ", ".join(close or names)


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
