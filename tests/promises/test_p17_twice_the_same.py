"""P17: the same recipe and seed on one machine give the same weights and the same text, twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from semigpt.models import LADDER
from semigpt.recipe import Recipe, train
from semigpt.studies.crash_test import compared_files, small_tables


@pytest.mark.parametrize("rung", LADDER)
def test_every_rung(tmp_path: Path, rung: str) -> None:
    recipe = Recipe.from_tables(small_tables(rung, steps=12, eval_every=6, save_every=None))
    for name in ("one", "two"):
        list(train(recipe, tmp_path / name))
    one, two = compared_files(tmp_path / "one"), compared_files(tmp_path / "two")
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == []
    assert len(one) == (11 if rung == "memory" else 10), (
        "a memory has its counts beside the weights"
    )
