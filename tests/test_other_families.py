"""Models that others trained: measured, continued in text, and trained further.

Each is a small random net that transformers itself wrote, beside a tokenizer of the library's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import normalizers

from foreign_models import TEXTS, V, like_llama, like_qwen, put, write_folder
from hub_stand_in import HubStandIn
from semigpt.cli import main
from semigpt.config import Recipe
from semigpt.corpus.staging import prepare_corpus
from semigpt.errors import CheckpointError, SemigptError, SettingsError, TokenizerError
from semigpt.evaluation.evaluate import evaluate, scored_windows
from semigpt.export.run import export
from semigpt.generation.engine import generate_text, stream_text
from semigpt.generation.sampling import SamplingSettings
from semigpt.huggingface.cut import cut_vocabulary
from semigpt.huggingface.folder import load_model, save_model
from semigpt.huggingface.open import open_run
from semigpt.recipe import Finished, Prepared, Stepped, train
from semigpt.run_folder import RunFolder
from semigpt.tokenizers import ByteTokenizer, ForeignTokenizer, load_tokenizer

SHAPE = {
    "vocab_size": V,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
LLAMA_3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
LINEAR = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.0}
YARN = {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 2.0}
GPT2 = {"vocab_size": V, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
OURS: dict[str, tuple[str, dict[str, Any]]] = {
    "Qwen3": ("Qwen3", {**SHAPE, "head_dim": 16, "max_window_layers": 28}),
    "Qwen3, tied, biases": (
        "Qwen3",
        {**SHAPE, "head_dim": 8, "tie_word_embeddings": True, "attention_bias": True},
    ),
    "Qwen2": ("Qwen2", {**SHAPE, "tie_word_embeddings": True}),
    "Llama": ("Llama", SHAPE),
    "Llama 3": ("Llama", {**SHAPE, "rope_parameters": LLAMA_3, "tie_word_embeddings": True}),
    "Llama, biases": ("Llama", {**SHAPE, "attention_bias": True, "rope_parameters": LINEAR}),
    "Mistral": ("Mistral", {**SHAPE, "sliding_window": 64}),
    "GPT-2": ("GPT2", GPT2),
    "GPT-2, exact GELU": ("GPT2", {**GPT2, "activation_function": "gelu", "n_inner": 80}),
}
OTHERS = {
    "GPT-NeoX": ("GPTNeoX", {k: v for k, v in SHAPE.items() if k != "num_key_value_heads"}),
    "Llama, yarn": ("Llama", {**SHAPE, "rope_parameters": YARN}),
}
NETS = {**OURS, **OTHERS}
IDS = torch.randint(0, V, (2, 40), generator=torch.Generator().manual_seed(0))


def write(name: str, folder: Path, **saving: Any) -> Any:
    """A random net of NETS, saved by transformers."""
    family, shape = NETS[name]
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**shape)
    kind = "LMHeadModel" if family == "GPT2" else "ForCausalLM"
    net = getattr(transformers, f"{family}{kind}")(config).eval()
    with torch.no_grad():
        for parameter in net.parameters():  # biases of zero and norms of one would hide mistakes
            parameter += 0.1 * torch.randn_like(parameter)
    net.save_pretrained(folder, **saving)
    return net


TOKENIZERS = {"qwen": like_qwen, "llama": like_llama}


@pytest.fixture(scope="module")
def corpus_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("text") / "글.jsonl"
    texts = [f"{number}번. {text}" for number, text in enumerate(TEXTS)]
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return file


@pytest.mark.parametrize("name", OURS)
def test_logits_are_transformers_and_still_are_after_saving(name: str, tmp_path: Path) -> None:
    theirs = write(name, tmp_path / "theirs", max_shard_size="30KB")
    assert len(list((tmp_path / "theirs").glob("*.safetensors"))) > 1
    ours = load_model(tmp_path / "theirs")
    with torch.no_grad():
        expected = theirs(IDS).logits
        torch.testing.assert_close(ours(IDS)[0], expected, atol=1e-5, rtol=1e-5)
        save_model(tmp_path / "ours", ours, ByteTokenizer(), "")
        again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours").eval()
        assert type(again) is type(theirs)
        torch.testing.assert_close(again(IDS).logits, expected, atol=1e-5, rtol=1e-5)
    assert ours.parameter_count() == ours.settings.parameter_count
    short = load_model(tmp_path / "theirs", context_length=40)
    assert short.settings.context_length == 40
    assert torch.equal(short(IDS)[0], ours(IDS)[0])


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_tokenizer_of_others_has_our_interface(kind: str, tmp_path: Path) -> None:
    made = TOKENIZERS[kind]()
    ours = put(made, tmp_path / "theirs")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "theirs")
    assert isinstance(ours, ForeignTokenizer)
    for text in TEXTS[:2]:
        ids = ours.encode(text).tolist()
        assert ids == theirs(text, add_special_tokens=False)["input_ids"]
        assert ours.decode(ids).removeprefix(" ") == text
        stream = ours.stream()
        assert "".join(map(stream.push, ids)) + stream.finish() == ours.decode(ids)
    spelled = ours.encode("<|endoftext|></s><s>").tolist()
    assert not set(spelled) & set(ours.special_tokens.values()), "a text never ends a text"
    begin, end = ("<s>", "</s>") if kind == "llama" else ("<|endoftext|>", "<|endoftext|>")
    assert (ours.begin_of_text, ours.end_of_text) == tuple(map(made[0].token_to_id, (begin, end)))
    ours.save(tmp_path / "again", context_length=32)
    again = load_tokenizer(tmp_path / "again")
    assert again.fingerprint == ours.fingerprint
    assert again.encode(TEXTS[0]).tolist() == ours.encode(TEXTS[0]).tolist()


def their_nats(net: Any, ids: list[int], unscored: int, context: int) -> float:
    """The information of a ring of ids by transformers' own loss, in our windows."""
    ring, nats = [ids[-1], *ids], 0.0
    for start, scored in scored_windows(len(ids), context, context // 2):
        window = torch.tensor([ring[start : start + context + 1]])
        labels = window.clone()
        labels[:, : scored + 1] = -100
        labels[labels == unscored] = -100
        with torch.no_grad():
            nats += float(net(window, labels=labels).loss) * int((labels[:, 1:] >= 0).sum())
    return nats


@pytest.mark.parametrize(
    ("name", "kind"),
    [("Qwen3", "qwen"), ("Llama", "llama"), ("GPT-NeoX", "qwen"), ("Llama, yarn", "llama")],
)
def test_bits_per_character_are_of_transformers_own_loss(
    name: str, kind: str, tmp_path: Path, corpus_file: Path
) -> None:
    net = write(name, tmp_path)
    put(TOKENIZERS[kind](), tmp_path)
    _, model, tokenizer = open_run(tmp_path, 32)
    assert (model.kind == "transformers") == (name in OTHERS)
    corpus = prepare_corpus(str(corpus_file))
    result = evaluate(model, tokenizer, corpus, "train", counted_on=corpus, xz=False)
    ids = np.concatenate(list(tokenizer.encode_documents(corpus.documents("train")))).tolist()
    unscored = tokenizer.begin_of_text if kind == "llama" else -1
    expected = their_nats(net, ids, unscored, 32) / math.log(2)
    assert result.information.bits_per_character == pytest.approx(
        expected / corpus.characters("train"), abs=1e-4
    )
    assert result.information.tokens == sum(i != unscored for i in ids)


@pytest.mark.parametrize("name", ["GPT-NeoX", "Qwen3", "GPT-2"])
def test_a_model_of_others_continues_a_text_as_transformers_does(name: str, tmp_path: Path) -> None:
    """Past its context too: there it sees at least the newest half of it."""
    net = write(name, tmp_path)
    put(like_qwen(), tmp_path)
    _, model, tokenizer = open_run(tmp_path)
    sampling = SamplingSettings(temperature=0)
    chunks = stream_text(
        model, tokenizer, "기상청은", max_new_tokens=12, sampling=sampling, logprobs=0
    )
    scores = [score for chunk in chunks for score in chunk.scores]
    written = [score.token for score in scores]
    prompt = [tokenizer.begin_of_text, *tokenizer.encode("기상청은").tolist()]
    with torch.no_grad():
        logits_TV = net(torch.tensor([[*prompt, *written]])).logits[0].log_softmax(-1)
    theirs = logits_TV[range(len(prompt) - 1, len(prompt) + len(written) - 1), written].tolist()
    assert [score.log_probability for score in scores] == pytest.approx(theirs, abs=1e-4)
    assert len(generate_text(model, tokenizer, "기상청은", max_new_tokens=90, seed=0)[0]) > 10


def test_text_that_its_tokens_do_not_spell_is_refused(tmp_path: Path) -> None:
    """Counted, an unknown token would make a model look good at what it never saw."""
    plain = put(like_llama(bytes_too=False), tmp_path)
    with pytest.raises(TokenizerError, match="no tokens for some characters of '뵑'"):
        list(plain.encode_documents(["기 기.", "뵑"]))
    made, config = like_qwen()
    made.normalizer = normalizers.Lowercase()
    lower = put((made, config), tmp_path)
    assert [len(ids) > 1 for ids in lower.encode_documents(["hello"])] == [True]
    with pytest.raises(TokenizerError, match="turns 'Hello' into 'hello'"):
        list(lower.encode_documents(["Hello"]))


def test_a_model_of_the_hub_is_measured_by_its_name(
    tmp_path: Path, corpus_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Fetched once: the data alone, and nothing that is a program."""
    write("Llama", tmp_path / "net")
    put(like_llama(), tmp_path / "net")
    files = {path.name: path.read_bytes() for path in (tmp_path / "net").iterdir()}
    hostile = {"pytorch_model.bin": b"pickle", "modeling.py": b"1 / 0", "onnx/config.json": b"{}"}
    with HubStandIn({}) as hub:
        hub.models["kim/net"] = {**files, **hostile}
        constants = {
            "ENDPOINT": hub.endpoint,
            "HUGGINGFACE_CO_URL_TEMPLATE": hub.endpoint
            + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(tmp_path / "cache"),
        }
        for constant, value in constants.items():
            monkeypatch.setattr(f"huggingface_hub.constants.{constant}", value)
        assert main(["evaluate", "hf:kim/net", "--data", str(corpus_file), "--no-xz"]) == 0
        found, model, _ = open_run("hf:kim/net")
        assert (found, model.kind) == (None, "gpt")
        with pytest.raises(CheckpointError, match="hf:kim/other: .* answered 404: check the name"):
            open_run("hf:kim/other")
        with pytest.raises(SemigptError, match=r"hf:USER/NAME\[@REVISION\]"):
            open_run("hf:kim")
    fetched = {path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    assert not any(name in fetched for name in ("modeling.py", "pytorch_model.bin"))
    assert "this model" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "kind"),
    [("Llama 3", "llama"), ("GPT-2", "qwen")],
)
def test_a_model_of_others_is_trained_further_and_saved_as_what_it_was(
    name: str, kind: str, tmp_path: Path, corpus_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = write(name, tmp_path / "net", max_shard_size="30KB")
    put(TOKENIZERS[kind](), tmp_path / "net")
    tables = {
        "data": {"spec": str(corpus_file)},
        "start": {"folder": str(tmp_path / "net")},
        "model": {"context_length": 16},
        "training": {"steps": 4, "eval_every": 2, "eval_blocks": 2, "save_every": 2},
        "optimizer": {"learning_rate": 3e-3},
    }
    recipe = Recipe.from_tables(tables)
    for event in train(recipe, tmp_path / "run"):
        if isinstance(event, Prepared):
            ids = IDS[:, :16] % event.tokenizer.vocab_size
            with torch.no_grad():
                begun, expected = event.model(ids)[0], theirs(ids).logits
            torch.testing.assert_close(
                begun, expected[..., : begun.shape[-1]], atol=1e-5, rtol=1e-5
            )
        if isinstance(event, Stepped):
            break
    monkeypatch.setattr("semigpt.training.forecast.available_memory", lambda _: 100_000)
    with pytest.raises(SettingsError, match="a smaller model with --from"):
        list(train(recipe, tmp_path / "large"))
    monkeypatch.undo()
    resumed = Recipe.from_tables(RunFolder.open(tmp_path / "run").config())
    *_, finished = train(resumed, tmp_path / "run", resume=True)
    assert isinstance(finished, Finished)
    losses = [r["val_loss"] for r in finished.run.rows("metrics") if "val_loss" in r]
    assert losses[-1] < losses[0] - 0.1
    saved = finished.run.model_folder
    again = transformers.AutoModelForCausalLM.from_pretrained(saved).eval()
    assert type(again) is type(theirs)
    _, ours, tokenizer = open_run(tmp_path / "run")
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(saved)
    text = "기상청은 24일"
    rows = their_tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    assert rows[0].tolist() == tokenizer.encode(text).tolist()
    with torch.no_grad():
        torch.testing.assert_close(
            again(rows[:, :16]).logits, ours(rows[:, :16])[0], atol=1e-5, rtol=1e-5
        )


def changed(folder: Path, **keys: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **keys}))


def without_weights(folder: Path) -> None:
    for file in folder.glob("*.safetensors*"):
        file.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")


def outside_index(folder: Path) -> None:
    index = {"metadata": {}, "weight_map": {"a": "../model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a family that nobody knows": (
        lambda folder: changed(folder, model_type="nobody", architectures=["Nobody"]),
        "is not read by transformers",
    ),
    "a pickle": (without_weights, "but pytorch_model.bin: a pickle is a program"),
    "a shard outside": (outside_index, "names no files of its folder"),
    "a program": (
        lambda folder: changed(folder, auto_map={"AutoConfig": "a--b.C"}, model_type="mine"),
        "is not read by transformers",
    ),
    "positions scaled by a word": (
        lambda folder: changed(folder, rope_scaling={"rope_type": "yarn", "factor": "much"}),
        "is not read by transformers",
    ),
    "weights of another net": (
        lambda folder: changed(folder, num_hidden_layers=1, rope_scaling={"rope_type": "yarn"}),
        "is not read by transformers",
    ),
    "too many layers": (
        lambda folder: changed(folder, num_hidden_layers=10**6, rope_scaling={"type": "yarn"}),
        "more layers than its weights have tensors",
    ),
    "no scaling": (
        lambda folder: changed(folder, rope_scaling={"rope_type": "linear", "factor": 0}),
        "its logits are not finite",
    ),
    "a tokenizer of more tokens": (
        lambda folder: changed(folder, vocab_size=100),
        r"has \d+ tokens, the model 100|expected \(100",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_folder_that_cannot_be_is_said_in_one_line(damage: str, tmp_path: Path) -> None:
    write_folder("llama", tmp_path)
    harm, says = DAMAGE[damage]
    harm(tmp_path)
    with pytest.raises(SemigptError, match=says) as error:
        open_run(tmp_path)
    assert "\n" not in str(error.value)


def test_a_run_cannot_begin_from_what_is_only_measured(tmp_path: Path) -> None:
    write_folder("through_transformers", tmp_path)
    with pytest.raises(SemigptError, match="scaled by 'yarn'; semigpt builds default, linear and"):
        Recipe.from_tables({"start": {"folder": str(tmp_path)}})
    changed(tmp_path, model_type="gemma3_text")
    with pytest.raises(SemigptError, match="'gemma3_text'; known are gpt2, llama, mistral, qwen2"):
        Recipe.from_tables({"start": {"folder": str(tmp_path)}})
    write_folder("llama", tmp_path)
    with pytest.raises(SettingsError, match="context_length is 64, more than the 32"):
        Recipe.from_tables({"start": {"folder": str(tmp_path)}, "model": {"context_length": 64}})
    with pytest.raises(SettingsError, match="export is for models that began in semigpt"):
        export(tmp_path, "onnx")


@pytest.mark.parametrize(("name", "kind"), [("Qwen3, tied, biases", "qwen"), ("Llama", "llama")])
def test_a_cut_vocabulary_says_what_the_whole_one_said(
    name: str, kind: str, tmp_path: Path, corpus_file: Path
) -> None:
    """The logits of the tokens that are left, on a text of them; and any other text is spelled."""
    write(name, tmp_path)
    whole_tokenizer = put(TOKENIZERS[kind](), tmp_path)
    few = corpus_file.with_name("few.jsonl")
    texts = [f"{number}번 기상청은 맑겠다고." for number in range(40)]
    few.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    corpus = prepare_corpus(str(few))
    cut = cut_vocabulary(tmp_path, corpus)
    assert cut.kept < cut.tokens
    assert cut.parameters < cut.whole_parameters
    assert cut.more >= 1
    _, model, tokenizer = open_run(cut.folder)
    whole = load_model(tmp_path)
    ids, old_ids = tokenizer.encode(texts[3]).tolist(), whole_tokenizer.encode(texts[3]).tolist()
    with torch.no_grad():
        logits, old = model(torch.tensor([ids]))[0][0], whole(torch.tensor([old_ids]))[0][0]
    torch.testing.assert_close(logits[0, ids], old[0, old_ids], atol=1e-5, rtol=1e-5)
    assert tokenizer.decode(tokenizer.encode("한 번도 😀 없던 말")).strip() == "한 번도 😀 없던 말"
    begin_and_end = [tokenizer.begin_of_text, tokenizer.end_of_text]
    old = [whole_tokenizer.begin_of_text, whole_tokenizer.end_of_text]
    assert [*map(tokenizer.token_text, begin_and_end)] == [*map(whole_tokenizer.token_text, old)]
    if kind == "qwen":
        flags = ["--from", str(tmp_path), "--keep-vocabulary", "used", "--data", str(few)]
        short = ["--steps", "1", "--set", "model.context_length=8", "--out", str(tmp_path / "run")]
        assert main(["train", *flags, *short]) == 0
        assert load_model(tmp_path / "run" / "model").settings.vocab_size == cut.kept
