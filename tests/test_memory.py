"""The `memory` rung as any other: its folder, its text, its mixture; and what only it has."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from conftest import VOCABULARY, machine, small_model, small_stream
from semigpt.errors import CheckpointError, SettingsError
from semigpt.huggingface.folder import load_model
from semigpt.models.memory import MemoryGPT
from semigpt.native import ngrams as native_ngrams
from semigpt.ngrams.counts import Counts
from semigpt.ngrams.longest_match import LONGEST_MATCH, longest_match
from semigpt.recipe import Recipe, Stepped, train
from semigpt.training.step import make_step


def recipe(text_file: Path, **changes: object) -> Recipe:
    return Recipe.from_tables(
        {
            "data": {"spec": str(text_file)},
            "model": {
                "kind": "memory",
                "context_length": 16,
                "width": 64,
                "num_layers": 1,
                "num_heads": 2,
            },
            "training": {
                "steps": 12,
                "batch_size": 8,
                "eval_blocks": 8,
                "save_every": 3,
                "teacher": "counts",
                **changes,
            },
            "sample": {"max_new_tokens": 8},
        }
    )


@pytest.fixture
def text_file(tmp_path: Path, korean_text: str) -> Path:
    path = tmp_path / "글.txt"
    path.write_text(
        "\n\n".join(f"{number}번 글. {korean_text}" for number in range(60)), encoding="utf-8"
    )
    return path


@pytest.fixture
def run(text_file: Path, tmp_path: Path) -> Path:
    for _ in train(recipe(text_file), tmp_path / "run"):
        pass
    return tmp_path / "run"


def test_its_folder_holds_the_counts_and_gives_the_same_model(run: Path) -> None:
    model = load_model(run / "model")
    assert isinstance(model, MemoryGPT)
    assert model.counts is not None
    with torch.no_grad():
        logits, _ = model(torch.arange(10)[None])
    torch.testing.assert_close(logits.exp().sum(-1), torch.ones(1, 10))
    assert "needs semigpt" in (run / "model" / "README.md").read_text(encoding="utf-8")


def test_counts_that_were_changed_are_refused(run: Path) -> None:
    path = run / "model" / "counts.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"counts\.safetensors is not the one"):
        load_model(run / "model")
    path.unlink()
    with pytest.raises(CheckpointError, match=r"counts\.safetensors is not the one"):
        load_model(run / "model")


def test_it_goes_on_to_the_same_bits(run: Path, text_file: Path, tmp_path: Path) -> None:
    left = tmp_path / "left"
    for event in train(recipe(text_file), left):
        if isinstance(event, Stepped) and event.report.step == 8:
            break
    for _ in train(recipe(text_file), left, resume=True):
        pass
    for name in (
        "metrics.jsonl",
        "model/model.safetensors",
        "model/counts.safetensors",
        "samples.jsonl",
    ):
        assert (left / name).read_bytes() == (run / name).read_bytes(), name


@pytest.mark.parametrize("expert", ["net", "counts", "one token", "match"])
def test_the_mixture_is_the_gates(expert: str) -> None:
    """With all weight on one expert it is that expert, in distributions and target by target."""
    model = small_model("memory")
    assert isinstance(model, MemoryGPT)
    assert model.counts is not None
    inputs = torch.randint(0, 4, (2, 12))  # tokens that come again
    inputs[:, 0] = 40  # nothing was there before: no match
    targets = inputs.roll(-1, dims=1)
    order = model.settings.memory_order
    with torch.no_grad():
        model.token_features.weight.zero_()  # a net without a memory reads none
        model.feature_weights.zero_()
        model.gate.zero_()
        row = {"net": 0, "one token": 2, "counts": order, "match": order + 1}[expert]
        model.gate[row, -1] = 60.0
        p, losses = model(inputs)[0].exp(), model.token_losses(inputs, targets)
        expected = model.counts.distribution(inputs)
        if expert == "net":
            model.counts = None
            expected = model(inputs)[0].softmax(-1)
        elif expert == "one token":
            for t in range(12):
                expected[:, t] = model.counts.distribution(inputs[:, t : t + 1])[:, 0]
        elif expert == "match":
            tokens, lengths = longest_match(inputs)
            assert (lengths[:, 0] == 0).all()
            assert (lengths[:, -1] > 0).all()
            sure = torch.nn.functional.one_hot(tokens, VOCABULARY).float()
            expected = torch.where(lengths[..., None] > 0, sure, expected)
    torch.testing.assert_close(p, expected, atol=1e-6, rtol=1e-4)
    wanted = expected.gather(2, targets[..., None])[..., 0]
    torch.testing.assert_close(losses.exp().reciprocal(), wanted, atol=1e-6, rtol=1e-3)


def test_whole_distributions_have_the_gradient_of_the_targets_alone() -> None:
    model = small_model("memory")
    inputs, targets = torch.randint(0, 4, (2, 2, 12))
    found = []
    for way in (
        lambda: model(inputs, targets)[1],
        lambda: model.token_losses(inputs, targets).mean(),
    ):
        model.zero_grad()
        way().backward()
        found.append(
            {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        )
    assert found[0].keys() == found[1].keys()
    assert found[0]["gate"].abs().sum() > 0
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], atol=1e-5, rtol=1e-3)


def test_a_gate_that_is_wholly_sure_of_the_net_still_learns() -> None:
    """No mixture weight is divided by, however near to 0 it is."""
    model = small_model("memory", context_length=16, width=64, num_heads=2)
    assert isinstance(model, MemoryGPT)
    inputs, targets = torch.randint(0, 4, (2, 2, 12))
    with torch.no_grad():
        model.gate[0, -1] = 200.0
    for backend in ("native", "plain"):
        assert torch.isfinite(make_step(model, machine(backend))(inputs, targets))
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name


def test_it_says_the_same_with_and_without_a_cache() -> None:
    """Matches and contexts from before the newest tokens count as they do in a whole text."""
    model = small_model("memory")
    assert isinstance(model, MemoryGPT)
    inputs = torch.randint(0, 4, (2, 12))
    with torch.no_grad():
        model.gate[-1, -1] = 1.0  # the match has weight
        whole = model(inputs)[0]
        cache = model.new_cache(2)
        model.next_logits(inputs[:, :7], cache)
        for t in range(7, 12):
            part = model.next_logits(inputs[:, t : t + 1], cache)
            torch.testing.assert_close(part, whole[:, t], atol=1e-4, rtol=1e-4)


def test_with_nothing_in_its_memory_the_net_speaks_alone() -> None:
    model = small_model("memory")
    assert isinstance(model, MemoryGPT)
    model.counts = None
    inputs, targets = torch.randint(0, VOCABULARY, (2, 2, 12))
    _, loss = model(inputs, targets)
    assert loss is not None
    assert make_step(model, machine())(inputs, targets) == pytest.approx(loss.item(), abs=1e-5)


def test_the_features_are_what_the_counts_and_the_text_say() -> None:
    """The likeliest token and the match reach the logits, each by its own embedding."""
    model = small_model("memory")
    assert isinstance(model, MemoryGPT)
    assert model.counts is not None
    inputs = torch.tensor([[7, 14, 21, 7, 14]])  # 14 stood here before, and 21 came next
    [[*_, (likeliest, _)]] = model.counts.top_k(inputs, 2)[0].tolist()
    with torch.no_grad():
        plain = model(inputs)[0]
        for token, row in ((likeliest, likeliest), (21, VOCABULARY + 21)):
            kept = model.token_features.weight[row].clone()
            model.token_features.weight[row] += 1.0
            assert not torch.allclose(model(inputs)[0][0, -1], plain[0, -1]), token
            model.token_features.weight[row] = kept
        unseen = next(t for t in range(VOCABULARY) if t not in model.counts.top_k(inputs, 2)[0])
        model.token_features.weight[unseen] += 1.0
        torch.testing.assert_close(model(inputs)[0], plain)


@pytest.mark.parametrize("way", ["C", "PyTorch"])
def test_a_match_is_the_latest_of_the_longest(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "PyTorch":
        monkeypatch.setattr(native_ngrams, "available", lambda: False)
    elif not native_ngrams.available():
        pytest.skip("no C compiler")
    torch.manual_seed(0)
    ids = torch.randint(0, 3, (4, 60))
    ids[3, 30:50] = ids[3, 5:25]  # longer than what is counted
    tokens, lengths = longest_match(ids)
    assert lengths.max() == LONGEST_MATCH
    for b, text in enumerate(ids.tolist()):
        for t in range(len(text)):
            best, following = 0, 0
            for s in range(t):
                run = 0
                while run < LONGEST_MATCH and run <= s and text[s - run] == text[t - run]:
                    run += 1
                if run and run >= best:
                    best, following = run, text[s + 1]
            assert (tokens[b, t], lengths[b, t]) == (following, best), (b, t)


def test_counts_of_another_order_or_vocabulary_are_refused() -> None:
    model = small_model("memory")
    assert isinstance(model, MemoryGPT)
    ids = torch.arange(500).numpy() % 40
    for counts in (Counts.fit(ids, VOCABULARY, 4), Counts.fit(ids, 40, 3)):
        with pytest.raises(SettingsError, match="do not fit a memory"):
            model.set_counts(counts)
    with pytest.raises(SettingsError, match="memory_order"):
        small_model("memory", memory_order=1)
    with pytest.raises(SettingsError, match="ngram_top_k must be more than 0"):
        small_model("memory", ngram_top_k=0)


def test_features_are_scaled_counts_backoff_weights_and_the_length_of_the_match() -> None:
    model = small_model("memory")
    assert isinstance(model, MemoryGPT)
    inputs, targets = torch.randint(0, 4, (2, 2, 12))
    lookup = model.lookup(inputs, targets, leave_one_out=True)
    _, lengths = longest_match(inputs)
    one_hot = torch.nn.functional.one_hot(lengths, LONGEST_MATCH + 1).float()
    logarithms, backoff = lookup.context_BTF[..., ::2], lookup.context_BTF[..., 1::2]
    expected = torch.cat((0.1 * logarithms, backoff, one_hot), dim=2)
    torch.testing.assert_close(lookup.features.values_BTF, expected)
    trust = lookup.features.token_weights_BTK[..., -1]
    torch.testing.assert_close(trust, (lengths / 4).clamp(max=1))


@pytest.mark.parametrize("leave_one_out", [True, False])
def test_a_batch_of_the_counted_text_is_looked_up_without_itself(leave_one_out: bool) -> None:
    """Both what the gate weighs and what the net reads."""
    model = small_model("memory")
    assert isinstance(model, MemoryGPT)
    assert model.counts is not None
    windows = torch.from_numpy(small_stream()[:51].astype("int64")).view(3, 17)
    inputs, targets = windows[:, :-1], windows[:, 1:]
    lookup = model.lookup(inputs, targets, leave_one_out=leave_one_out)
    p = model.counts.distribution(inputs, targets if leave_one_out else None)
    order = model.settings.memory_order
    of_targets = p.gather(2, targets[..., None])[..., 0]
    torch.testing.assert_close(lookup.p_BTX[..., order - 1], of_targets)
    torch.testing.assert_close(lookup.token_weights_BTK[..., :-1], p.topk(2).values)
