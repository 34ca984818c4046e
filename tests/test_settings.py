"""Settings to and from TOML: what converts, what is refused, and what the refusal says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from semigpt.errors import SettingsError
from semigpt.settings import (
    check_positive,
    from_table,
    nearest,
    parse_value,
    read_toml,
    to_table,
    write_toml,
)


@dataclass(frozen=True, kw_only=True)
class Oven:
    """Every kind of field that a settings class has."""

    heat: float
    trays: int = 1
    name: str = "oven"
    fan: bool = False
    mode: Literal["bake", "grill"] = "bake"
    span: tuple[float, float] = (0.5, 1.0)
    minutes: int | None = None
    pause: int | str = 0

    def __post_init__(self) -> None:
        check_positive(self, "heat", "minutes")


def test_a_table_there_and_back_is_the_same_settings() -> None:
    table = {"heat": 180, "span": [1, 2], "minutes": 5, "pause": "long", "mode": "grill"}
    oven = from_table(Oven, table, "[oven]")
    assert oven == Oven(heat=180.0, span=(1.0, 2.0), minutes=5, pause="long", mode="grill")
    assert type(oven.heat) is float
    assert all(type(edge) is float for edge in oven.span)
    again = to_table(oven)
    assert again["span"] == [1.0, 2.0]
    assert {**table, "trays": 1, "name": "oven", "fan": False} == again


def test_what_is_none_is_left_out_of_the_table() -> None:
    assert "minutes" not in to_table(Oven(heat=1.0))
    assert from_table(Oven, {"heat": 1.0, "minutes": None}, "[oven]").minutes is None


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "[oven] lacks heat, which Oven needs"),
        ({"heat": 1, "tray": 2}, "unknown key 'tray' in [oven]: did you mean 'trays'?"),
        ({"heat": "hot"}, "heat in [oven] must be a number, not 'hot'"),
        ({"heat": True}, "heat in [oven] must be a number, not True"),
        ({"heat": 1, "trays": 1.0}, "trays in [oven] must be a whole number, not 1.0"),
        ({"heat": 1, "trays": True}, "trays in [oven] must be a whole number, not True"),
        ({"heat": 1, "trays": None}, "trays in [oven] must be a whole number, not None"),
        ({"heat": 1, "name": 1}, "name in [oven] must be text, not 1"),
        ({"heat": 1, "fan": 1}, "fan in [oven] must be true or false, not 1"),
        ({"heat": 1, "mode": "boil"}, "mode in [oven] must be one of bake, grill, not 'boil'"),
        ({"heat": 1, "span": [1]}, "span in [oven] must be 2 values, not [1]"),
        ({"heat": 1, "span": 1}, "span in [oven] must be 2 values, not 1"),
        ({"heat": 1, "span": [1, "2"]}, "span in [oven] must be a number, not '2'"),
        ({"heat": 1, "minutes": "5"}, "minutes in [oven] must be a whole number, not '5'"),
        ({"heat": 0}, "heat must be more than 0, not 0.0"),
        ({"heat": 1, "minutes": -1}, "minutes must be more than 0, not -1"),
        ({"heat": float("nan")}, "heat in [oven] must be a finite number, not nan"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(table: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as refused:
        from_table(Oven, table, "[oven]")
    assert str(refused.value).startswith(message)


def test_the_nearest_name_or_all_of_them() -> None:
    assert nearest("widht", ["width", "depth"]) == "did you mean 'width'?"
    assert nearest("xyz", ["width", "depth"]) == "known are: depth, width"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1e-3", 0.001),
        ("true", True),
        ("[0.9, 0.95]", [0.9, 0.95]),
        ('"3"', "3"),
        ("2m", "2m"),
        ("오늘 아침", "오늘 아침"),
        ("", ""),
    ],
)
def test_a_value_on_the_command_line_is_read_as_toml_or_is_text(text: str, value: object) -> None:
    found = parse_value(text)
    assert found == value
    assert type(found) is type(value)


def test_a_config_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    with pytest.raises(SettingsError, match=r"no config file at .*config\.toml"):
        read_toml(path)
    for content in (b"[oven", b"\xff", b"a = " + b"[" * 5000):
        path.write_bytes(content)
        with pytest.raises(SettingsError, match=r"cannot read the config file .*config\.toml"):
            read_toml(path)
    tables = {"oven": {"heat": 180.5, "span": [1, 2], "name": "화덕 “1”\n"}}
    path.write_text(write_toml(tables), encoding="utf-8")
    assert read_toml(path) == tables
