"""The ladder: one command, a run a rung, a table that says what each idea buys."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len

from semigpt.cli.ladder import samples, show_ladder, table
from semigpt.errors import CheckpointError, SettingsError
from semigpt.models import LADDER, model_class
from semigpt.recipe import open_run
from semigpt.run_events import Finished
from semigpt.run_folder import RunFolder
from semigpt.studies.ladder import (
    BOOK_COLUMN,
    BOOK_TEXT,
    LadderSettings,
    Reached,
    Row,
    Rung,
    climb,
    markdown,
    rung_recipe,
    rung_row,
    step_seconds,
    too_short,
)

TEXT = "하늘이 맑다. 바람이 차다. <b>비가 온다 & 눈이 온다.</b> 오늘은 전국이 대체로 맑겠다.\n"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "weather.txt"
    path.write_text("\n\n".join(f"{number}일. {TEXT}" for number in range(200)), encoding="utf-8")
    return path


def settings(corpus: Path, **changes: object) -> LadderSettings:
    tables = {
        "data": {"spec": str(corpus)},
        "machine": {"device": "cpu"},
        "sample": {"max_new_tokens": 5},
    }
    return LadderSettings(
        **{**tables, "steps": 4, "book": True, "rungs": ("bigram", "blocks"), **changes}
    )


def test_every_rung_ends_in_the_table_and_as_a_run_of_its_own(corpus: Path, tmp_path: Path) -> None:
    rows = [
        event.row
        for event in climb(settings(corpus, rungs=LADDER), tmp_path)
        if isinstance(event, Reached)
    ]
    listed = json.loads((tmp_path / "ladder.json").read_text(encoding="utf-8"))
    assert [row["rung"] for row in listed] == list(LADDER) == [row.rung for row in rows]
    names = (
        "rung parameters val_loss val_loss_se bits_per_character characters_per_second seconds "
        "steps sample"
    )
    for row in listed:
        assert set(names.split()) <= row.keys()
        assert row["steps"] == 4
        assert row["book_val_loss"] == model_class(row["rung"]).book_loss
        run, model, _ = open_run(tmp_path / row["rung"])
        assert run is not None
        assert model.kind == row["rung"]
        assert model.parameter_count() == row["parameters"]
        assert row["bits_per_character"] == min(
            line["bits_per_character"] for line in run.rows("metrics") if "val_loss" in line
        )
    page, table = (
        (tmp_path / name).read_text(encoding="utf-8") for name in ("ladder.html", "ladder.md")
    )
    for rung in LADDER:
        assert f"<td>{rung}</td>" in page
        assert f"| {rung} |" in table
    assert "https:" not in page.replace("http:", "https:"), "it opens with no network"
    assert 'charset="utf-8"' in page


def test_what_is_trained_is_not_trained_again_and_what_is_not_is_resumed(
    corpus: Path, tmp_path: Path
) -> None:
    asked = settings(corpus)
    steps = 0

    def stop() -> bool:  # in the middle of the second rung
        return steps > 5

    for event in climb(asked, tmp_path, stop=stop):
        steps += isinstance(event, Rung) and type(event.event).__name__ == "Stepped"
    assert [row["rung"] for row in json.loads((tmp_path / "ladder.json").read_text())] == ["bigram"]
    events = list(climb(asked, tmp_path))
    assert not any(isinstance(event, Rung) and event.rung == "bigram" for event in events)
    stepped = [e for e in events if isinstance(e, Rung) and type(e.event).__name__ == "Stepped"]
    assert 0 < len(stepped) < 4, "the second rung went on where it was"
    assert any(isinstance(event, Rung) and isinstance(event.event, Finished) for event in events)
    assert [event.trained for event in events if isinstance(event, Reached)] == [False, True]
    before = (tmp_path / "blocks" / "metrics.jsonl").read_bytes()
    assert [row.rung for row in show_ladder(asked, tmp_path)] == ["bigram", "blocks"]
    assert (tmp_path / "blocks" / "metrics.jsonl").read_bytes() == before


def test_another_ladder_in_the_same_folder_is_refused(corpus: Path, tmp_path: Path) -> None:
    asked = settings(corpus, rungs=("bigram",))
    list(climb(asked, tmp_path))
    with pytest.raises(SettingsError, match=r"training.steps was 4, is 5"):
        list(climb(settings(corpus, rungs=("bigram",), steps=5), tmp_path))


def test_the_books_settings_are_the_books(corpus: Path) -> None:
    for rung in LADDER:
        recipe = rung_recipe(settings(corpus), rung)
        optimizer, training = recipe.optimizer, recipe.training
        assert (training.batch_size, recipe.model.context_length, training.eval_every) == (
            32,
            8,
            300,
        )
        assert (optimizer.learning_rate, optimizer.betas, optimizer.epsilon) == (
            1e-2,
            (0.9, 0.999),
            1e-8,
        )
        assert (optimizer.weight_decay, optimizer.decayed, optimizer.clip) == (0.01, "all", 0.0)
        assert (optimizer.schedule, optimizer.warmup, training.order) == ("constant", 0.0, "random")
    shape = rung_recipe(settings(corpus), "blocks").model
    assert [getattr(shape, name) for name in ("width", "num_layers", "num_heads", "dropout")] == [
        32,
        4,
        4,
        0.1,
    ]


def test_a_minute_gives_each_rung_settings_of_its_own(corpus: Path) -> None:
    recipes = {
        rung: rung_recipe(settings(corpus, steps=None, minutes=1.0, book=False), rung)
        for rung in LADDER
    }
    assert {recipe.training.minutes for recipe in recipes.values()} == {1.0}
    assert len({recipe.optimizer for recipe in recipes.values()}) > 1


def test_speed_leaves_evaluations_out() -> None:
    clock = [0.0, 1.0, 2.0, 9.0, 10.0, 10.0, 11.0]  # seven seconds of them between steps 20 and 30
    steps = [0, 10, 20, 30, 40, 40, 50]
    timings = [
        {"step": step, "seconds": seconds} for step, seconds in zip(steps, clock, strict=True)
    ]
    assert step_seconds(timings) == pytest.approx(0.1)
    assert step_seconds(timings[:1]) == 0.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": None}, "--steps or --minutes"),
        ({"minutes": 1.0}, "--steps or --minutes"),
        ({"rungs": ("bigram", "transformer")}, "rung must be one of bigram"),
        ({"rungs": ("bigram", "bigram")}, "named twice"),
        ({"rungs": ()}, "no rung to train"),
    ],
)
def test_an_impossible_ladder_is_refused(
    corpus: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        settings(corpus, **changes)


def test_a_row_needs_a_finished_run(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[model]\nrung = "bigram"\n', encoding="utf-8")
    with pytest.raises(CheckpointError, match="no evaluation in its logs"):
        rung_row(RunFolder.open(tmp_path))


def test_a_climb_that_ranks_rungs_the_wrong_way_round_says_it_was_too_short(
    corpus: Path, tmp_path: Path
) -> None:
    row = Row("bigram", "", 1, 1.0, 0.1, 2.0, 1.0, 1.0, 1, "", None)
    rows = [row, replace(row, rung="blocks", bits_per_character=2.1)]
    rows.append(replace(row, rung="gpt", bits_per_character=1.9))
    asked = settings(corpus, rungs=("bigram", "blocks", "gpt"), steps=None, minutes=0.5)
    said = too_short(asked, rows)
    assert said is not None
    assert said.startswith("too short to rank them: blocks above bigram; climb longer")
    assert "--minutes 1 " in said
    assert too_short(asked, [rows[0], rows[2]]) is None
    assert "Too short to rank them" in markdown(asked, rows)


@pytest.mark.parametrize("width", [60, 80, 140])
def test_a_live_table_fits_its_terminal_and_explains_each_rung(corpus: Path, width: int) -> None:
    """A line that the terminal broke would stay on the screen when the table is drawn anew."""
    asked = settings(corpus, rungs=LADDER)
    long = "정부는 오늘 " * 40
    row = Row("bigram", "", 12_345_678, 10.123, 0.456, 10.5, 1e6, 12_345.0, 9, long, 3.4)
    doing = f"attention, step 3:\n{long}"
    shown = str(table(asked, [row], {"attention": "10.12 at 100%"}, doing, width))
    lines = shown.splitlines()
    assert all(cell_len(line) <= width for line in lines)
    assert len(lines) <= 24
    for rung in LADDER:
        (line,) = (line for line in lines if line.split(" ")[0] == rung)
        adds = model_class(rung).description
        assert adds in (line if width >= 120 else lines[lines.index(line) + 1])
    assert "10.500" in shown
    assert lines[-1].endswith("…")
    assert all(cell_len(line) <= width for line in str(samples([row], width)).splitlines())


def test_the_books_losses_are_beside_ours_only_where_they_can_be_compared(corpus: Path) -> None:
    row = Row("bigram", "", 1, 3.6, 0.1, 5.2, 1.0, 1.0, 1, "", 3.4)
    for data, book in ((str(corpus), True), (BOOK_TEXT, False)):
        page = markdown(settings(corpus, data={"spec": data}, book=book), [row])
        assert BOOK_COLUMN not in page
        assert "bigram 3.40. Losses of different texts cannot be compared" in page
    page = markdown(settings(corpus, data={"spec": f"{BOOK_TEXT}#streaming=no"}), [row])
    assert f"| {BOOK_COLUMN} |" in page
    assert "| 3.40 |" in page
