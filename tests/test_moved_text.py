"""The text of a run is known by its fingerprint: moved it is the same, changed it is another."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from semigpt.cli import main
from semigpt.config import Recipe
from semigpt.corpus.staging import prepare_corpus
from semigpt.errors import CheckpointError, CorpusError
from semigpt.evaluation import overlap
from semigpt.evaluation.overlap import PASSAGE, seen_fraction
from semigpt.recipe import Stepped, train
from semigpt.run_folder import RunFolder
from semigpt.studies.crash_test import compared_files, small_tables


def tables(spec: str) -> dict[str, dict[str, object]]:
    found = small_tables("bigram", steps=6, eval_every=3, save_every=2)
    del found["tokenizer"]
    return {**found, "data": {"spec": spec}}


def stop_at(step: int, spec: str, run: Path) -> None:
    for event in train(Recipe.from_tables(tables(spec)), run):
        if isinstance(event, Stepped) and event.report.step == step:
            return


def resume(run: Path, spec: str | None = None) -> None:
    asked = RunFolder.open(run).config()
    if spec is not None:
        asked["data"]["spec"] = spec
    list(train(Recipe.from_tables(asked), run, resume=True))


def written(path: Path, lines: int = 200, seed: int = 0) -> Path:
    words = ["가을", "하늘", "높고", "맑은", "날", "사람들이", "모여", "노래를", "웃었다", "바람이"]
    draw = random.Random(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "\n".join(f"{n}: {' '.join(draw.choices(words, k=12))}" for n in range(lines)), "utf-8"
    )
    return path


def test_a_text_that_moved_is_the_same_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    elsewhere.mkdir()
    written(home / "글.txt")
    monkeypatch.chdir(home)
    list(train(Recipe.from_tables(tables("글.txt")), tmp_path / "whole"))
    for name in ("relative", "moved"):
        stop_at(3, "글.txt", tmp_path / name)
    monkeypatch.chdir(elsewhere)
    resume(tmp_path / "relative")
    assert RunFolder.open(tmp_path / "relative").config()["data"]["spec"] == "글.txt"
    shutil.move(home / "글.txt", elsewhere / "새글.txt")
    with pytest.raises(CorpusError, match="has moved, say where it is now with --data"):
        resume(tmp_path / "moved")
    resume(tmp_path / "moved", "새글.txt")
    moved = RunFolder.open(tmp_path / "moved")
    assert moved.config()["data"]["spec"] == "새글.txt"
    assert moved.home == elsewhere
    for name in ("relative", "moved"):
        assert compared_but_cards(tmp_path / name) == compared_but_cards(tmp_path / "whole"), name


def compared_but_cards(run: Path) -> dict[str, bytes]:
    """A card names the text as it was typed."""
    return {name: content for name, content in compared_files(run).items() if "README" not in name}


def test_another_text_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    text, other = written(tmp_path / "글.txt"), written(tmp_path / "다른.txt", seed=1)
    stop_at(3, str(text), tmp_path / "run")
    config = (tmp_path / "run" / "config.toml").read_bytes()
    with pytest.raises(CheckpointError, match="another corpus: its fingerprint was"):
        resume(tmp_path / "run", str(other))
    assert (tmp_path / "run" / "config.toml").read_bytes() == config


def test_evaluate_says_what_the_text_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, run = written(tmp_path / "글.txt"), tmp_path / "run"
    list(train(Recipe.from_tables(tables(str(text))), run))
    moved = tmp_path / "moved.txt"
    shutil.copy(text, moved)
    seen = tmp_path / "seen.txt"
    lines = text.read_text("utf-8").splitlines()
    seen.write_text("\n".join([*lines, *(f"새 줄 {n} " * 9 for n in range(20))]), "utf-8")
    fresh = written(tmp_path / "fresh.txt", seed=7)

    def evaluated(*flags: str) -> tuple[int, str, str]:
        code = main(["evaluate", str(run), "--no-xz", "--json", *flags])
        told = capsys.readouterr()
        return code, told.out, told.err.strip()

    code, out, err = evaluated()
    assert (code, err) == (0, "")
    assert json.loads(evaluated("--data", str(moved))[1]) == json.loads(out)
    assert evaluated("--data", str(fresh))[2] == ""
    code, _, err = evaluated("--data", str(seen), "--split", "train")
    assert code == 0
    assert "is in the text that the model was trained on" in err
    lines[0] = "바뀐 줄이다."
    text.write_text("\n".join(lines), "utf-8")
    code, out, err = evaluated()
    assert (code, out) == (2, "")
    assert "another corpus: its fingerprint was" in err
    code, _, err = evaluated("--data", str(fresh))
    assert code == 0
    assert "baselines are counted on" in err
    assert json.loads(evaluated("--data", str(moved))[1])["bits_per_character"] > 0, "found again"


def test_passages_are_found_wherever_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Across two of the blocks that are hashed at a time too."""
    monkeypatch.setattr(overlap, "BLOCK", 70)
    draw = random.Random(0)
    letters = [chr(c) for c in range(0xAC00, 0xAC80)] + ["𐐷", "é"]

    def text(count: int) -> str:
        return "".join(draw.choices(letters, k=count))

    old = [text(draw.randint(50, 300)) for _ in range(200)]
    new = [text(200) if n % 4 else old[n][3 : 3 + PASSAGE * 2] for n in range(200)]
    (tmp_path / "old.txt").write_text("\n".join(old), "utf-8")
    (tmp_path / "new.txt").write_text("\n".join(new), "utf-8")
    trained, asked = (prepare_corpus(str(tmp_path / name)) for name in ("old.txt", "new.txt"))
    passages = [
        document[at : at + PASSAGE]
        for document in asked.documents("test")
        for at in range(0, len(document) - PASSAGE + 1, PASSAGE)
    ]
    whole = "".join(trained.documents("train"))
    expected = sum(passage in whole for passage in passages) / len(passages)
    assert seen_fraction(asked, "test", trained) == pytest.approx(expected)
    assert 0 < expected < 1


def test_a_run_inside_its_own_data_folder(tmp_path: Path) -> None:
    """Its files are no text: it is resumed, and a second run reads what the first one read."""
    folder = tmp_path / "글"
    written(folder / "가.txt")
    stop_at(3, str(folder), folder / "runs" / "one")
    before = RunFolder.open(folder / "runs" / "one").text_fingerprint()
    resume(folder / "runs" / "one")
    corpus = prepare_corpus(str(folder))
    assert corpus.fingerprint == before
    corpus = prepare_corpus(str(folder), refresh=True)
    assert corpus.fingerprint == before
    assert any("not read in" in line and "a run of semigpt" in line for line in corpus.findings)
    assert prepare_corpus(f"{folder}/**/*.txt").fingerprint == before
    (folder / "runs" / "one" / "글.txt").write_text("나\n다\n라\n" * 9, "utf-8")
    assert prepare_corpus(f"{folder}/**/*.txt").fingerprint == before
    (folder / "config.toml").write_text("[data]\n", "utf-8")
    assert prepare_corpus(str(folder)).fingerprint == before, "a config.toml of another kind"
