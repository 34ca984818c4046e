"""Settings: small frozen dataclasses, each beside the part it sets, and their way to and from TOML.

A settings class checks its values in `__post_init__`, so an object that exists can work. Nothing
edits a settings object; `dataclasses.replace` makes a changed one, which is checked again.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import re
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from semigpt.errors import SettingsError
from semigpt.language import N_, _

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = [
    "check_at_most",
    "check_choice",
    "check_finite",
    "check_positive",
    "from_table",
    "nearest",
    "parse_value",
    "read_toml",
    "to_table",
    "write_toml",
]

T = TypeVar("T", bound="DataclassInstance")
LARGEST_TOML = 1 << 20  # bytes; ours have two thousand
LARGEST_INTEGER = 2**63  # what C and TOML hold
# How an error message calls a type.
TYPE_NAMES = {
    int: N_("a whole number"),
    float: N_("a number"),
    str: N_("text"),
    bool: N_("true or false"),
}


def check_positive(owner: object, *names: str) -> None:
    """Raise SettingsError unless each named field of `owner` is None or finite and more than 0."""
    for name in names:
        value = getattr(owner, name)
        if value is not None and not value > 0:
            raise SettingsError(
                _("{name} must be more than 0, not {value}").format(name=name, value=value)
            )
        if value == math.inf:
            raise SettingsError(
                _("{name} must be a finite number, not {value}").format(name=name, value=value)
            )


def check_at_most(owner: object, **limits: float) -> None:
    """Raise SettingsError where a field of this name is there and more than its limit."""
    for name, limit in limits.items():
        value = getattr(owner, name, None)
        if value is not None and value > limit:
            raise SettingsError(
                _("{name} must be at most {limit:,}, not {value:,}").format(
                    name=name, limit=limit, value=value
                )
            )


def check_finite(owner: DataclassInstance) -> None:
    """Raise SettingsError where a number among the fields of a settings object is not finite."""
    for field in fields(owner):
        value = getattr(owner, field.name)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, float) and not math.isfinite(number):
                raise SettingsError(
                    _("{name} must be a finite number, not {value}").format(
                        name=field.name, value=value
                    )
                )


def check_choice(name: str, value: object, choices: Iterable[object]) -> None:
    """Raise SettingsError unless `value` is one of `choices`."""
    known = list(choices)
    if value not in known:
        raise SettingsError(
            _("{name} must be one of {known}, not {value!r}").format(
                name=name, known=", ".join(map(str, known)), value=value
            )
        )


def nearest(name: str, known: Iterable[str], *, listed: bool = True) -> str:
    """The end of an error message: the closest known spelling, or else, if `listed`, all."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return _("did you mean {name!r}?").format(name=close[0])
    return _("known are: {names}").format(names=", ".join(known)) if listed else ""


def from_table(cls: type[T], table: Mapping[str, Any], where: str) -> T:
    """An instance of the settings class `cls` from a table of plain values.

    Raises SettingsError, naming `where`, for an unknown key, a missing one, or a value of the wrong
    type.
    """
    if not isinstance(table, Mapping):
        raise SettingsError(_("{where} holds no table of settings").format(where=where))
    hints = typing.get_type_hints(cls)
    known = {field.name: field for field in fields(cls)}
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            raise SettingsError(
                _("unknown key {key!r} in {where}: {hint}").format(
                    key=key, where=where, hint=nearest(key, known)
                )
            )
        values[key] = _convert(
            value, hints[key], _("{key} in {where}").format(key=key, where=where)
        )
    missing = [
        name
        for name, field in known.items()
        if name not in values and field.default is MISSING and field.default_factory is MISSING
    ]
    if missing:
        raise SettingsError(
            _("{where} lacks {missing}, which {kind} needs").format(
                where=where, missing=", ".join(missing), kind=cls.__name__
            )
        )
    return cls(**values)


def _convert(value: Any, hint: Any, where: str) -> Any:
    """`value` as the type that `hint` says; an int will do for a float, a list for a tuple."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        options = [option for option in typing.get_args(hint) if option is not type(None)]
        if value is None and len(options) < len(typing.get_args(hint)):
            return None
        for option in options[:-1]:
            with contextlib.suppress(SettingsError):
                return _convert(value, option, where)
        return _convert(value, options[-1], where)
    if origin is typing.Literal:
        check_choice(where, value, typing.get_args(hint))
        return value
    if origin is tuple:
        parts = typing.get_args(hint)
        if not isinstance(value, (list, tuple)) or len(value) != len(parts):
            raise SettingsError(
                _("{where} must be {count} values, not {value!r}").format(
                    where=where, count=len(parts), value=value
                )
            )
        return tuple(_convert(v, p, where) for v, p in zip(value, parts, strict=True))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < LARGEST_INTEGER else math.inf
    if hint in (int, float, str, bool) and (type(value) is not hint):
        raise SettingsError(
            _("{where} must be {type_names}, not {value!r}").format(
                where=where, type_names=_(TYPE_NAMES[hint]), value=value
            )
        )
    if hint is float and not math.isfinite(value):
        raise SettingsError(
            _("{where} must be a finite number, not {value}").format(where=where, value=value)
        )
    if hint is int and abs(value) >= LARGEST_INTEGER:
        raise SettingsError(_("{where} must be less than 2^63 in size").format(where=where))
    return value


def parse_value(text: str) -> Any:
    """A value from the command line as TOML reads it; as plain text where it is no TOML value."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def to_table(settings: DataclassInstance) -> dict[str, Any]:
    """The settings as plain values, tuples as lists; None is left out, as TOML has no null."""
    table: dict[str, Any] = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        if value is not None:
            table[field.name] = list(value) if isinstance(value, tuple) else value
    return table


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file, as `write_toml` writes them. Raises SettingsError if it is not
    there or not TOML.
    """
    try:
        if path.exists() and not path.is_file():
            raise SettingsError(_("the config file {path} is no regular file").format(path=path))
        with path.open("rb") as file:
            content = file.read(LARGEST_TOML + 1)
        if len(content) > LARGEST_TOML:
            raise SettingsError(
                _("the config file {path} is larger than {size} MiB").format(
                    path=path, size=LARGEST_TOML >> 20
                )
            )
        tables = tomllib.loads(content.decode("utf-8"))
        return {key: _map_strings(value, _restored) for key, value in tables.items()}
    except FileNotFoundError:
        raise SettingsError(_("no config file at {path}").format(path=path)) from None
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(
            _("cannot read the config file {path}: {error}").format(
                path=path, error=" ".join(str(error).split())
            )
        ) from None


def write_toml(tables: Mapping[str, Any]) -> str:
    """The TOML text of nested tables of plain values.

    A lone surrogate, by which Python names a byte of a file name that is not UTF-8, has no place in
    TOML: it is written as `\\udcb1`, six characters, and the backslashes before it, and before
    such six characters in the value itself, are doubled.
    """
    import tomlkit

    return tomlkit.dumps({key: _map_strings(value, _spelt) for key, value in tables.items()})


def _map_strings(value: Any, change: Callable[[str], str]) -> Any:
    """`value` with each string in it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list | tuple):
        return [_map_strings(item, change) for item in value]
    if isinstance(value, Mapping):
        return {key: _map_strings(item, change) for key, item in value.items()}
    return value


def _spelt(text: str) -> str:
    """`text` without lone surrogates, from which `_restored` makes it again."""

    def spell(found: re.Match[str]) -> str:
        surrogate = f"\\u{ord(found[2]):x}" if found[2] else ""
        return 2 * found[1] + surrogate

    return re.sub(r"(\\*)(?:([\ud800-\udfff])|(?=ud[89a-f][0-9a-f]{2}))", spell, text)


def _restored(text: str) -> str:
    def restore(found: re.Match[str]) -> str:
        half, odd = divmod(len(found[1]), 2)
        return "\\" * half + (chr(int(found[2][1:], 16)) if odd else found[2])

    return re.sub(r"(\\+)(ud[89a-f][0-9a-f]{2})", restore, text)
