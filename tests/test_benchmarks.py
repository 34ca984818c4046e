"""The scripts in benchmarks/ that others build on: the film reviews, the README's picture."""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from benchmark_scripts import BENCHMARKS, load
from semigpt.errors import CorpusError, SettingsError


def checkout_of(folder: Path, films: dict[str, list[str]]) -> Path:
    """A made-up checkout of the corpus."""
    (folder / "raw").mkdir(parents=True)
    for film, reviews in films.items():
        rows = [{"movie_id": film, "review": review} for review in reviews]
        (folder / "raw" / f"{film}.json").write_text(json.dumps(rows), encoding="utf-8")
    return folder


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("*.py")), ids=lambda path: path.stem)
def test_no_script_has_the_name_of_a_library(path: Path) -> None:
    """A script's folder comes first on sys.path when it runs, so its siblings would shadow
    libraries.
    """
    spec = importlib.util.find_spec(path.stem)
    assert spec is None or spec.origin is None or Path(spec.origin).parent == BENCHMARKS


@pytest.fixture
def text(tmp_path: Path, korean_text: str) -> str:
    """A file with as little text as can be split and trained on."""
    lines = [f"{i}번 소식. {line}" for i in range(60) for line in korean_text.splitlines()]
    path = tmp_path / "text.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(("rung", "book"), [("bigram", "BookBigram"), ("blocks", "BookBlocks")])
def test_the_ladder_and_the_book_take_a_step(rung: str, book: str, text: str) -> None:
    script = load("ladder")
    dataset, ours = script.our_steps(rung, {"spec": text})
    stream = dataset.stream("train")
    ids = torch.from_numpy(stream.read(0, len(stream)).astype("int64"))
    assert next(ours).step == 1
    theirs = script.book_steps(getattr(script, book)(dataset.vocab_size), ids)
    assert next(theirs) is None


PEER = """
import torch
from types import SimpleNamespace as GPTConfig

class GPT(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.table = torch.nn.Embedding(config.vocab_size, config.vocab_size)
        torch.nn.init.zeros_(self.table.weight)

    def forward(self, inputs, targets=None):
        logits = self.table(inputs)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return logits, loss

    def configure_optimizers(self, decay, rate, betas, device):
        return torch.optim.AdamW(self.parameters(), lr=rate)
"""


def test_a_peer_trains_and_is_measured_as_our_own_models_are(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for nanoGPT, whose fresh table gives every token the same probability."""
    script, contestants = load("train"), load("contestants")
    (tmp_path / "model.py").write_text(PEER)
    monkeypatch.setenv("SEMIGPT_CACHE", "")  # which the script sets: to be put back in the end
    monkeypatch.delitem(sys.modules, "model", raising=False)
    counted, dataset = script.prepare_text(text, tmp_path / "cache")
    contestants.write_tokens(dataset, tmp_path / "train.bin")
    shape = {"layers": 1, "width": 16, "heads": 1, "context": 8, "batch": 2}
    job = {"data": text, "vocab_size": dataset.vocab_size, "device": "cpu", "shape": shape}
    job |= {"peer": str(tmp_path), "tokens": str(tmp_path / "train.bin")}
    model, _ = contestants.nanogpt(job)
    monkeypatch.delitem(sys.modules, "model")
    bits = contestants.peer_bits(model, job)
    # Every character is a token; the ends of documents are a few more.
    assert 1 <= bits / math.log2(dataset.vocab_size) < 1.05
    assert 0 < counted["bits_per_character"] < bits
    for contestant in ("nanogpt", "semigpt", "semigpt-adamw"):
        _, steps = contestants.contestant_steps({**job, "contestant": contestant})
        next(steps)
    sys.modules.pop("model", None)


def test_both_measurements_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    script = load("train")
    about = {"data": "news", "peer": "MIT", "torch": "2", "threads": 1}
    run = {"characters": 9, "characters_per_second": 3.0, "start_and_end_seconds": 1, "seconds": 4}
    rows = [script.summary("nanogpt", [{"seed": 0, "bits_per_character": 1.25, **run}])]
    script.show({"measurement": "quality", "minutes": 2.0, "rows": rows, **about})
    told = capsys.readouterr().out
    assert "news, 2 minutes" in told
    assert "1.2500" in told
    row = {"contestant": "nanogpt", "shape": script.SHAPES[0], "ratio": 1.0, **run}
    turns = {"seconds": 3.0, "rounds": 5, "compared_with": "nanogpt", "rows": [row]}
    script.show({"measurement": "throughput", **turns, **about})
    assert "turns of 3 s" in capsys.readouterr().out


def test_a_corpus_of_the_automatic_choices_is_the_beginning_of_the_text(
    text: str, tmp_path: Path
) -> None:
    load("auto").write_corpus(tmp_path / "corpus", text, 0.001)
    lines = (tmp_path / "corpus" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    lengths = [len(json.loads(line)["text"]) for line in lines]
    assert sum(lengths[:-1]) < 1000 <= sum(lengths)
    names = ["test.jsonl", "train.jsonl", "validation.jsonl"]
    assert sorted(path.name for path in (tmp_path / "corpus").iterdir()) == names


def test_the_best_flags_of_each_text_and_time_are_starred(
    capsys: pytest.CaptureFixture[str],
) -> None:
    row = {"characters": 1.0, "minutes": 5.0, "5-gram": 4.258}
    rows = [
        {**row, "flags": "", "bits_per_character": 4.2},
        {**row, "flags": "--memory", "bits_per_character": 4.1},
    ]
    load("auto").show(rows)
    shown = capsys.readouterr().out
    assert "4.100 *" in shown
    assert "4.200 *" not in shown
    assert "4.258" in shown


def test_a_film_has_the_split_that_the_benchmarks_were_measured_on() -> None:
    split_of = load("film_reviews").split_of
    assert {film: split_of(film) for film in ("10001", "100110", "100399", "10017")} == {
        "10001": "train",
        "100110": "validation",
        "100399": "test",
        "10017": None,
    }


def test_reviews_of_a_film_are_one_document(tmp_path: Path) -> None:
    checkout = checkout_of(tmp_path, {"10002": ["나", "다"], "10001": ["가"], "10017": ["라"]})
    films = load("film_reviews").read_films(checkout)
    assert films["train"] == [
        {"movie_id": "10001", "reviews": 1, "document": "가"},
        {"movie_id": "10002", "reviews": 2, "document": "나\n다"},
    ]
    assert films["validation"] == films["test"] == []


def test_another_version_of_the_corpus_is_refused_in_one_line(tmp_path: Path) -> None:
    script = load("film_reviews")
    checkout = checkout_of(tmp_path, {"10001": ["가"]})
    with pytest.raises(CorpusError, match=r"train split has 1 films \(12,652 expected\)") as told:
        script.check_documents(script.read_films(checkout), checkout)
    assert "\n" not in str(told.value)
    with pytest.raises(CorpusError, match="no raw/"):
        script.read_films(tmp_path / "raw")


def test_other_text_with_the_same_counts_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The counts agree, so only SHA-256 tells."""
    script = load("film_reviews")
    films = {"train": [{"movie_id": "10001", "reviews": 1, "document": "가"}]}
    digest = script.documents_sha256(films["train"])
    expected = script.Split(1, 1, 1, digest, "")
    monkeypatch.setattr(script, "SPLITS", {"train": expected})
    script.check_documents(films, tmp_path)
    films["train"][0]["document"] = "나"
    with pytest.raises(CorpusError, match="other text in as many films"):
        script.check_documents(films, tmp_path)


def test_the_folder_is_whole_and_says_which_file_has_other_bytes(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    script = load("film_reviews")
    films = {"test": [{"movie_id": "100399", "reviews": 1, "document": "가"}]}
    folder = tmp_path / "film_reviews"
    assert script.write_folder(films, folder) == ["test-00000-of-00001.parquet"]
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "test-00000-of-00001.parquet",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["film_reviews"]
    with pytest.raises(CorpusError, match="exists already"):
        script.write_folder(films, folder)


def test_the_picture_and_the_samples_are_of_one_run(tmp_path: Path) -> None:
    """Every baseline is named in the drawing; the samples are the first, the one nearest 20 s, the
    last.
    """
    script = load("readme_picture")
    baselines = {"uniform": 10.6, "unigram": 7.0, "bigram": 4.4, "kneser_ney_5": 1.7, "xz": None}
    metadata = {"baselines": baselines, "source_entropy": 0.5, "tokens_per_character": 1.0}
    (tmp_path / "metadata.json").write_text(json.dumps(metadata))
    steps = (0, 10, 20, 30)
    logs = {
        "metrics": [{"step": step, "bits_per_character": 10.0 - step / 10} for step in steps],
        "timings": [{"step": step, "seconds": 1.1 * step} for step in steps],
        "samples": [{"step": step, "prompt": "", "text": f"{step} <가>"} for step in steps],
    }
    for name, rows in logs.items():
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    drawing = ElementTree.fromstring(script.draw(tmp_path))
    assert drawing.tag == "{http://www.w3.org/2000/svg}svg"
    text = " ".join(drawing.itertext())
    for label in (*script.BASELINES.values(), "this model 7.00", "seconds of training"):
        assert label in text
    assert [(seconds, shown) for seconds, _, shown in script.samples_shown(tmp_path)] == [
        (0.0, "0 <가>"),
        (pytest.approx(22.0), "20 <가>"),
        (pytest.approx(33.0), "30 <가>"),
    ]
    with pytest.raises(SettingsError, match="no .*metrics.jsonl"):
        script.read_rows(tmp_path / "elsewhere", "metrics")
    assert script.excerpt("비가 왔다. 눈이", 8) == "비가 왔다."
    assert script.excerpt("비.\n눈이 온다고 했", 9) == "비. ↵ 눈이 온다고"


def test_stages_of_a_run_add_up_to_its_two_ends() -> None:
    lines = [
        *((1.0, "begun", None), (3.0, "reading", 1.5), (5.0, "first step", None)),
        *((7.0, "evaluation", 0.5), (9.0, "last step", None), (10.0, "evaluation", 0.75)),
    ]
    found = load("start_end").table(lines, 11.0)
    assert found == {
        "imports": 1.0,
        "reading": 1.5,
        "the rest of the start": 2.5,
        "TO THE FIRST STEP": 5.0,
        "on the clock: evaluation": 0.5,
        "last evaluation": 0.75,
        "the rest of the end": 1.25,
        "FROM THE LAST STEP": 2.0,
    }
