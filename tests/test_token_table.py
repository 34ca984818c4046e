"""`semigpt tokenizer train`, `show` and `compare`, as a user meets them."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.cells import cell_len
from rich.console import Console
from transformers import AutoTokenizer

from semigpt.cli import main
from semigpt.cli.token_table import find_tokenizer, print_tokens, tokens_of, visible
from semigpt.cli.tokenizer import train_into
from semigpt.corpus.staging import prepare_corpus
from semigpt.errors import SettingsError, TokenizerError
from semigpt.evaluation.evaluate import evaluate
from semigpt.recipe import open_run
from semigpt.studies.tokenizers import HARD_TEXTS, UNSEEN, Comparison, Trained, compare, measure
from semigpt.tokenizers import CharTokenizer, load_tokenizer, train_tokenizer
from semigpt.tokenizers.base import Tokenizer

KINDS = ("char", "byte", "jamo", "bpe", "char_bpe", "unigram")
SMALL_MODEL = {"width": 32, "num_layers": 1, "num_heads": 2, "context_length": 16}


@pytest.fixture(scope="module")
def text_file(tmp_path_factory: pytest.TempPathFactory, korean_text: str) -> Path:
    """A text of one's own: 120 short documents, so that every split has some."""
    path = tmp_path_factory.mktemp("text") / "글.txt"
    path.write_text("\n\n".join(f"{n}번 글. {korean_text}" for n in range(120)), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Models this small are slower on two threads, and a hundred times slower where another process
    wants the cores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a mistake gets."""
    capsys.readouterr()
    assert main(["tokenizer", *map(str, arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("semigpt: ")
    assert captured.err.count("\n") == 1, f"more than one line: {captured.err}"
    return captured.err


# train


@pytest.mark.parametrize("kind", KINDS)
def test_train_saves_a_folder_that_autotokenizer_loads(
    kind: str,
    text_file: Path,
    tmp_path: Path,
    korean_text: str,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    out = tmp_path / "new" / kind
    size = ["--vocab-size", "340"] if kind in ("bpe", "char_bpe", "unigram") else []
    command = [
        "tokenizer",
        "train",
        "--kind",
        kind,
        "--data",
        str(text_file),
        *size,
        "--out",
        str(out),
    ]
    assert main([*command, "--special", "<|user|>", "--special", "<|bot|>"]) == 0
    captured = capfdbinary.readouterr()
    assert captured.out.decode() == f"{out}\n"
    tokenizer = load_tokenizer(out)
    assert tokenizer.kind == kind
    assert list(tokenizer.special_tokens) == ["<|endoftext|>", "<|user|>", "<|bot|>"]
    theirs = AutoTokenizer.from_pretrained(out)
    assert len(theirs) == tokenizer.vocab_size
    assert (
        theirs.encode(korean_text, add_special_tokens=False)
        == tokenizer.encode(korean_text).tolist()
    )
    assert [path.name for path in out.parent.iterdir()] == [kind], (
        "nothing temporary is left beside it"
    )


def test_train_learns_from_the_training_split_alone(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train.txt").write_text("가나다\n\n라마바", encoding="utf-8")
    (folder / "validation.txt").write_text("힣", encoding="utf-8")
    (folder / "test.txt").write_text("뷁", encoding="utf-8")
    assert main(["tokenizer", "train", "--data", str(folder), "--out", str(tmp_path / "out")]) == 0
    tokenizer = load_tokenizer(tmp_path / "out")
    assert isinstance(tokenizer, CharTokenizer)
    assert set(tokenizer.characters) >= set("가나다라마바")
    assert not {"힣", "뷁"} & set(tokenizer.characters)


def test_train_json_names_folder_kind_and_size(
    text_file: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    command = ["tokenizer", "train", "--data", str(text_file), "--min-count", "200", "--json"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    result = json.loads(capfdbinary.readouterr().out)
    tokenizer = load_tokenizer(tmp_path / "out")
    assert result["folder"] == str(tmp_path / "out")
    assert (result["kind"], result["normalization"]) == ("char", "NFC")
    assert result["vocab_size"] == tokenizer.vocab_size
    assert result["fingerprint"] == tokenizer.fingerprint
    assert result["special_tokens"] == {"<|endoftext|>": tokenizer.end_of_text}
    assert (
        main(["tokenizer", "train", "--data", str(text_file), "--out", str(tmp_path / "all")]) == 0
    )
    assert load_tokenizer(tmp_path / "all").vocab_size > tokenizer.vocab_size, (
        "rare characters are kept by default"
    )


def test_mistakes_in_training_get_one_line(
    text_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, data = tmp_path / "out", ("--data", text_file)
    for arguments, says in [
        (
            ("--kind", "word"),
            "--kind must be one of char, byte, jamo, bpe, char_bpe, unigram, not 'word'",
        ),
        (("--kind", "bpe", "--vocab-size", 100), "a vocabulary of 100 is too small"),
        (("--kind", "byte", "--vocab-size", 100), "a vocabulary of 100 is too small"),
        (("--kind", "jamo", "--vocab-size", 300), "a vocabulary of 300 is too small"),
        (("--kind", "unigram", "--vocab-size", 256), "a vocabulary of 256 is too small"),
        (("--kind", "char", "--vocab-size", 257), "leaves no room for characters"),
        (("--vocab-size", 0), "--vocab-size must be more than 0, not 0"),
        (("--min-count", 0), "--min-count must be more than 0, not 0"),
        (("--kind", "unigram", "--min-count", 2), "--min-count means nothing to unigram"),
        (("--special", "x"), "special token 'x' must be two or more printable characters"),
        (("--special", "<|endoftext|>"), "is there already"),
        (("--data", "no/such/file.txt"), "no/such/file.txt"),
    ]:
        assert says in refused(capsys, "train", *data, *arguments, "--out", out)
        assert list(tmp_path.iterdir()) == [], "nothing half written"
    assert "the following arguments are required: --out" in refused(capsys, "train", *data)
    assert main(["tokenizer", "train", "--data", str(text_file), "--out", str(out)]) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert f"{out} exists already" in refused(
        capsys, "train", *data, "--kind", "byte", "--out", out
    )
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    file = tmp_path / "file"
    file.write_text("")
    assert str(file) in refused(capsys, "train", *data, "--out", file / "out")


# show


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return train_tokenizer("bpe", ["대한민국 대한 민국 만세"] * 9, vocab_size=280)


@pytest.fixture(scope="module")
def bpe_folder(bpe: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bpe")
    bpe.save(folder)
    return folder


@pytest.mark.parametrize(
    "text",
    [
        "대한민국  만세\n",
        "뷁 👩‍👧",
        "",
        "\ud83d",
        "<|endoftext|>",
        "한글".replace("한", "\u1112\u1161\u11ab"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_the_pieces_are_the_text(kind: str, text: str) -> None:
    tokenizer = train_tokenizer(
        kind,
        ["대한민국 만세"] * 5,
        vocab_size=270 if kind in ("bpe", "char_bpe", "unigram") else None,
    )
    parts = tokens_of(tokenizer, text)
    assert [part.id for part in parts] == tokenizer.encode(text).tolist()
    if kind != "jamo":  # whose bytes are those of letters, composed afterwards
        assert b"".join(part.bytes for part in parts) == text.encode("utf-8", "surrogatepass")
    console = Console(file=io.StringIO(), width=80)
    print_tokens(console, parts)
    console.file.getvalue().encode()  # any terminal can print it


def test_show_prints_pieces_above_ids_above_bytes(
    bpe_folder: Path, bpe: Tokenizer, capfd: pytest.CaptureFixture[str]
) -> None:
    text = "대한민국 만세 뷁"
    assert main(["tokenizer", "show", text, "--tokenizer", str(bpe_folder)]) == 0
    lines = capfd.readouterr().out.splitlines()
    count = len(bpe.encode(text))
    assert (
        lines[0]
        == f"{bpe_folder}: {count} tokens for 9 characters, {9 / count:.2f} characters per token"
    )
    blocks = [lines[at : at + 3] for at in range(2, len(lines), 4)]
    assert "".join("".join(block[0].split()) for block in blocks).startswith("대한민국␣만세")
    assert [int(number) for block in blocks for number in block[1].split()] == bpe.encode(
        text
    ).tolist()
    assert bytes.fromhex("".join(block[2] for block in blocks)) == text.encode()
    assert all(len(line) <= 80 for line in lines[1:])


def test_pieces_stand_above_their_ids_however_wide_they_are(bpe: Tokenizer) -> None:
    console = Console(file=io.StringIO(), width=200)
    print_tokens(console, tokens_of(bpe, "대한민국 만세"))
    top, ids, _, _ = console.file.getvalue().split("\n")[:4]
    columns = [at for at in range(len(ids)) if ids[at] != " " and (at == 0 or ids[at - 1] == " ")]
    width = 0
    starts = []
    for at, character in enumerate(top):
        if character != " " and (at == 0 or top[at - 1] == " "):
            starts.append(width)
        width += 2 if "가" <= character <= "힣" else 1
    assert starts == columns


def test_no_line_is_wider_than_the_console(bpe: Tokenizer) -> None:
    console = Console(file=io.StringIO(), width=40)
    print_tokens(console, tokens_of(bpe, "대한민국 만세 " * 20))
    lines = console.file.getvalue().split("\n")
    assert len(lines) > 12
    assert 30 < max(map(cell_len, lines)) <= 40


def test_colours_alternate_on_a_terminal_alone(bpe: Tokenizer) -> None:
    parts = tokens_of(bpe, "대한 뷁뷁")
    colourful = Console(file=io.StringIO(), width=200, force_terminal=True, color_system="standard")
    print_tokens(colourful, parts)
    first_line = colourful.file.getvalue().split("\n")[0]
    backgrounds = [code for code in first_line.split("\x1b[") if code.startswith("30;")]
    assert len(backgrounds) == len(parts)
    assert len({code.split("m")[0] for code in backgrounds[0::2]}) == 1
    assert backgrounds[0].split("m")[0] != backgrounds[1].split("m")[0]
    plain = Console(file=io.StringIO(), width=200)
    print_tokens(plain, parts)
    assert "\x1b" not in plain.file.getvalue()


def test_what_a_terminal_would_not_show_is_made_seen() -> None:
    assert [visible(text) for text in ("ᄒ", "ᅡ", "ᆫ", "ᆰ")] == ["ㅎ", "ㅏ", "-ㄴ", "-ㄺ"]
    assert visible(" 만세") == "␣만세"
    assert visible("\u0301") == "◌\u0301"
    assert visible("\u1140") == "ㅿ"
    assert visible("\u113c") == "\u113c", "an old letter without a form that stands alone"
    assert visible("") == ""


def test_show_json(
    bpe_folder: Path, text_file: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    text = "한\ud83d"
    command = [
        "tokenizer",
        "show",
        text,
        "--tokenizer",
        str(bpe_folder),
        "--tokenizer",
        "char",
        "--json",
    ]
    assert main([*command, "--data", str(text_file)]) == 0
    result = json.loads(capfdbinary.readouterr().out.decode("utf-8", "surrogatepass"))
    assert result["text"] == text
    assert [(row["kind"], row["count"]) for row in result["tokenizers"]] == [
        ("bpe", 5),
        ("char", 4),
    ]
    for row in result["tokenizers"]:
        data = bytes.fromhex("".join(token["bytes"] for token in row["tokens"]))
        assert data == text.encode("utf-8", "surrogatepass")
        assert row["characters_per_token"] == 2 / row["count"] == 2 / len(row["tokens"])
    assert main(["tokenizer", "show", "", "--tokenizer", str(bpe_folder), "--json"]) == 0
    (row,) = json.loads(capfdbinary.readouterr().out)["tokenizers"]
    assert (row["count"], row["characters_per_token"], row["tokens"]) == (0, None, [])


def test_a_run_folder_means_its_model(bpe: Tokenizer, tmp_path: Path) -> None:
    bpe.save(tmp_path / "run" / "model")
    found = find_tokenizer(
        str(tmp_path / "run"), lambda: pytest.fail("no corpus is needed for a folder")
    )
    assert found.fingerprint == bpe.fingerprint


def test_show_of_a_folder_does_not_wait_for_torch(bpe_folder: Path) -> None:
    code = (
        "import sys; from semigpt.cli import main; "
        f"main(['tokenizer', 'show', '만세', '--tokenizer', {str(bpe_folder)!r}]); "
        "print(sorted({'torch', 'datasets', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_mistakes_in_showing_get_one_line(
    tmp_path: Path, bpe_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    says = refused(capsys, "show", "만세", "--tokenizer", "words")
    assert (
        "no tokenizer 'words': name a tokenizer's folder, a run folder, or one of char, byte"
        in says
    )
    assert f"no tokenizer in {tmp_path}: tokenizer.json" in refused(
        capsys, "show", "만세", "--tokenizer", tmp_path
    )
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "WordPiece"}}')
    assert "tokenizer.json" in refused(capsys, "show", "만세", "--tokenizer", tmp_path)
    (tmp_path / "tokenizer.json").write_text((bpe_folder / "tokenizer.json").read_text()[:-9])
    assert "is not JSON" in refused(capsys, "show", "만세", "--tokenizer", tmp_path)
    assert "the following arguments are required: TEXT" in refused(capsys, "show")


def test_without_a_command_the_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokenizer"]) == 2
    assert "compare" in capsys.readouterr().err


# compare


def test_measures_are_what_they_are_called() -> None:
    documents = ["가나 다", "라마"]
    seen = dict.fromkeys("가나다라마 ", 1)
    byte = measure(train_tokenizer("byte", [], normalization="NFC"), documents, seen)
    assert byte.characters_per_token == pytest.approx(6 / 16)
    assert byte.bytes_per_token == 1
    assert byte.unseen == {"syllable": 3, "hanja": 3, "emoji": 4}
    # Each of the five syllables is two letters of three bytes when decomposed.
    assert (byte.nfd, byte.nfd_unnormalized) == (1, pytest.approx(31 / 16))
    jamo = measure(train_tokenizer("jamo", documents, normalization="NFC"), documents, seen)
    assert jamo.characters_per_token == pytest.approx(6 / 11)
    assert 2 < jamo.unseen["syllable"] < 3  # 1 in 28 has no final
    assert min(jamo.encode, jamo.decode, byte.encode, byte.decode) > 0


def test_a_tokenizer_that_loses_something_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lossy(CharTokenizer):
        def decode(self, ids: object) -> str:
            return super().decode(ids).replace("  ", " ")

    documents = ["가나 다"]
    assert measure(CharTokenizer("가나 다", normalization="NFC"), documents, {}).exact
    assert not measure(Lossy("가나 다", normalization="NFC"), documents, {}).exact
    assert any("  " in text for text in HARD_TEXTS)
    monkeypatch.setattr("semigpt.studies.tokenizers.HARD_TEXTS", ())
    assert not measure(Lossy("가나 다", normalization="NFC"), ["가  나"], {}).exact


def test_what_the_training_text_holds_is_not_unseen() -> None:
    seen = {chr(code): 1 for code in UNSEEN["syllable"]}
    result = measure(CharTokenizer(list(seen), normalization="NFC"), ["가"], seen)
    assert result.unseen == {"syllable": None, "hanja": 3, "emoji": 4}


def test_compare_prints_every_kind(
    text_file: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    command = ["tokenizer", "compare", "--data", str(text_file), "--vocab-size", "400"]
    assert main([*command, "--json"]) == 0
    result = json.loads(capfdbinary.readouterr().out)
    assert [row["kind"] for row in result["measured"]] == list(KINDS)
    for row in result["measured"]:
        assert row["exact"]
        assert row["vocab_size"] <= 400
        assert row["nfd"] == 1 < row["nfd_unnormalized"]
        assert row["bytes_per_token"] / row["characters_per_token"] == pytest.approx(
            result["split_bytes"] / result["split_characters"]
        )
    assert result["trained"] == []
    assert main([*command, "--kinds", "byte", "jamo", "byte"]) == 0
    out = capfdbinary.readouterr().out.decode()
    assert "characters per token" in out
    assert "jamo" in out
    assert "bpe" not in out


def test_compare_trains_the_same_model_on_each(text_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    tables = {
        "data": {"spec": str(text_file)},
        "tokenizer": {"vocab_size": 600},
        "model": SMALL_MODEL,
        "training": {"steps": 6, "eval_every": 3, "eval_blocks": 8, "batch_size": 4},
        "sample": {"max_new_tokens": 4},
    }
    said: list[str] = []
    comparisons = list(compare(tables, kinds=["char", "byte", "char"], out=out, say=said.append))
    assert [(len(c.measured), len(c.trained)) for c in comparisons] == [
        (1, 0),
        (2, 0),
        (2, 1),
        (2, 2),
    ]
    last = comparisons[-1]
    assert json.loads((out / "compare.json").read_text()) == json.loads(json.dumps(last.as_dict()))
    assert last.baselines is not None
    for row in last.trained:
        assert (row.run, row.steps, len(row.curve)) == (out / row.kind, 6, 3)
        assert row.curve[0][0] == 0 < row.curve[1][0] <= row.curve[2][0] <= row.seconds
    corpus = prepare_corpus(str(text_file))
    for row in last.trained:  # what `semigpt evaluate` says of the run
        _, model, tokenizer = open_run(row.run)
        assert (tokenizer.kind, model.parameter_count()) == (row.kind, row.parameters)
        told = evaluate(model, tokenizer, corpus, "validation", counted_on=corpus, xz=False)
        assert row.bits_per_character == pytest.approx(told.information.bits_per_character)
    page = (out / "compare.html").read_text()
    assert page.count("<figure") == 1
    assert all(
        word in page
        for word in ("seconds of training", "bits per character", "5-gram", "char", "byte")
    )
    table = (out / "compare.md").read_text()
    assert f"| bits per character | {last.trained[0].bits_per_character:.3f} |" in table
    assert "6 steps" in table
    assert said[-1].startswith("byte: ")


def test_a_comparison_whose_curves_still_cross_does_not_choose() -> None:
    def trained(kind: str, early: float, late: float) -> Trained:
        curve = [(0.0, 9.0), (30.0, early), (60.0, late)]
        return Trained(kind, Path(), 1, 1, 1, 60.0, late, curve)  # type: ignore[arg-type]

    bare = Comparison("글", 1, 1, {"training": {"minutes": 1}, "size": "tiny"})
    crossed = replace(bare, trained=[trained("char", 4.0, 3.9), trained("bpe", 4.5, 3.8)])
    verdict = crossed.verdict()
    assert verdict is not None
    assert verdict.startswith("too short to choose: char led after two thirds")
    assert verdict in crossed.html()
    clear = replace(bare, trained=[trained("char", 4.0, 3.9), trained("bpe", 3.9, 3.8)])
    assert clear.verdict() == "bpe needs the fewest bits per character: 3.800"
    assert replace(bare, trained=clear.trained[:1]).verdict() is None


def test_a_comparison_that_is_stopped_keeps_what_is_whole(text_file: Path, tmp_path: Path) -> None:
    tables = {
        "data": {"spec": str(text_file)},
        "model": SMALL_MODEL,
        "training": {"steps": 3, "eval_every": 3, "eval_blocks": 4, "batch_size": 4},
        "sample": {"max_new_tokens": 4},
    }
    stopped = [False]
    results: list[Comparison] = []
    for result in compare(
        tables, kinds=["byte", "jamo"], out=tmp_path / "out", stop=lambda: stopped[0]
    ):
        results.append(result)
        stopped[0] = len(result.trained) == 1
    assert [row.kind for row in results[-1].trained] == ["byte"]
    assert not (tmp_path / "out" / "jamo").exists()
    saved = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert [row["kind"] for row in saved["trained"]] == ["byte"]
    assert "" in results[-1].table()[-1], "the kind without a model has an empty cell"


def test_a_model_that_was_stopped_halfway_is_saved_and_not_compared(
    text_file: Path, tmp_path: Path
) -> None:
    tables = {
        "data": {"spec": str(text_file)},
        "model": SMALL_MODEL,
        "training": {"steps": 50, "eval_every": 50, "eval_blocks": 4, "batch_size": 4},
        "sample": {"max_new_tokens": 4},
    }
    folder = tmp_path / "out" / "byte"
    stop = (folder / "metrics.jsonl").exists
    results = list(compare(tables, kinds=["byte", "jamo"], out=tmp_path / "out", stop=stop))
    assert results[-1].trained == ()
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step-00000001"]
    assert not (tmp_path / "out" / "jamo").exists()


def test_mistakes_in_comparing_get_one_line(
    text_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = ("--data", text_file), tmp_path / "out"
    for arguments, says in [
        (
            ("--kinds", "char", "word"),
            "--kinds must be one of char, byte, jamo, bpe, char_bpe, unigram, not 'word'",
        ),
        (("--vocab-size", 100), "vocabulary of 100"),
        (("--vocab-size", 0), "vocab_size must be more than 0"),
        (("--minutes", 0), "minutes must be more than 0"),
        (("--minutes", 1, "--steps", 3), "exactly one of steps, tokens and minutes"),
        (("--minutes", 1, "--size", "huge"), "size must be one of tiny, small, base, large"),
        (("--size", "small"), "--size is of the models; give --minutes too"),
        (("--seed", 3), "--seed is of the models; give --minutes too"),
        (("--data", "no/such/file.txt"), "no/such/file.txt"),
    ]:
        assert says in refused(capsys, "compare", *data, *arguments, "--out", out)
        assert list(tmp_path.iterdir()) == [], "nothing half written"
    out.mkdir()
    (out / "notes.txt").write_text("")
    assert f"{out} exists already" in refused(capsys, "compare", *data, "--out", out)


def test_training_without_a_folder_is_refused() -> None:
    with pytest.raises(SettingsError, match="name a new one with --out"):
        next(compare({"training": {"steps": 1}}, kinds=["byte"]))
    with pytest.raises(SettingsError, match="no kinds"):
        next(compare({}, kinds=[]))


def test_nothing_is_written_over(text_file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(TokenizerError, match="exists already"):
        next(compare({}, kinds=["byte"], out=link))
    corpus = prepare_corpus(str(text_file))
    train_into(tmp_path / "once", "byte", corpus)
    with pytest.raises(TokenizerError, match="once exists already; give --out a new folder"):
        train_into(tmp_path / "once", "jamo", corpus)
