"""Configuration: a frozen dataclass from a TOML file, overridden by the environment.

The annotated dataclass is the reference: a field's `#` comment is its description. Unknown keys,
wrong types and missing values stop the start with the field's path. Secrets are never values here,
only paths of files. Nothing else in Ostraka reads the environment.

The environment is shared, the file is not. A variable that is a setting of this process overrides
the file; one of another process is that one's; one that is nearly a setting is a mistake, and stops
the start; any other is somebody else's, is told of and ignored.
"""

import dataclasses
import difflib
import inspect
import os
import re
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from common import faults

ENVIRONMENT_PREFIX = "OSTRAKA_"
NEARLY = 0.88  # likeness to a setting from which on a variable is a mistake
ALIKE = 0.7  # ... from which on it may be one: the setting is named beside it
ConfigT = TypeVar("ConfigT")


def _no_words(_ignored: str) -> None:
    """For callers that tell nobody."""


def load(
    kind: type[ConfigT],
    path: Path | None,
    others: Iterable[type[Any]] = (),
    tell: Callable[[str], None] = _no_words,
) -> ConfigT:
    """Read a configuration; OSTRAKA_SECTION__FIELD=value overrides a field.

    others   configurations of other processes, whose variables may be there too
    tell     gets one sentence if there are variables that are nobody's
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
    own, known = settings_of(kind), set[str]().union(*map(settings_of, (kind, *others)))
    strange = []
    for variable, text in sorted(os.environ.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        if name in own:
            _override(document, name, text)
        elif name not in known:
            strange.append(_strange(variable, name, known))
    if strange:
        tell(f"environment: ignored, because Ostraka has no such settings: {', '.join(strange)}")
    return build(kind, document)


def build(kind: type[ConfigT], document: Mapping[str, Any]) -> ConfigT:
    """Make a configuration from plain values. raises Invalid"""
    value: ConfigT = _section(kind, document, "")
    return value


def settings_of(kind: type[Any]) -> set[str]:
    """Names of all settings of a configuration, as variables have them: section__field."""
    names: set[str] = set()
    for name, hint in typing.get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            names |= {f"{name}__{inner}" for inner in settings_of(hint)}
        else:
            names.add(name)
    return names


def _strange(variable: str, name: str, known: set[str]) -> str:
    """A variable that is no setting, in words. raises Invalid if it was surely meant to be one"""
    if any(setting.startswith(f"{name}__") for setting in known):
        raise faults.Invalid(variable, "", f"is a section: {variable}__FIELD sets a field")
    alike = difflib.get_close_matches(name, sorted(known), 1, ALIKE)
    if not alike:
        return variable
    suggestion = f"did you mean {ENVIRONMENT_PREFIX}{alike[0].upper()}?"
    if difflib.SequenceMatcher(None, alike[0], name).ratio() >= NEARLY:
        raise faults.Invalid(variable, "", f"unknown setting; {suggestion}")
    return f"{variable} ({suggestion})"


def _override(document: dict[str, Any], name: str, text: str) -> None:
    *sections, last = name.split("__")
    target: Any = document
    for section in sections:
        target = target.setdefault(section, {})
        if not isinstance(target, dict):
            raise faults.Invalid(section, str(target), "must be a section")
    target[last] = _Text(text)


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
