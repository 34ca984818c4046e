"""Generation: distributions, stop strings, streaming, and Korean that never breaks."""

from __future__ import annotations

import math
import time
import unicodedata
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semigpt.errors import CheckpointError, SettingsError
from semigpt.generation.beam_search import Beam, Hypothesis, beam_search
from semigpt.generation.budget import Budget
from semigpt.generation.constraint import Constraint, Vocabulary, text_constraint
from semigpt.generation.decoder import Sequences, make_decoder
from semigpt.generation.engine import Conversation, Engine, generate_text, stream_text
from semigpt.generation.sampling import (
    History,
    SamplingSettings,
    adjusted,
    choose,
    probabilities,
    random_generator,
)
from semigpt.generation.stream import Writer
from semigpt.generation.symbols import SYMBOLS
from semigpt.generation.token_healing import healing_points
from semigpt.huggingface.folder import save_model
from semigpt.models.base import LanguageModel
from semigpt.models.gpt import GPT, GPTSettings
from semigpt.tokenizers import CharTokenizer, Tokenizer, train_tokenizer
from semigpt.tokenizers.byte_level import ByteTokenizer


@pytest.fixture(scope="module")
def tokenizer(korean_text: str) -> CharTokenizer:
    return CharTokenizer(korean_text)


@pytest.fixture(scope="module")
def writer(tokenizer: CharTokenizer) -> LanguageModel:
    """An untrained GPT: it draws anything, bytes that are no characters too."""
    torch.manual_seed(0)
    return GPT(
        GPTSettings(
            vocab_size=tokenizer.vocab_size, context_length=16, width=32, num_layers=1, num_heads=2
        )
    )


def kept(logits: list[float], **settings: float) -> list[int]:
    """The tokens that may be drawn."""
    row = probabilities(np.array(logits, np.float32), SamplingSettings(**settings))
    assert row.sum() == pytest.approx(1)
    return np.flatnonzero(row).tolist()


def test_temperature_top_k_top_p_and_min_p_shape_the_distribution() -> None:
    logits = [0.0, 1.0, 2.0, 3.0]
    row = np.array(logits, np.float32)
    plain = probabilities(row, SamplingSettings())
    np.testing.assert_allclose(plain, torch.tensor(logits).softmax(0), rtol=1e-6)
    doubled = probabilities(row, SamplingSettings(temperature=0.5))
    np.testing.assert_allclose(doubled, (2 * torch.tensor(logits)).softmax(0), rtol=1e-6)
    assert kept(logits, temperature=0) == [3]
    for tiny in (1e-30, 1e-38, 1e-40, 1e-300):
        assert kept(logits, temperature=tiny) == [3]
    assert kept(logits, top_k=2) == [2, 3]
    assert kept(logits, top_k=99) == [0, 1, 2, 3]
    # 0.644 + 0.237 reach 0.7 together, 0.644 alone does not.
    assert kept(logits, top_p=0.7) == [2, 3]
    assert kept(logits, top_p=0.01) == [3]
    # The next ones are e⁻¹ = 0.37, 0.14 and 0.05 times as likely as the likeliest.
    assert kept(logits, min_p=0.2) == [2, 3]
    assert kept(logits, min_p=0.1) == [1, 2, 3]


def test_penalties_and_bans_are_those_of_transformers() -> None:
    from transformers import NoRepeatNGramLogitsProcessor, RepetitionPenaltyLogitsProcessor

    draw = np.random.default_rng(0)
    for _ in range(20):
        tokens = draw.integers(0, 6, 12).tolist()
        logits = draw.normal(size=6).astype(np.float32)
        for n in (1, 2, 3):
            settings = SamplingSettings(repetition_penalty=1.3, no_repeat_ngram_size=n)
            history = History(tokens[:5], 6, n)
            for token in tokens[5:]:
                history.push(token)
            ids, row = torch.tensor([tokens]), torch.from_numpy(logits)[None]
            theirs = NoRepeatNGramLogitsProcessor(n)(
                ids, RepetitionPenaltyLogitsProcessor(1.3)(ids, row)
            )
            np.testing.assert_allclose(
                adjusted(logits, settings, history), theirs[0].numpy(), rtol=1e-6
            )


def test_frequency_presence_and_bias_are_added_as_openai_says() -> None:
    history = History([3], 4)
    for token in (0, 0, 1):
        history.push(token)
    settings = SamplingSettings(frequency_penalty=0.5, presence_penalty=0.25, logit_bias={2: 7.0})
    row = adjusted(np.array([1, 2, 3, 4], np.float32), settings, history)
    assert row.tolist() == [-0.25, 1.25, 10.0, 4.0], "of the prompt nothing counts"


def test_draws_follow_the_distribution() -> None:
    wanted = np.array([0.5, 0.3, 0.0, 0.2])
    random = random_generator(0, 0)
    counts = np.bincount([choose(wanted, random.random()) for _ in range(5000)], minlength=4)
    assert np.abs(counts - 5000 * wanted).max() < 5 * (5000 * 0.25) ** 0.5
    assert counts[2] == 0
    assert choose(np.zeros(3), 0.5) == -1
    assert choose(np.array([0.0, 0.4, 0.6]), 0.0) == 1, "never a token of probability 0"
    assert choose(wanted, 1 - 1e-17) == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1},
        {"temperature": float("nan")},
        {"temperature": 1e39},
        {"repetition_penalty": 1e-39},
        {"presence_penalty": -1e39},
        {"length_penalty": 1e3},
        {"logit_bias": {1: 1e39}},
        {"logit_bias": {1: -1e39}},
        {"top_k": 0},
        {"top_p": 0},
        {"top_p": 1.5},
        {"min_p": 2},
        {"repetition_penalty": 0},
        {"frequency_penalty": float("inf")},
        {"no_repeat_ngram_size": -1},
        {"num_beams": 0},
        {"logit_bias": {1: float("nan")}},
    ],
    ids=str,
)
def test_impossible_settings_get_their_one_line(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        SamplingSettings(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_new_tokens": -1},
        {"num_samples": 0},
        {"stop": [""]},
        {"banned": [""]},
        {"pattern": "("},
        {"pattern": r"[^\s\S]"},
        {"pattern": r"(.)\1"},
        {"pattern": "a", "choices": ["b"]},
        {"stop_tokens": [10**6]},
        {"stop_tokens": [-1]},
        {"sampling": SamplingSettings(logit_bias={10**6: 1.0})},
        {"sampling": SamplingSettings(logit_bias={-1: 1.0})},
        {"logprobs": -1},
        {"num_samples": 3, "sampling": SamplingSettings(num_beams=2)},
        pytest.param({"conversation": Conversation(), "num_samples": 2}, id="two conversations"),
        pytest.param(
            {"conversation": Conversation(), "sampling": SamplingSettings(num_beams=2)},
            id="a conversation by beams",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_asked_of_a_text_is_refused_at_once(
    writer: LanguageModel, tokenizer: CharTokenizer, wrong: dict[str, Any]
) -> None:
    with pytest.raises(SettingsError) as refusal:
        stream_text(writer, tokenizer, "의사", **wrong)
    assert "\n" not in str(refusal.value)


def test_many_prompts_of_any_length_are_written_as_each_alone(
    writer: LanguageModel, tokenizer: CharTokenizer
) -> None:
    prompts = ["의사", "", "기상청은 24일 전국이 대체로 맑겠다고 밝혔다.", "정부"]
    for native in (None, False):
        engine = Engine(writer, tokenizer, native=native)
        for sampling in (SamplingSettings(), SamplingSettings(top_p=0.8, repetition_penalty=1.2)):
            settings = {"num_samples": 2, "seed": 1, "max_new_tokens": 25, "sampling": sampling}
            together = engine.generate(prompts, **settings)
            assert together == [
                text for prompt in prompts for text in engine.generate(prompt, **settings)
            ]


def test_greedy_finds_what_transformers_finds(korean_text: str, tmp_path: Path) -> None:
    from transformers import Qwen3ForCausalLM

    plain = CharTokenizer.plain(korean_text)
    torch.manual_seed(0)
    shape = {"context_length": 16, "width": 32, "num_layers": 1, "num_heads": 2}
    model = GPT(GPTSettings(vocab_size=plain.vocab_size, **shape))
    save_model(tmp_path, model, plain, "")
    theirs = Qwen3ForCausalLM.from_pretrained(tmp_path)
    prompt = torch.from_numpy(plain.encode("의사").astype(np.int64))[None]
    for penalties in (
        {},
        {"repetition_penalty": 1.5},
        {"repetition_penalty": 0.3, "no_repeat_ngram_size": 2},
    ):
        found = theirs.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            max_new_tokens=10,
            **penalties,
        )
        sampling = SamplingSettings(temperature=0, **penalties)
        text = generate_text(model, plain, "의사", max_new_tokens=10, sampling=sampling)[0]
        assert plain.encode(text).tolist() == found[0, 2:].tolist()


def test_beams_find_what_transformers_finds(tokenizer: CharTokenizer, tmp_path: Path) -> None:
    """The end of the text is likely here, so that beams end at unlike lengths."""
    from transformers import Qwen3ForCausalLM

    torch.manual_seed(2)
    shape = {"context_length": 16, "width": 32, "num_layers": 1, "num_heads": 2}
    model = GPT(GPTSettings(vocab_size=tokenizer.vocab_size, **shape))
    end = tokenizer.end_of_text
    with torch.no_grad():
        model.lm_head.weight *= 8
        model.lm_head.weight[end] *= 3
    save_model(tmp_path, model, tokenizer, "")
    theirs = Qwen3ForCausalLM.from_pretrained(tmp_path)
    free = Constraint(Vocabulary(tokenizer, tokenizer.vocab_size), [Anything()], Budget(""))
    lengths = set()
    for text in ("의사", "정부는", "맑", "기상청"):
        prompt = [end, *tokenizer.encode(text).tolist()]
        asked = ((1, 1.0, 1.0), (2, 1.0, 1.0), (3, 2.0, 1.0), (5, 1.0, 1.0), (5, 0.5, 1.5))
        for beams, power, penalty in asked:
            ask = SamplingSettings(
                temperature=0, num_beams=beams, length_penalty=power, repetition_penalty=penalty
            )
            found = theirs.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
                do_sample=False,
                num_beams=beams,
                max_new_tokens=10,
                length_penalty=power if beams > 1 else None,
                repetition_penalty=penalty,
            )[0, len(prompt) :].tolist()
            state = Sequences.open(make_decoder(model), 1, beams)
            searching = beam_search(
                state,
                state.feed([prompt]),
                Beam(0.0, [], free.transitions(1), History(prompt, tokenizer.vocab_size)),
                ask,
                max_new_tokens=10,
                end_tokens={end},
                constraint=free,
            )
            ours = result_of(searching)[0].tokens
            assert ours == [token for token in found if token != end]
            lengths.add(len(ours))
    assert len(lengths) > 2, lengths


def result_of(searching: Generator[None, None, list[Hypothesis]]) -> list[Hypothesis]:
    """Let a search go on to its end."""
    while True:
        try:
            next(searching)
        except StopIteration as end:
            return end.value


class Enumerated:
    """A decoder's state of a model whose logits are a fixed function of the tokens so far."""

    def __init__(self) -> None:
        self.sequences: list[tuple[int, ...]] = [()]

    @staticmethod
    def log_probabilities(tokens: tuple[int, ...]) -> np.ndarray:
        logits = np.random.default_rng(list(tokens)).normal(0, 2, 4).astype(np.float32)
        return logits - np.logaddexp.reduce(logits)

    def feed(self, sequences: Any = None) -> np.ndarray:
        return np.stack([self.log_probabilities(tokens) for tokens in self.sequences])

    def step(self, tokens: np.ndarray) -> np.ndarray:
        self.sequences = [(*s, t) for s, t in zip(self.sequences, tokens.tolist(), strict=True)]
        return self.feed()

    def keep(self, rows: list[int]) -> None:
        self.sequences = [self.sequences[row] for row in rows]


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 3.0])
def test_beams_enough_for_all_find_the_best_of_all(power: float) -> None:
    end, length = 3, 3
    scores: dict[tuple[int, ...], float] = {}

    def enumerate_from(tokens: tuple[int, ...], total: float) -> None:
        if len(tokens) == length or end in tokens:
            scores[tokens] = total / len(tokens) ** power
            return
        for token, log_probability in enumerate(Enumerated.log_probabilities(tokens)):
            enumerate_from((*tokens, token), total + float(log_probability))

    enumerate_from((), 0.0)
    state = Enumerated()
    tokenizer = CharTokenizer.plain("가나다라")
    free = Constraint(Vocabulary(tokenizer, 4), [Anything()], Budget(""))
    searching = beam_search(
        state,
        state.feed(),
        Beam(0.0, [], free.transitions(1)),
        SamplingSettings(num_beams=64, length_penalty=power),
        max_new_tokens=length,
        end_tokens={end},
        constraint=free,
    )
    found = result_of(searching)
    best = sorted(scores, key=lambda tokens: -scores[tokens])
    assert [tuple(f.tokens) for f in found] == [tuple(t for t in b if t != end) for b in best]
    assert [f.score for f in found] == pytest.approx([scores[b] for b in best], rel=1e-5)
    assert [f.finish_reason for f in found] == ["stop" if end in b else "length" for b in best]


class Anything:
    """No constraint: transformers knows none."""

    start = 0

    def runs(self, state: int) -> list[tuple[int, int]]:
        return [(SYMBOLS, 0)]

    def accepts(self, state: int) -> bool:
        return True


def test_log_probabilities_are_the_models_own(
    writer: LanguageModel, tokenizer: CharTokenizer
) -> None:
    settings = {"max_new_tokens": 8, "seed": 2, "logprobs": 3, "echo": True}
    chunks = list(
        stream_text(
            writer, tokenizer, "의사협회는", sampling=SamplingSettings(temperature=2.0), **settings
        )
    )
    scores = [score for chunk in chunks for score in chunk.scores]
    tokens = [tokenizer.end_of_text, *(score.token for score in scores)]
    assert chunks[0].text == "의사협회는" == tokenizer.decode(tokens[1:6])
    with torch.no_grad():
        logits, _ = writer(torch.tensor([tokens]))
    log_BTV = logits.log_softmax(-1)
    for place, score in enumerate(scores):
        assert score.log_probability == pytest.approx(
            float(log_BTV[0, place, score.token]), abs=1e-4
        )
        likeliest = log_BTV[0, place].topk(3)
        assert [p for _, p in score.alternatives] == pytest.approx(
            likeliest.values.tolist(), abs=1e-4
        )


def test_a_conversation_reads_each_token_once(
    writer: LanguageModel, tokenizer: CharTokenizer
) -> None:
    for native in (None, False):
        engine = Engine(writer, tokenizer, native=native)
        conversation = Conversation()
        greedy = {"sampling": SamplingSettings(temperature=0), "max_new_tokens": 4}
        first = "".join(p.text for p in engine.stream("의사", conversation=conversation, **greedy))
        second = "".join(p.text for p in engine.stream("는", conversation=conversation, **greedy))
        whole = tokenizer.encode("의사" + first + "는").tolist()
        assert len(whole) < 15, (
            "within the context: past it a sliding cache is not the same as reading anew"
        )
        assert second == engine.generate("의사" + first + "는", **greedy)[0]


@pytest.fixture(scope="module")
def words() -> str:
    """A text of words that begin alike."""
    choice = np.random.default_rng(0).choice(
        ["한국", "한국은", "한국어", "한국인", "나라", "나라는"], 2000
    )
    return " ".join(choice.tolist())


@pytest.fixture(scope="module", params=["unigram", "bpe", "char_bpe"])
def subwords(request: pytest.FixtureRequest, words: str) -> Tokenizer:
    return train_tokenizer(request.param, [words], vocab_size=280)


@pytest.fixture(scope="module")
def reader(subwords: Tokenizer, words: str) -> GPT:
    """A GPT that has read a little."""
    torch.manual_seed(0)
    shape = {"context_length": 16, "width": 32, "num_layers": 1, "num_heads": 2}
    model = GPT(GPTSettings(vocab_size=subwords.vocab_size, **shape))
    tokens = torch.tensor(np.concatenate(list(subwords.encode_documents([words]))).astype(np.int64))
    adam = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(100):
        block = tokens[torch.randint(len(tokens) - 16, (16, 1)) + torch.arange(17)]
        loss = model(block[:, :-1], block[:, 1:])[1]
        adam.zero_grad()
        loss.backward()
        adam.step()
    return model


def all_ways(model: GPT, tokenizer: Tokenizer, prompt: str) -> tuple[np.ndarray, float]:
    """The probability of each first token that says more than the prompt, `[V]`, by enumeration.

    The second value is how much of it has tokens that begin within the prompt.
    """
    own = [tokenizer.end_of_text, *tokenizer.encode(prompt).tolist()]
    with torch.no_grad():
        log_probability = model(torch.tensor([own]))[0][0].log_softmax(-1).double()
    written = text_constraint(Vocabulary(tokenizer, tokenizer.vocab_size)).transitions(1) > 0
    exact, over = np.zeros(tokenizer.vocab_size), 0.0
    for place in range(len(own)):  # of the last token that stays
        reached = sum(float(log_probability[before, own[before + 1]]) for before in range(place))
        covered = b"".join(map(tokenizer.token_bytes, own[place + 1 :]))
        for token in range(tokenizer.vocab_size):
            data = tokenizer.token_bytes(token)
            if (
                (data.startswith(covered) and len(data) > len(covered))
                if covered
                else written[token]
            ):
                probability = math.exp(reached + float(log_probability[place, token]))
                exact[token] += probability
                over += probability if covered else 0.0
    return exact / exact.sum(), over / exact.sum()


class Fragments(ByteTokenizer):
    """The bytes, and tokens that begin or end inside a character."""

    OWN = (b"\xea\xb5", b"\xac", "구석".encode(), "구".encode())

    def __init__(self) -> None:
        super().__init__()
        self.vocab_size += len(self.OWN)

    def token_bytes(self, token_id: int) -> bytes:
        place = token_id - (self.vocab_size - len(self.OWN))
        return self.OWN[place] if place >= 0 else super().token_bytes(token_id)


def test_a_prompt_is_healed_over_tokens_that_end_inside_a_character() -> None:
    tokenizer = Fragments()
    first = tokenizer.vocab_size - len(Fragments.OWN)
    free = text_constraint(Vocabulary(tokenizer, tokenizer.vocab_size))
    end, healed = healing_points(tokenizer, free, [first, first + 1])
    assert (end.back, end.covered, healed.back, healed.covered) == (0, "", 2, "구")
    assert np.flatnonzero(healed.next_states_V).tolist() == [first + 2], "구 itself says no more"
    asked = text_constraint(Vocabulary(tokenizer, tokenizer.vocab_size), pattern="석")
    healed = healing_points(tokenizer, asked, [first, first + 1])[-1]
    assert (healed.back, healed.next_states_V[first + 2] > 0) == (2, True), "구 is not asked for"


INSIDE = "나라는 한국"


def test_a_prompt_is_a_text_not_its_tokens(subwords: Tokenizer, reader: GPT) -> None:
    """What follows is drawn by the probability of all ways to write it (token healing)."""
    exact, over = all_ways(reader, subwords, INSIDE)
    assert 0.1 < over < 0.9, "both ways matter here"
    for native in (None, False):
        ask = {"num_samples": 3000, "max_new_tokens": 1, "seed": 1, "logprobs": 0, "native": native}
        chunks = [chunk for chunk in stream_text(reader, subwords, INSIDE, **ask) if chunk.scores]
        drawn = Counter(chunk.scores[0].token for chunk in chunks)
        healed = sum(
            len(subwords.token_bytes(chunk.scores[0].token)) > len(chunk.text.encode())
            for chunk in chunks
        )
        assert healed / 3000 == pytest.approx(over, abs=0.025), "three standard errors"
        drawn[subwords.end_of_text] = 3000 - drawn.total()
        found = np.array([drawn[token] / 3000 for token in range(subwords.vocab_size)])
        assert abs(found - exact).max() < 0.03


def test_a_text_goes_on_behind_its_prompt_wherever_its_tokens_end(
    subwords: Tokenizer, reader: GPT
) -> None:
    for prompt in (INSIDE, "나라는 ", "의사협회는", "나", ""):
        for ask in (
            {},
            {"sampling": SamplingSettings(num_beams=4)},
            {"sampling": SamplingSettings(repetition_penalty=1.2)},
        ):
            settings = {"max_new_tokens": 6, "num_samples": 4, "seed": 2, **ask}
            texts = generate_text(reader, subwords, prompt, **settings)
            assert texts == generate_text(reader, subwords, prompt, native=False, **settings)
            assert [prompt + text for text in texts] == generate_text(
                reader, subwords, prompt, echo=True, **settings
            )
            assert "\ufffd" not in "".join(texts)
            both = generate_text(reader, subwords, ["나라는 ", prompt], **settings)
            assert both[4:] == texts
        for choice in generate_text(
            reader, subwords, prompt, choices=["맑음", "흐림"], num_samples=4, seed=1
        ):
            assert choice in ("맑음", "흐림")


def test_scores_are_of_the_tokens_that_spell_prompt_and_text(
    subwords: Tokenizer, reader: GPT
) -> None:
    taken_back = 0
    for seed, beams in ((1, 1), (2, 1), (3, 1), (0, 3)):
        ask = {"sampling": SamplingSettings(num_beams=beams), "seed": seed, "max_new_tokens": 4}
        written = list(stream_text(reader, subwords, INSIDE, echo=True, logprobs=0, **ask))
        scores = [score for chunk in written for score in chunk.scores]
        tokens = [score.token for score in scores]
        assert subwords.decode(tokens) == "".join(chunk.text for chunk in written)
        with torch.no_grad():
            log_BTV = reader(torch.tensor([[subwords.end_of_text, *tokens]]))[0].log_softmax(-1)
        own = [float(log_BTV[0, place, token]) for place, token in enumerate(tokens)]
        assert [score.log_probability for score in scores] == pytest.approx(own, abs=1e-4)
        prompt = subwords.encode(INSIDE).tolist()
        taken_back += tokens[: len(prompt)] != prompt
    assert taken_back, "some token covers the prompt's end"


def test_a_conversation_goes_on_over_the_ends_of_its_lines(
    subwords: Tokenizer, reader: GPT
) -> None:
    lines = ("나라는 ", INSIDE, INSIDE)
    for native in (None, False):
        engine, conversation = Engine(reader, subwords, native=native), Conversation()
        read = [subwords.end_of_text]
        taken_back = 0
        for seed, line in enumerate(lines):
            own = subwords.encode(line).tolist()
            written = engine.stream(
                line, conversation=conversation, max_new_tokens=1, logprobs=0, seed=seed
            )
            (score,) = [score for chunk in written for score in chunk.scores]
            ways = []
            for back in range(len(own) + 1):
                kept = read + own[: len(own) - back]
                covered = b"".join(map(subwords.token_bytes, own[len(own) - back :]))
                if subwords.token_bytes(score.token).startswith(covered):
                    with torch.no_grad():
                        log_V = reader(torch.tensor([kept]))[0][0, -1].log_softmax(-1)
                    if score.log_probability == pytest.approx(float(log_V[score.token]), abs=1e-4):
                        ways.append((back, [*kept, score.token]))
            assert len(ways) == 1, "the model has read what was said, and nothing twice"
            taken_back += ways[0][0]
            read = ways[0][1]
        assert taken_back, "some token covers a line's end"


def test_of_a_long_prompt_only_the_end_is_read(
    writer: LanguageModel, tokenizer: CharTokenizer
) -> None:
    end = "기상청은 24일 전국이 대체로 맑겠다고 밝혔다."
    begin = time.monotonic()
    long = generate_text(writer, tokenizer, "가나다 " * 2_500_000 + end, max_new_tokens=20, seed=1)
    assert time.monotonic() - begin < 30, "0.3 s; minutes if the whole were read"
    assert long == generate_text(
        writer, tokenizer, "다른 글. " * 20 + end, max_new_tokens=20, seed=1
    )


def test_lone_surrogates_are_read(writer: LanguageModel, tokenizer: CharTokenizer) -> None:
    assert len(generate_text(writer, tokenizer, "\ud800의사\udfff", max_new_tokens=5, seed=1)) == 1


def test_stop_tokens_end_a_text(writer: LanguageModel, tokenizer: CharTokenizer) -> None:
    chunks = list(stream_text(writer, tokenizer, "의사", max_new_tokens=9, seed=1, logprobs=0))
    tokens = [score.token for chunk in chunks for score in chunk.scores]
    stopped = list(
        stream_text(
            writer, tokenizer, "의사", max_new_tokens=9, seed=1, logprobs=0, stop_tokens=[tokens[4]]
        )
    )
    assert [s.token for p in stopped for s in p.scores] == tokens[: tokens.index(tokens[4])]
    assert stopped[-1].finish_reason == "stop"


def test_seed_decides_the_text(writer: LanguageModel, tokenizer: CharTokenizer) -> None:
    texts = [
        generate_text(writer, tokenizer, "의사", max_new_tokens=20, seed=seed) for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]
    three = generate_text(writer, tokenizer, "의사", max_new_tokens=20, seed=1, num_samples=3)
    assert three[0] == texts[0][0], "the first of three is the one alone"
    assert len(set(three)) == 3


@settings(max_examples=20, deadline=None)
@given(prompt=st.text(max_size=20), seed=st.integers(0, 9))
def test_chunks_joined_are_the_text_and_korean_never_breaks(
    writer: LanguageModel, tokenizer: CharTokenizer, prompt: str, seed: int
) -> None:
    """An untrained model draws any byte at any place; what is not UTF-8 must never be drawn."""
    chunks = list(stream_text(writer, tokenizer, prompt, max_new_tokens=30, seed=seed))
    text = "".join(chunk.text for chunk in chunks)
    assert text == generate_text(writer, tokenizer, prompt, max_new_tokens=30, seed=seed)[0]
    assert "\ufffd" not in text
    assert chunks[-1].finish_reason in ("stop", "length")
    assert all(chunk.finish_reason is None for chunk in chunks[:-1])


def test_a_stop_string_ends_the_text_before_it(
    writer: LanguageModel, tokenizer: CharTokenizer
) -> None:
    whole = generate_text(writer, tokenizer, "의사", max_new_tokens=60, seed=3)[0]
    stop = whole[20:23]
    chunks = list(
        stream_text(
            writer, tokenizer, "의사", max_new_tokens=60, seed=3, stop=[stop, "절대 없을 글"]
        )
    )
    assert "".join(chunk.text for chunk in chunks) == whole[: whole.index(stop)]
    assert chunks[-1].finish_reason == "stop"
    nearly = generate_text(
        writer, tokenizer, "의사", max_new_tokens=60, seed=3, stop=[whole[-2:] + "…"]
    )
    assert nearly == [whole], "what only began like a stop string is given back"


def test_a_temperature_too_small_for_float32_is_greedy(
    writer: LanguageModel, tokenizer: CharTokenizer
) -> None:
    for native in (None, False):
        ask = {"native": native, "seed": 1, "max_new_tokens": 12}
        tiny, greedy = (
            generate_text(
                writer, tokenizer, "의사", sampling=SamplingSettings(temperature=t), **ask
            )
            for t in (1e-42, 0)
        )
        assert tiny == greedy


def test_dropout_takes_no_part(tokenizer: CharTokenizer) -> None:
    torch.manual_seed(0)
    shape = {"context_length": 16, "width": 32, "num_layers": 1, "num_heads": 2, "dropout": 0.5}
    model = GPT(GPTSettings(vocab_size=tokenizer.vocab_size, **shape)).train()
    ask = {"seed": 1, "max_new_tokens": 20}
    assert generate_text(model, tokenizer, "의사", native=False, **ask) == generate_text(
        model.eval(), tokenizer, "의사", native=True, **ask
    )


def test_tokens_that_the_tokenizer_lacks_are_never_drawn(tokenizer: CharTokenizer) -> None:
    torch.manual_seed(0)
    V = tokenizer.vocab_size + 5
    shape = {"context_length": 16, "width": 32, "num_layers": 1, "num_heads": 2}
    model = GPT(GPTSettings(vocab_size=V, **shape))
    for native in (None, False):
        ask = {"native": native, "num_samples": 20, "seed": 1, "logprobs": V}
        scores = [
            score
            for chunk in stream_text(model, tokenizer, "의사", max_new_tokens=20, **ask)
            for score in chunk.scores
        ]
        assert all(score.token < tokenizer.vocab_size for score in scores)
        assert {text for text, _ in scores[0].alternatives} >= {f"<{V - 1}>", f"<{V - 5}>"}


def test_closing_the_stream_frees_the_work(writer: LanguageModel, tokenizer: CharTokenizer) -> None:
    writer.train()
    stream = stream_text(writer, tokenizer, "의사", max_new_tokens=10_000)
    next(stream)
    stream.close()
    assert writer.training, "left as it was found"


def test_nothing_to_write_is_an_empty_text(writer: LanguageModel, tokenizer: CharTokenizer) -> None:
    assert generate_text(writer, tokenizer, "의사", max_new_tokens=0) == [""]


def test_a_plain_tokenizer_cannot_begin_from_nothing(
    korean_text: str, writer: LanguageModel
) -> None:
    with pytest.raises(SettingsError, match="no end-of-text token to begin from"):
        generate_text(writer, CharTokenizer.plain(korean_text), "")


def decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


@pytest.mark.parametrize("kind", ["char", "jamo", "bpe", "char_bpe"])
def test_decomposed_text_is_asked_for_as_the_tokenizer_writes_it(
    kind: Any, korean_text: str
) -> None:
    """Python's strings may come from a macOS file name: 한 as three letters."""
    size = 300 if "bpe" in kind else None
    tokenizer = train_tokenizer(kind, [korean_text] * 3, normalization="NFC", vocab_size=size)
    torch.manual_seed(0)
    shape = {"context_length": 16, "width": 32, "num_layers": 1, "num_heads": 2}
    engine = Engine(GPT(GPTSettings(vocab_size=tokenizer.vocab_size, **shape)), tokenizer)
    ask: dict[str, Any] = {"seed": 1, "max_new_tokens": 60, "num_samples": 2}
    choices = ["맑음", "흐림"]
    found = engine.generate("날씨", choices=list(map(decomposed, choices)), **ask)
    assert set(found) <= set(choices)
    pattern = "(맑음|[가-힣]{2})"
    found = engine.generate("날씨", pattern=decomposed(pattern), **ask)
    assert found == engine.generate("날씨", pattern=pattern, **ask)
    two = {"pattern": "[가나]{1,9}", **ask}
    assert any("가" in text for text in engine.generate("", **two))
    assert "가" not in "".join(engine.generate("", banned=[decomposed("가")], **two))
    stopped = engine.generate("", stop=[decomposed("가")], **two)
    assert stopped == engine.generate("", stop=["가"], **two) != engine.generate("", **two)
    echoed = engine.generate(decomposed("날씨"), echo=True, **ask)
    assert echoed == engine.generate("날씨", echo=True, **ask)


def test_text_is_left_as_it_is_where_the_tokenizer_leaves_it(
    writer: LanguageModel, tokenizer: CharTokenizer
) -> None:
    assert tokenizer.normalization is None
    letters = decomposed("맑음")
    assert generate_text(writer, tokenizer, "", choices=[letters], max_new_tokens=60) == [letters]


@pytest.mark.parametrize("native", [None, False])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "sampling",
    [
        SamplingSettings(),
        SamplingSettings(temperature=0),
        SamplingSettings(top_k=3),
        SamplingSettings(num_beams=2),
    ],
    ids=["drawn", "greedy", "top_k", "beams"],
)
def test_logits_that_are_not_finite_end_in_one_line(
    tokenizer: CharTokenizer, native: bool | None, bad: float, sampling: SamplingSettings
) -> None:
    torch.manual_seed(0)
    shape = {"context_length": 16, "width": 32, "num_layers": 1, "num_heads": 2}
    model = GPT(GPTSettings(vocab_size=tokenizer.vocab_size, **shape))
    letter = tokenizer.encode("의")[0]
    with torch.no_grad():
        model.model.norm.weight.zero_()
        model.model.norm.weight[0] = 1
        model.lm_head.weight[letter] = bad
    with pytest.raises(CheckpointError, match=r"not finite \(NaN or \+inf\)") as refusal:
        generate_text(model, tokenizer, "의사", native=native, sampling=sampling, seed=1)
    assert "\n" not in str(refusal.value)
    if math.isnan(bad) and sampling.num_beams == 1:
        free = generate_text(
            model, tokenizer, "의사", native=native, sampling=sampling, seed=1, pattern="[가나]{3}"
        )
        assert len(free[0]) == 3, "a token that may not follow may have any logit"


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(
    writer: LanguageModel, tokenizer: CharTokenizer, korean_text: str
) -> None:
    larger = CharTokenizer(korean_text + "뷁")
    with pytest.raises(
        SettingsError, match=rf"{larger.vocab_size} tokens, the model {tokenizer.vocab_size}"
    ):
        Engine(writer, larger)


def test_a_conversation_closed_at_any_chunk_goes_on_as_said(
    writer: LanguageModel, tokenizer: CharTokenizer
) -> None:
    """Nothing is read twice: the log-probabilities are those of the text so far."""
    for chunks in (1, 2, 4):
        engine, conversation = Engine(writer, tokenizer), Conversation()
        stream = engine.stream("의사", conversation=conversation, seed=1, echo=True, logprobs=0)
        first = [next(stream) for _ in range(chunks)]
        stream.close()
        tokens = [tokenizer.end_of_text, *(score.token for c in first for score in c.scores)]
        more = list(
            engine.stream("는", conversation=conversation, seed=2, max_new_tokens=1, logprobs=0)
        )
        tokens += tokenizer.encode("는").tolist()
        with torch.no_grad():
            log_V = writer(torch.tensor([tokens]))[0][0, -1].log_softmax(-1)
        (score,) = [score for chunk in more for score in chunk.scores]
        assert score.log_probability == pytest.approx(float(log_V[score.token]), abs=1e-4)


def test_what_may_become_a_stop_string_is_held_back(tokenizer: CharTokenizer) -> None:
    writer = Writer(tokenizer, ["은행", "행은"])
    ids = {character: int(tokenizer.encode(character)[0]) for character in "은이전"}
    assert [writer.push(ids[character]) for character in "이은은이은"] == [
        "이",
        "",
        "은",
        "은이",
        "",
    ]
    assert writer.finished is None
    assert writer.finish("length") == "은"
    assert writer.finished == "length"
    writer = Writer(tokenizer, ["은은이"])
    assert [writer.push(ids[character]) for character in "은은은이"] == ["", "", "은", ""]
    assert writer.finished == "stop"
    writer = Writer(tokenizer, ["은이", "이은이"])
    assert [writer.push(ids[character]) for character in "이은이"] == ["", "", ""]
    assert writer.finished == "stop", "the one that begins first ends the text"
