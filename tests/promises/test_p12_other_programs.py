"""P12: an exported file gives the same ids, probabilities and text in its runtime, or is refused.

`transformers` is in `tests/test_huggingface.py`.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hub_stand_in import HubStandIn
from semigpt.cli import main
from semigpt.errors import CheckpointError, SettingsError
from semigpt.export import gguf_file, onnx_graph, verify
from semigpt.export import run as export_run
from semigpt.export.llama_cpp import LlamaCpp
from semigpt.export.run import export
from semigpt.export.vocabulary import gguf_vocabulary
from semigpt.huggingface.folder import model_card, save_model
from semigpt.huggingface.integrity import with_digests
from semigpt.huggingface.open import open_run
from semigpt.models import build_model
from semigpt.tokenizers import BPETokenizer, CharTokenizer, Tokenizer, train_tokenizer

KOREAN = (
    "기상청은 24일 전국이 대체로 맑겠다고 밝혔다.\n  아침 최저기온은 영하 3도에서 5도로 예보됐다. "
    "의사협회는 “환자의 안전이 먼저”라고 말했다. 정부는 다음 달까지 대책을 내놓기로 했다. ㅋㅋ\t"
)
TRICKY = [
    " ",
    "  띄어쓰기  두 칸 . ? ! ,",
    "\n\n\r\n\t\x7f",
    "<0x41> <0xEA>",
    "Ġĉ 뷁 ÿÿ",
    "ㄱㅏㅋㅋㅠㅠ ﾤﾷ 0123456789 don't WE'LL",
    "\ufeff👩‍👩‍👧 𠮷\U0010ffff\ufffd\u3000\u00a0",
]
SHAPES: dict[str, dict[str, Any]] = {
    "gpt": {"width": 32, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2},
    "gpt, tied": {"width": 48, "num_layers": 1, "num_heads": 3, "tie_embeddings": True},
    "blocks": {"width": 64, "num_layers": 2, "num_heads": 4},
    "blocks, tied": {"width": 32, "num_layers": 1, "num_heads": 2, "tie_embeddings": True},
}
# The extra `test` brings the other packages everywhere.
needs_llama_cpp = pytest.mark.skipif(
    importlib.util.find_spec("xllamacpp") is None, reason="ARM64 Linux has no xllamacpp"
)


def saved(folder: Path, shape: str, kind: str) -> Path:
    """A model folder with random weights that say something of their own about every token."""
    vocab_size = {"bpe": 330, "char_bpe": 370, "unigram": 300}.get(kind)
    if kind == "plain":
        tokenizer: Tokenizer = CharTokenizer.plain(KOREAN)
    else:
        tokenizer = train_tokenizer(kind, [KOREAN] * 3, vocab_size=vocab_size)
    torch.manual_seed(0)
    settings = {"context_length": 32, **SHAPES.get(shape, {})}
    model = build_model(shape.split(",")[0], tokenizer.vocab_size, settings).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    folder.mkdir(exist_ok=True)
    save_model(folder, model, tokenizer, model_card(model, {}))
    return folder


@needs_llama_cpp
@pytest.mark.parametrize(
    ("shape", "kind", "type_"),
    [
        ("gpt", "char", "f32"),
        ("gpt, tied", "char_bpe", "f32"),
        ("blocks", "bpe", "f32"),
        ("blocks, tied", "byte", "f32"),
        ("gpt", "bpe", "f16"),
        ("gpt, tied", "char", "q8_0"),  # rows of 48 stay f16
        ("blocks", "char_bpe", "q8_0"),
    ],
)
def test_llama_cpp(tmp_path: Path, shape: str, kind: str, type_: Any) -> None:
    folder = saved(tmp_path, shape, kind)
    exported = export(folder, "gguf", kind=type_)
    verdict = exported.verdict
    assert (verdict.texts, verdict.prompts) == (4, 5)
    assert verdict.tokens >= 5
    if type_ == "f32":
        assert verdict.difference <= 5e-5
        assert verdict.same == 5
    else:
        assert 5e-5 < verdict.difference < 0.3
    _, model, tokenizer = open_run(folder)
    with LlamaCpp(exported.file, model, tokenizer) as runtime:
        for text in TRICKY:
            ids = [tokenizer.end_of_text, *tokenizer.encode(text).tolist()]
            assert runtime.encode(text) == ids, repr(text)
            assert runtime.decode(ids) == text
        messages = [{"role": "user", "content": " 기상청은 "}]
        assert runtime._ask("apply-template", messages=messages)["prompt"] == " 기상청은 "


@needs_llama_cpp
def test_llama_cpp_may_round_the_sum_of_many_probabilities(tmp_path: Path) -> None:
    """The likeliest come first, and after them thousands of small ones are lost to float32."""
    folder = tmp_path / "wide"
    text = "".join(chr(0xAC00 + i) for i in range(10_000)) + KOREAN
    tokenizer = train_tokenizer("char", [text])
    torch.manual_seed(0)
    model = build_model("gpt", tokenizer.vocab_size, {"context_length": 32, **SHAPES["gpt"]}).eval()
    with torch.no_grad():
        rows = model.lm_head.weight.normal_(std=0.01)
        rows[300:332].normal_(std=1.3)
        rows[332:364] = -rows[300:332]  # one of them is far above the rest
    folder.mkdir()
    save_model(folder, model, tokenizer, model_card(model, {}))
    verdict = export(folder, "gguf").verdict
    assert verdict.difference <= 5e-5
    assert verdict.same == 5


def test_a_shared_offset_is_rounding_up_to_a_bound() -> None:
    ours = np.log(np.array([[0.5, 0.25, 0.125, 0.125], [0.7, 0.1, 0.1, 0.1]]))
    theirs = ours + np.array([[1e-4], [-2e-4]])
    theirs[1, 3] = np.nan
    assert verify._furthest(ours, theirs, 3e-4) == pytest.approx(0.0, abs=1e-12)
    assert verify._furthest(ours, theirs, 1.5e-4) == pytest.approx(5e-5)
    assert verify._furthest(ours, theirs, 0.0) == pytest.approx(2e-4)
    theirs[0, 0] += 1e-3
    assert verify._furthest(ours, theirs, 3e-4) == pytest.approx(1e-3)
    assert verify._furthest(ours[:0], theirs[:0], 1.0) == 0.0


@needs_llama_cpp
def test_a_file_that_says_something_else_is_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved(tmp_path / "bpe", "blocks", "bpe")
    before = sorted(folder.iterdir())
    with monkeypatch.context() as patch, pytest.raises(CheckpointError, match=r"log-prob.* away"):
        patch.setitem(gguf_file.GELU_SCALE, "f32", 1)
        export(folder, "gguf")
    with monkeypatch.context() as patch, pytest.raises(CheckpointError, match="gives other ids"):
        patch.setattr(gguf_file, "PRE_TOKENIZER", "default")
        export(folder, "gguf")
    with monkeypatch.context() as patch, pytest.raises(CheckpointError, match="does not load"):
        patch.setattr(export_run, "write_gguf", lambda path, *_: path.write_bytes(b"GGUF"))
        export(folder, "gguf")
    assert sorted(folder.iterdir()) == before


@needs_llama_cpp
def test_the_card_has_a_row_for_each_file_and_ollama_a_modelfile(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    folder = saved(tmp_path / "Mine", "gpt", "char")
    card = folder / "README.md"
    for _ in range(2):
        assert main(["export", str(folder), "--to", "ollama"]) == 0
        card.write_text(card.read_text() + "\n## Mine\n\nA word of mine.\n")
    assert b"within" in capsysbinary.readouterr().err
    text = card.read_text()
    assert text.count("| `model-f32.gguf` | llama.cpp") == 1
    assert "ollama create mine -f Modelfile" in text
    assert text.count("A word of mine.") == 2
    lines = (folder / "Modelfile").read_text().splitlines()
    assert lines[0] == "FROM ./model-f32.gguf"
    assert 'TEMPLATE "{{ .Prompt }}"' in lines


@pytest.mark.parametrize(
    ("shape", "kind"),
    [("gpt", "unigram"), ("gpt, tied", "char"), ("blocks", "char_bpe"), ("blocks, tied", "bpe")],
)
def test_onnxruntime(tmp_path: Path, shape: str, kind: str) -> None:
    """Each text in a batch, padded, beside another, and with a cache."""
    folder = saved(tmp_path, shape, kind)
    exported = export(folder, "onnx")
    assert exported.file == folder / "onnx" / "model.onnx"
    assert exported.verdict.difference <= 5e-5
    assert exported.verdict.same == exported.verdict.prompts == 5
    assert "| `onnx/model.onnx` | onnxruntime" in (folder / "README.md").read_text()


def test_an_onnx_file_that_says_something_else_is_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved(tmp_path, "gpt", "char")
    with monkeypatch.context() as patch, pytest.raises(CheckpointError, match=r"log-prob.* away"):
        patch.setattr(onnx_graph, "MASKED", -1.0)
        export(folder, "onnx")
    with monkeypatch.context() as patch, pytest.raises(CheckpointError, match="does not load"):
        patch.setattr(onnx_graph, "write_onnx", lambda path, _: path.write_bytes(b"ONNX"))
        export(folder, "onnx")
    assert not list((folder / "onnx").iterdir())


def test_a_folder_of_an_earlier_version_says_how_it_is_renewed(tmp_path: Path) -> None:
    folder = saved(tmp_path, "gpt", "char")
    file = folder / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"post_processor": None}))
    weights = folder / "model.safetensors"
    weights.write_bytes(with_digests(weights.read_bytes(), folder, {}))
    with pytest.raises(CheckpointError, match="puts nothing before a text: save the model again"):
        export(folder, "onnx")
    _, model, tokenizer = open_run(folder)
    save_model(folder, model, tokenizer, "")
    assert export(folder, "onnx").verdict.same == 5


@pytest.mark.parametrize(
    ("shape", "kind", "flags", "line"),
    [
        ("gpt", "unigram", ["gguf"], "train with --tokenizer char_bpe"),
        ("gpt", "unigram", ["ollama"], "train with --tokenizer char_bpe"),
        ("gpt", "jamo", ["gguf"], "train with --tokenizer char_bpe"),
        ("gpt", "plain", ["gguf"], "train with --tokenizer char"),
        ("gpt", "plain", ["onnx"], "train with --tokenizer char"),
        ("bigram", "char", ["gguf"], "train --model gpt or blocks"),
        ("gpt", "char", ["tflite"], "--to must be one of gguf, ollama, onnx"),
        ("gpt", "char", ["gguf", "--type", "q4_0"], "--type must be one of f32, f16, q8_0"),
        ("gpt", "char", ["onnx", "--type", "f16"], "an ONNX file is written in f32"),
    ],
)
def test_what_cannot_be_exported_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    shape: str,
    kind: str,
    flags: list[str],
    line: str,
) -> None:
    folder = saved(tmp_path, shape, kind)
    monkeypatch.setattr(export_run.importlib.util, "find_spec", lambda name: True)
    assert main(["export", str(folder), "--to", *flags]) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("character", ["\u2581", "\0"])
def test_the_space_of_sentencepiece_and_the_end_of_c_strings_are_in_no_gguf(character: str) -> None:
    with pytest.raises(SettingsError, match="a GGUF file cannot hold"):
        gguf_vocabulary(CharTokenizer(KOREAN + character))


def test_the_second_of_two_merges_to_one_token_gets_its_name() -> None:
    a, b, c = b"abc"
    tokenizer = BPETokenizer([(a, b), (b, c), (256, c), (a, 257)])
    vocabulary = gguf_vocabulary(tokenizer)
    assert vocabulary.tokens[256:260] == ["ab", "bc", "[unused 258]", "abc"]
    assert len(set(vocabulary.tokens)) == tokenizer.vocab_size
    assert tokenizer.encode("abc").tolist() == [259]


def test_a_package_that_is_missing_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = saved(tmp_path, "gpt", "char")
    monkeypatch.setattr(export_run.importlib.util, "find_spec", lambda name: None)
    assert main(["export", str(folder), "--to", "onnx"]) == 2
    assert "needs onnx and onnxruntime: pip install 'semigpt[export]'" in capsys.readouterr().err


def test_a_folder_is_uploaded_with_its_card_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import constants

    folder = saved(tmp_path, "gpt", "char")
    export(folder, "onnx")
    (folder / "diary.txt").write_text("mine")
    (folder / "model-f32.gguf").write_bytes(b"GGUF")  # of other weights
    command = ["export", str(folder), "--push", "hf:me/mine"]
    with HubStandIn({}) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        monkeypatch.setenv("HF_TOKEN", hub.token)
        assert main(command) == 0
        error = capsys.readouterr().err
        assert "me/mine/commit/" in error
        assert "model-f32.gguf stays" in error
        uploaded = {name: (folder / name).read_bytes() for name in hub.models["me/mine"]}
        assert hub.models == {"me/mine": uploaded}
        assert {"README.md", "onnx/model.onnx", "model.safetensors", "tokenizer.json"} <= set(
            uploaded
        )
        assert not {"diary.txt", "model-f32.gguf"} & set(uploaded)
        monkeypatch.setenv("HF_TOKEN", "hf_another")
        assert main(command) == 2
        assert "log in with `hf auth login`" in capsys.readouterr().err
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody is there
    assert main(command) == 2
    assert "no answer from http://127.0.0.1:9" in capsys.readouterr().err
    assert main([*command[:-1], "me/mine"]) == 2
    assert "--push takes hf:USER/NAME" in capsys.readouterr().err
    assert main(command[:2]) == 2
    assert "nothing to do" in capsys.readouterr().err
