"""Sizes beyond `large`: their shapes by formula, and what they need of memory."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import pytest
import torch

from conftest import small_model
from semigpt import auto
from semigpt.config import Recipe
from semigpt.device import MachineSettings
from semigpt.errors import SettingsError
from semigpt.evaluation.baselines import COUNTED_TOKENS
from semigpt.huggingface.folder import save_model
from semigpt.law import Text
from semigpt.models import LADDER, layers, loss
from semigpt.models.gpt import GPT, GPTSettings
from semigpt.recipe import train
from semigpt.tokenizers import train_tokenizer
from semigpt.training import forecast
from semigpt.training.memory import FLOAT_BYTES, TrainingShape, step_memory
from semigpt.training.optimizer import OptimizerSettings
from semigpt.training.settings import TrainingSettings
from semigpt.training.step import make_step

# Billions of parameters with a vocabulary of 64,000, and layers, width, query heads.
SHAPES = {
    "0.3b": (0.290, 24, 768, 16),
    "0.6b": (0.506, 28, 1024, 16),
    "1b": (1.019, 30, 1536, 16),
    "1.7b": (1.540, 28, 2048, 16),
    "3b": (3.042, 36, 2560, 24),
    "8b": (7.470, 36, 4096, 32),
}


def of_size(size: auto.Size, **model: object) -> Recipe:
    return Recipe.from_tables({"model": {"size": size, **model}})


def test_the_larger_sizes_are_qwen3s_by_formula() -> None:
    assert tuple(SHAPES) == auto.LARGER_SIZES
    for size, (billions, layers_, width, heads) in SHAPES.items():
        recipe = of_size(size)
        model, training = recipe.model, recipe.training
        assert isinstance(model, GPTSettings)
        shape = (model.num_layers, model.width, model.num_heads, model.kv_heads)
        assert shape == (layers_, width, heads, 8)
        assert (model.head_width, model.feedforward_width) == (128, 3 * width)
        assert model.context_length >= 2048
        # Tables, and a layer: queries and output, keys and values, three products of SwiGLU, norms.
        V, C, F = 64_000, width, 3 * width
        a_layer = 2 * C * 128 * heads + 2 * C * 128 * 8 + 3 * C * F + 2 * C + 2 * 128
        by_formula = (1 if model.tie_embeddings else 2) * V * C + layers_ * a_layer + C
        assert replace(model, vocab_size=V).parameter_count == by_formula
        assert by_formula / 1e9 == pytest.approx(billions, abs=6e-4)
        rows, rest = divmod(training.batch_size, training.gradient_accumulation)
        assert rest == 0
        assert rows * model.context_length <= 16_384  # tokens of a micro-batch
        assert 5e5 <= training.batch_size * model.context_length <= 4.3e6
        assert training.teacher == "none"


@pytest.mark.parametrize("rung", [rung for rung in LADDER if rung != "gpt"])
def test_the_larger_sizes_are_of_gpt_alone(rung: str) -> None:
    with pytest.raises(SettingsError, match="size must be one of tiny, small, base, large"):
        Recipe.from_tables({"model": {"kind": rung, "size": "1b"}})


def test_a_shrunken_size_is_loaded_by_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    shrunk = {"width": 32, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2, "head_dim": 16}
    settings = of_size("1b", **shrunk, hidden_width=96, context_length=32).model
    tokenizer = train_tokenizer("char", ["안녕하세요 반갑습니다"])
    model = GPT(replace(settings, vocab_size=tokenizer.vocab_size)).eval()
    save_model(tmp_path / "model", model, tokenizer, "")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    assert theirs.config.model_type == "qwen3"
    assert theirs.config.tie_word_embeddings
    ids = torch.arange(12)[None] % tokenizer.vocab_size
    with torch.no_grad():
        torch.testing.assert_close(model(ids)[0], theirs(ids).logits, rtol=1e-5, atol=1e-5)


def test_a_larger_size_takes_its_own_vocabulary_of_a_long_text() -> None:
    def open_tokenizers(size: auto.Size, characters: int) -> tuple[tuple[str, int | None], ...]:
        return of_size(size).open_choices(characters).tokenizers

    assert open_tokenizers("1b", 10**9) == (("char_bpe", 64_000),)
    assert ("char_bpe", 64_000) not in open_tokenizers("1b", 10**6)
    assert ("char_bpe", 64_000) not in open_tokenizers("large", 10**9)
    # Nothing else is left to a law that was fitted to small runs.
    left = of_size("1b").open_choices(10**9)
    assert (left.dropouts, left.weight_decays, left.teachers) == ((0.0,), (0.1,), (False,))


def test_no_teacher_for_a_run_that_reads_twenty_times_what_is_counted() -> None:
    assert auto.TAUGHT_TOKENS == 20 * COUNTED_TOKENS
    text = Text(10**9, ((10**6, 2.0), (10**9, 1.5)), 3.0, 7.0, 2000)
    left = auto.Open(
        shapes={"tiny": auto.Shape(850_000, 128, 12)},
        tokenizers=(("unigram", 8000),),
        batches=(12,),
        dropouts=(0.0,),
        weight_decays=(0.0,),
        teachers=(False, True),
    )

    def taught(left: auto.Open, tokens: float) -> set[bool]:
        ways = auto.candidates(text, left, lambda *_: tokens, may_end_early=False)
        return {way.taught for way in ways}

    assert taught(left, auto.TAUGHT_TOKENS) == {False, True}
    assert taught(left, auto.TAUGHT_TOKENS + 1) == {False}
    assert taught(replace(left, teachers=(True,)), auto.TAUGHT_TOKENS + 1) == {True}  # asked for


# The output layer in chunks


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)], ids=["f32", "bf16"]
)
def test_a_loss_in_chunks_is_the_loss(
    dtype: torch.dtype, tolerance: float, tied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model("gpt", tie_embeddings=tied)
    model.compute_dtype = dtype
    step = make_step(model, MachineSettings(backend="plain"))
    ids = torch.randint(model.settings.vocab_size, (3, 17), generator=torch.manual_seed(1))

    def losses_and_gradients() -> tuple[torch.Tensor, list[torch.Tensor]]:
        model.zero_grad()
        found = step(ids[:, :-1], ids[:, 1:], 0.5)
        return found, [p.grad.clone() for p in model.parameters() if p.grad is not None]

    whole, gradients = losses_and_gradients()
    monkeypatch.setattr(loss, "LARGEST_LOGITS", 7 * model.settings.vocab_size)  # 48 rows: 7 … 6
    monkeypatch.setattr(model, "_output", None)  # whole logits are nowhere
    chunked, in_chunks = losses_and_gradients()
    assert chunked.item() == pytest.approx(whole.item(), rel=1e-6 if tolerance < 1e-3 else 1e-3)
    assert len(in_chunks) == len(gradients)
    for one, other in zip(in_chunks, gradients, strict=True):
        assert (one - other).abs().max() <= tolerance * other.abs().max()


def test_chunks_leave_no_gradient_where_none_is_wanted() -> None:
    x_BTC, weight_VC = torch.randn(2, 3, 4), torch.randn(8, 4)
    targets_BT = torch.tensor([[0, 1, 2], [3, 4, 6]])
    expected = loss.token_loss(x_BTC @ weight_VC[:7].t(), targets_BT)
    torch.testing.assert_close(loss.chunked_loss(x_BTC, weight_VC, targets_BT, 7), expected)


# Grouped keys, and blocks that are run again


@pytest.mark.parametrize("heads", [(4, 2), (4, 1)])
def test_grouped_keys_are_read_without_repeating_them(
    heads: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same function and gradient, with the keys as they are."""
    T, (H, K) = 300, heads
    generator = torch.manual_seed(1)
    q, k, v, grad = (torch.randn(2, n, T, 16, generator=generator) for n in (H, K, K, H))
    found = []
    for longest in (T + 1, T):
        monkeypatch.setattr(layers, "LONG", longest)
        inputs = [x.clone().requires_grad_() for x in (q, k, v)]
        mixed = layers.attend(*inputs, 0.0)
        mixed.backward(grad)
        found.append([mixed.detach(), *(x.grad for x in inputs)])
        monkeypatch.setattr(layers, "repeated", lambda x, heads: x)  # from here on, none
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_blocks_that_are_run_again_have_the_same_gradients() -> None:
    model = small_model("gpt", dropout=0.1)
    ids = torch.randint(model.settings.vocab_size, (3, 17), generator=torch.manual_seed(1))
    found = []
    for checkpoints in (False, True):
        model.zero_grad()
        machine = MachineSettings(backend="plain", checkpoint_activations=checkpoints)
        torch.manual_seed(2)
        made = make_step(model, machine)(ids[:, :-1], ids[:, 1:])
        found.append([made, *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


# Memory


def run_of(**training: object) -> tuple[GPTSettings, TrainingSettings]:
    """A shape of four grouped heads that autograd trains, and how it is trained."""
    shape = {"width": 64, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2, "head_dim": 32}
    model = of_size("1b", **shape, hidden_width=192, context_length=640).model
    assert isinstance(model, GPTSettings)
    return replace(model, vocab_size=512), TrainingSettings(steps=1, **training)


def test_what_a_step_allocates_is_what_is_reckoned() -> None:
    """Allocations of PyTorch's, in float32, with and without a block run again."""
    settings, _ = run_of()
    for checkpoints in (False, True):
        torch.manual_seed(0)
        model = GPT(settings)
        machine = MachineSettings(backend="plain", checkpoint_activations=checkpoints)
        step, ids = make_step(model, machine), torch.zeros(2, 641, dtype=torch.int64)
        with torch.profiler.profile(profile_memory=True) as profile:
            step(ids[:, :-1], ids[:, 1:])
        events = profile.profiler.kineto_results.events()
        found = [event for event in events if event.name() == "[memory]"]
        allocated = accumulate(e.nbytes() for e in sorted(found, key=lambda e: e.start_ns()))
        shape = TrainingShape(rows=2, checkpoints=checkpoints, number_bytes=4)
        reckoned = step_memory(settings, shape).computing
        assert max(allocated) == pytest.approx(reckoned, rel=0.2)


def test_several_processes_need_more_than_one_and_shards_less() -> None:
    model, _ = run_of()
    one = step_memory(model, TrainingShape(rows=2, lanes=8))
    eight = step_memory(model, TrainingShape(rows=2, lanes=8, processes=8))
    sharded = step_memory(model, TrainingShape(rows=2, lanes=8, processes=8, shards=8))
    P = FLOAT_BYTES * model.parameter_count
    assert (one.weights, one.optimizer) == (P, 2 * P)
    assert one.adding == (2 + 3) * P  # three sums wait for the eighth micro-batch
    assert eight.adding == (1 + 3) * P  # its own, sent, received, whole
    assert one.computing - eight.computing == 3 * P
    assert sharded.optimizer == 2 * (P // 8)


@pytest.mark.parametrize(
    ("processes", "line"),
    [
        (1, r"at least 18 MB of memory and cpu has 10 MB free; choose a smaller --size, or more"),
        (4, r"at least 17 MB of memory in each of 4 processes and cpu has 10 MB free; choose few"),
    ],
)
def test_what_a_machine_cannot_hold_is_refused_before_it_is_taken(
    processes: int, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecast, "available_memory", lambda device: 10_000_000)
    model, training = run_of(batch_size=8, gradient_accumulation=8)
    shared = {"processes": processes, "on_this_machine": processes}
    where = (OptimizerSettings(), tmp_path, torch.device("cpu"))
    with pytest.raises(SettingsError, match=line):
        forecast.check_resources(model, training, *where, **shared)


def test_a_size_too_large_is_refused_before_the_text_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecast, "available_memory", lambda device: 10**9)
    asked = Recipe.from_tables({"model": {"size": "1b"}, "data": {"spec": "nowhere.txt"}})
    with pytest.raises(SettingsError, match=r"at least \d+\.\d GB of memory and cpu has 1\.0 GB"):
        next(train(asked, tmp_path / "run"))
