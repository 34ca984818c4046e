"""decode.c and its oracle, PyTorch: logits within 1e-4, same texts, same bits in any batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import semigpt.native.compiler
from semigpt.errors import SettingsError
from semigpt.generation import decoder
from semigpt.generation.decoder import Sequences, TorchDecoder, make_decoder, native_decoder
from semigpt.generation.engine import Engine
from semigpt.generation.quantize import PRECISIONS, Precision, rounded, rounded_rows
from semigpt.generation.sampling import SamplingSettings, choose, probabilities
from semigpt.models.bigram import BigramSettings, SemiGPT
from semigpt.models.gpt import GPT, GPTSettings
from semigpt.native import decode as native
from semigpt.native.decode import NativeUnavailableError
from semigpt.tokenizers import CharTokenizer

TOLERANCE = 1e-4
SHAPES = {
    "square": {
        "vocab_size": 64,
        "context_length": 24,
        "width": 64,
        "num_layers": 2,
        "num_heads": 2,
    },
    # Nothing here is a multiple of 16 or 32: every edge of every loop.
    "odd": {
        **{
            "vocab_size": 77,
            "context_length": 21,
            "width": 36,
            "num_layers": 3,
            "num_heads": 6,
            "num_kv_heads": 2,
        },
        **{"head_dim": 10, "hidden_width": 50, "rope_theta": 500.0, "tie_embeddings": True},
    },
    # Loops of several vectors: heads of 7 x 16, 7 blocks of 16 positions, draws among 700 tokens.
    "long": {
        **{"vocab_size": 700, "context_length": 100, "width": 48, "num_layers": 2, "num_heads": 2},
        **{"num_kv_heads": 1, "head_dim": 112, "hidden_width": 272},
    },
}


@pytest.fixture(scope="module", autouse=True)
def _compiler() -> None:
    try:
        native.library()
    except NativeUnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=SHAPES)
def model(request: pytest.FixtureRequest) -> GPT:
    """A GPT whose weights are large enough for logits that differ by whole numbers."""
    torch.manual_seed(0)
    model = GPT(GPTSettings(**SHAPES[request.param])).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.normal_(1.0, 0.3)
            else:
                parameter.mul_(6)
    return model


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("threads", [1, 3])
def test_logits_equal_pytorchs_read_at_once_or_one_by_one_and_past_the_context(
    model: GPT, precision: Precision, threads: int
) -> None:
    length = model.settings.context_length + 16
    tokens = torch.randint(0, model.settings.vocab_size, (3, length + 20)).numpy()
    ours = Sequences.open(native_decoder(model, precision, threads), 3)
    theirs = Sequences.open(TorchDecoder(rounded(model, precision)), 3)
    prompts = [
        tokens[0, :2].tolist(),
        tokens[1, :length].tolist(),
        tokens[2, :13].tolist(),
    ]  # one past the context
    np.testing.assert_allclose(ours.feed(prompts), theirs.feed(prompts), atol=TOLERANCE)
    for place in range(length, length + 20):
        np.testing.assert_allclose(
            ours.step(tokens[:, place]), theirs.step(tokens[:, place]), atol=TOLERANCE
        )
    more = [[1, 2, 3], [4], [5, 6]]
    np.testing.assert_allclose(ours.feed(more), theirs.feed(more), atol=TOLERANCE)
    for state in (ours, theirs):
        state.keep([2, 0, 2])
    after = np.array([7, 8, 9])
    np.testing.assert_allclose(ours.step(after), theirs.step(after), atol=TOLERANCE)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("threads", [1, 2])
def test_the_logits_of_a_sequence_are_the_same_bits_in_any_batch(
    model: GPT, precision: Precision, threads: int
) -> None:
    """The first and the last of 40, 39 … 1 rows: every way to cut them into tiles."""
    tokens = torch.randint(0, model.settings.vocab_size, (40, 42)).numpy()
    decoder = native_decoder(model, precision, threads)
    among, first, last = (
        Sequences.open(decoder, 40),
        Sequences.open(decoder, 1),
        Sequences.open(native_decoder(model, precision, 1), 1),
    )
    among.feed(tokens[:, :2].tolist())
    first.feed(tokens[:1, :2].tolist())
    last.feed(tokens[39:, :2].tolist())
    going_on = list(range(40))
    for place in range(2, 42):
        logits = among.step(tokens[going_on, place])
        assert (logits[0] == first.step(tokens[:1, place])).all()
        if len(going_on) > 1:
            assert (logits[-1] == last.step(tokens[39:, place])).all()
            rows = [0, *range(2, len(going_on))]
            among.keep(rows)
            going_on = [going_on[row] for row in rows]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_prompt_read_at_once_gives_the_bits_of_one_read_token_by_token(
    model: GPT, precision: Precision
) -> None:
    tokens = torch.randint(0, model.settings.vocab_size, (1, model.settings.context_length)).numpy()
    decoder = native_decoder(model, precision)
    by_one = Sequences.open(decoder, 1)
    for place in range(tokens.shape[1]):
        logits = by_one.step(tokens[:, place])
        assert (Sequences.open(decoder, 1).feed([tokens[0, : place + 1].tolist()]) == logits).all()


def test_plain_c_is_right_too(monkeypatch: pytest.MonkeyPatch, model: GPT) -> None:
    """As on a machine without AVX-512 or OpenMP: compiled for the oldest CPU of the kind."""
    monkeypatch.setattr(semigpt.native.compiler, "flags", lambda: (("-O1",),))
    native.library.cache_clear()
    try:
        tokens = torch.randint(0, model.settings.vocab_size, (9, 9)).numpy()
        for precision in PRECISIONS:
            decoder = native_decoder(model, precision)
            ours, alone = Sequences.open(decoder, 9), Sequences.open(decoder, 1)
            theirs = Sequences.open(TorchDecoder(rounded(model, precision)), 9)
            np.testing.assert_allclose(
                ours.feed(tokens[:, :8].tolist()),
                theirs.feed(tokens[:, :8].tolist()),
                atol=TOLERANCE,
            )
            logits = ours.step(tokens[:, 8])
            np.testing.assert_allclose(logits, theirs.step(tokens[:, 8]), atol=TOLERANCE)
            assert (alone.feed([tokens[3].tolist()]) == logits[3]).all()
    finally:
        native.library.cache_clear()


def test_text_is_that_of_pytorch(model: GPT) -> None:
    syllables = "".join(map(chr, range(0xAC00, 0xAC00 + model.settings.vocab_size)))
    tokenizer = CharTokenizer.plain(syllables)
    native, plain = (Engine(model, tokenizer, native=way) for way in (True, False))
    prompts = [syllables[:9], syllables[9:11]]
    for sampling in (
        SamplingSettings(),
        SamplingSettings(temperature=0),
        SamplingSettings(temperature=0.7, top_k=9),
    ):
        settings = {"seed": 5, "num_samples": 2, "max_new_tokens": 30, "sampling": sampling}
        texts = native.generate(prompts, **settings)
        assert texts == plain.generate(prompts, **settings)
        assert {len(text) for text in texts} == {30}


def settings_of(draw: np.random.Generator) -> SamplingSettings:
    """Any settings of a draw, each of them often none."""
    return SamplingSettings(
        temperature=float(draw.choice([0.0, 0.3, 1.0, 4.0])),
        top_k=draw.choice([None, 1, 5, 40, 10**12]),
        top_p=draw.choice([None, 1e-9, 0.3, 0.95, 0.999]),
        min_p=draw.choice([None, 0.0, 0.02, 0.5, 1.0]),
    )


def test_the_native_draw_is_that_of_numpy(model: GPT) -> None:
    """Each row by its own settings: the same tokens are left, and one is drawn by the same number.

    Logits are rounded, so that many are equal and a cut falls among equal ones.
    """
    V, rows = model.settings.vocab_size, 5
    pool = native_decoder(model).pool(rows)
    draw = np.random.default_rng(0)
    for _ in range(200):
        logits = draw.normal(0, 3, (rows, V)).astype(np.float32).round(int(draw.integers(0, 4)))
        forbidden = (draw.random((rows, V)) < draw.choice([0.0, 0.3, 1.0], rows)[:, None]).astype(
            np.uint8
        )
        settings = [settings_of(draw) for _ in range(rows)]
        uniforms = draw.random(rows).tolist()
        wanted = [
            choose(probabilities(np.where(no, np.float32(-np.inf), row), own), uniform)
            for row, no, own, uniform in zip(logits, forbidden, settings, uniforms, strict=True)
        ]
        before = logits.copy()
        addresses = [row.ctypes.data for row in forbidden]
        assert pool.draw(logits, addresses, [own.cuts for own in settings], uniforms) == wanted
        assert (logits == before).all()


@pytest.mark.parametrize("cuts", [(0.0, 0, 1.0, 0.0), (1.0, 0, 1.0, 0.0), (1.0, 3, 0.5, 0.1)])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_draw_from_logits_that_are_not_finite_says_so(
    model: GPT, cuts: tuple[float, int, float, float], bad: float
) -> None:
    V = model.settings.vocab_size
    pool = native_decoder(model).pool(3)
    for token in (0, 17, V - 1):
        logits = np.zeros((3, V), np.float32)
        logits[1, token] = bad
        drawn = pool.draw(logits, [0] * 3, [cuts] * 3, [0.5] * 3)
        assert drawn[1] == -2
        assert min(drawn[0], drawn[2]) >= 0, "the others are drawn"
        forbidden = (np.arange(V) == token).astype(np.uint8)
        drawn = pool.draw(logits, [forbidden.ctypes.data] * 3, [cuts] * 3, [0.5] * 3)
        assert min(drawn) >= 0, "what may not follow may have any logit"


@pytest.mark.parametrize("way", [native_decoder, TorchDecoder])
@pytest.mark.parametrize("wrong", [-1, 0, 10**8, 2**32])
def test_an_id_outside_the_vocabulary_is_named(model: GPT, way: Any, wrong: int) -> None:
    V = model.settings.vocab_size
    token = wrong or V
    message = f"token {token} is outside the vocabulary of {V} tokens"
    state, other = Sequences.open(way(model), 2), Sequences.open(way(model), 2)
    for each in (state, other):
        each.feed([[1, 2], [3]])
    with pytest.raises(SettingsError, match=message):
        state.feed([[5], [4, token]])
    with pytest.raises(SettingsError, match=message):
        other.step(np.array([4, token]))
    fresh = Sequences.open(way(model), 2)
    fresh.feed([[1, 2], [3]])
    after = np.array([6, V - 1])
    assert (other.step(after) == fresh.step(after)).all(), "a refused step leaves all as it was"


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_rounded_weights_are_within_their_precision(precision: Precision, model: GPT) -> None:
    for name, parameter in rounded(model, precision).named_parameters():
        before = model.get_parameter(name)
        if before.dim() == 1:
            assert torch.equal(parameter, before)
        elif precision == "bfloat16":
            assert torch.equal(parameter, before.bfloat16().float())
        else:
            assert (parameter - before).abs().max() <= before.abs().max() / 254 * 1.0001
            assert not torch.equal(parameter, before)


def test_a_small_model_takes_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    shape = {"vocab_size": 64, "context_length": 16, "num_layers": 1, "num_heads": 2}
    megabytes = {64: 1, 640: 9}
    for width, least in megabytes.items():
        decoder = native_decoder(GPT(GPTSettings(width=width, **shape)))
        assert decoder.threads == max(1, min(3, decoder.weights.nbytes // (4 << 20)))
        assert decoder.weights.nbytes < (least << 20) * 4
    assert decoder.threads == 3


def test_training_the_model_on_does_not_change_a_decoder_made_before() -> None:
    torch.manual_seed(0)
    model = GPT(GPTSettings(**SHAPES["square"]))
    decoder = native_decoder(model)
    before = Sequences.open(decoder, 1).feed([[1, 2, 3]]).copy()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert (Sequences.open(decoder, 1).feed([[1, 2, 3]]) == before).all()


def test_bfloat16_rounds_ties_to_even() -> None:
    ties = np.array([[1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8, 1 + 2**-7]], np.float32)
    wanted = torch.from_numpy(ties).bfloat16().float().numpy()
    assert (
        rounded_rows(ties, "bfloat16").tolist()
        == wanted.tolist()
        == [[1, 1 + 2**-6, -1, 1 + 2**-7]]
    )


def test_without_a_compiler_generation_goes_on_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, model: GPT
) -> None:
    native.library.cache_clear()
    decoder._warn_once.cache_clear()
    monkeypatch.setenv("CC", "no-such-compiler")
    try:
        for _ in range(3):
            assert isinstance(make_decoder(model), TorchDecoder)
        assert len(caplog.records) == 1
        assert "no-such-compiler" in caplog.text
        assert "\n" not in caplog.records[0].getMessage()
        with pytest.raises(NativeUnavailableError):
            make_decoder(model, native=True)
    finally:
        native.library.cache_clear()
        decoder._warn_once.cache_clear()


def test_other_rungs_are_decoded_by_pytorch() -> None:
    bigram = SemiGPT(BigramSettings(vocab_size=9, context_length=4))
    assert isinstance(make_decoder(bigram), TorchDecoder)
    with pytest.raises(NativeUnavailableError, match="a bigram of this shape"):
        make_decoder(bigram, native=True)
