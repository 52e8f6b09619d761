"""Configuration: a frozen dataclass from a TOML file, overridden by the environment.

The annotated dataclass is the reference: a field's `#` comment is its description. Unknown keys,
wrong types and missing values stop the start with the field's path. Secrets are never values here,
only paths of files. Nothing else in Ostraka reads the environment.
"""

import dataclasses
import inspect
import os
import re
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from common import faults

ENVIRONMENT_PREFIX = "OSTRAKA_"
ConfigT = TypeVar("ConfigT")


def load(kind: type[ConfigT], path: Path | None) -> ConfigT:
    """Read a configuration; OSTRAKA_SECTION__FIELD=value overrides a field.

    raises   Invalid with the field's path
    """
    document: dict[str, Any] = {}
    if path is not None:
        try:
            document = tomllib.loads(path.read_text())
        except OSError as error:
            raise faults.Invalid("config", str(path), error.strerror or "unreadable") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise faults.Invalid("config", str(path), str(error)) from error
    return build(kind, _overridden(document, os.environ))


def build(kind: type[ConfigT], document: Mapping[str, Any]) -> ConfigT:
    """Make a configuration from plain values. raises Invalid"""
    value: ConfigT = _section(kind, document, "")
    return value


def _overridden(document: dict[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    for name, text in environment.items():
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        *sections, last = name[len(ENVIRONMENT_PREFIX) :].lower().split("__")
        target = document
        for section in sections:
            target = target.setdefault(section, {})
        target[last] = _Text(text)
    return document


class _Text(str):
    """A value of the environment: text that stands for whatever type the field has."""


def _section(kind: type[Any], document: Mapping[str, Any], path: str) -> Any:
    fields = {field.name: field for field in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for name, value in document.items():
        where = f"{path}{name}"
        if name not in fields:
            raise faults.Invalid(where, str(value), "unknown setting")
        values[name] = _value(hints[name], value, where)
    for name, field in fields.items():
        is_optional = (
            field.default is not dataclasses.MISSING
            or field.default_factory is not dataclasses.MISSING
        )
        if name not in values and not is_optional:
            raise faults.Invalid(f"{path}{name}", "", "missing setting")
    try:
        return kind(**values)
    except ValueError as error:
        raise faults.Invalid(path.rstrip("."), "", str(error)) from error


def _value(hint: Any, value: Any, where: str) -> Any:
    if get_origin(hint) in (types.UnionType, typing.Union):
        hint = next(part for part in get_args(hint) if part is not type(None))
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, Mapping):
            raise faults.Invalid(where, str(value), "must be a section")
        return _section(hint, value, f"{where}.")
    if get_origin(hint) is tuple:
        item = get_args(hint)[0]
        items = value.split(",") if isinstance(value, _Text) else value
        if not isinstance(items, list):
            raise faults.Invalid(where, str(value), "must be a list")
        return tuple(
            _value(item, _Text(part.strip()) if isinstance(value, _Text) else part, where)
            for part in items
            if part != ""
        )
    if get_origin(hint) is typing.Literal:
        if value not in get_args(hint):
            choices = ", ".join(map(str, get_args(hint)))
            raise faults.Invalid(where, str(value), f"must be one of {choices}")
        return str(value)
    return _scalar(hint, value, where)


def _scalar(hint: type[Any], value: Any, where: str) -> Any:
    if isinstance(value, _Text):
        return _from_text(hint, value, where)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise faults.Invalid(where, str(value), f"must be {hint.__name__}")
    return value


def _from_text(hint: type[Any], text: str, where: str) -> Any:
    if hint is bool:
        if text.lower() not in ("true", "false"):
            raise faults.Invalid(where, text, "must be true or false")
        return text.lower() == "true"
    try:
        return hint(text)
    except ValueError as error:
        raise faults.Invalid(where, text, f"must be {hint.__name__}") from error


_FIELD_LINE = re.compile(r"^    (\w+): ([^=#]+?)(?: = (.*?))?(?:\s+# (.*))?$")


def describe(kind: type[Any]) -> str:
    """Render the settings of a configuration as a Markdown table, from its source."""
    lines = [inspect.getdoc(kind) or "", "", "| setting | type | default | meaning |"]
    lines.append("|---|---|---|---|")
    hints = typing.get_type_hints(kind)
    nested: list[tuple[str, type[Any]]] = []
    for line in inspect.getsource(kind).splitlines():
        found = _FIELD_LINE.match(line)
        if found is None or found[1] not in hints:
            continue
        name, hint, default, meaning = found.groups()
        if dataclasses.is_dataclass(hints[name]):
            nested.append((name, hints[name]))
            continue
        lines.append(
            f"| `{name}` | {hint.replace('|', 'or')} | {default or ''} | {meaning or ''} |"
        )
    for name, section in nested:
        lines += ["", f"**[{name}]** {describe(section)}"]
    return "\n".join(lines)
