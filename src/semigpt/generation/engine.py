"""One token after another: the loop behind `semigpt generate`, `model.generate` and the samples while training."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semigpt.errors import SettingsError
from semigpt.generation.constraint import DEAD, START, Constraint, text_constraint
from semigpt.generation.decoder import Decoder, Texts, make_decoder
from semigpt.generation.quantize import Precision
from semigpt.generation.sampling import (
    History,
    SamplingSettings,
    adjusted,
    choose,
    log_probabilities,
    probabilities,
    uniforms,
)
from semigpt.models.base import LanguageModel
from semigpt.native.decode import NativeTexts
from semigpt.tokenizers.base import Tokenizer

__all__ = [
    "Conversation",
    "Engine",
    "Piece",
    "TokenScore",
    "cuts",
    "generate_text",
    "generate_tokens",
    "stream_text",
    "token_steps",
]


@dataclass(frozen=True)
class TokenScore:
    """A token beside what the model thought of it, before temperature, penalties and constraints."""

    token: int
    text: str  # as `Tokenizer.token_text` shows it
    log_probability: float  # natural
    alternatives: tuple[
        tuple[str, float], ...
    ]  # the likeliest tokens and their log-probabilities, likeliest first


class Piece(NamedTuple):  # one a character: a frozen dataclass takes three times as long to make
    """A piece of one of the texts, whole characters all of it; the last one says why the text ended."""

    sample: int  # prompt x num_samples + number of the sample
    text: str
    finish_reason: str | None = (
        None  # "stop": a stop string or the end of the text; "length": max_new_tokens
    )
    scores: tuple[TokenScore, ...] = ()  # of the tokens that spell it, where asked for


class _Writer:
    """One text being written: bytes of unfinished characters and what may become a stop string are held back."""

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str]) -> None:
        self.decoder = tokenizer.stream()
        self.stop = stop
        self.held = ""
        self.finished: str | None = None

    def push(self, token: int, covered: int = 0) -> str:
        """What may be shown now; of the token's own text the first `covered` characters stand there already."""
        self.held += self.decoder.push(token)[covered:]
        return self._release()

    def finish(self, reason: str) -> str:
        # The jamo decoder holds a syllable back that the next letter could still change. Bytes of a character that
        # max_new_tokens cut off are dropped: half a syllable is not text.
        self.held += self.decoder.finish().rstrip("\ufffd")
        text = self._release()
        if self.finished is None:
            self.finished, text, self.held = reason, text + self.held, ""
        return text

    def _release(self) -> str:
        if not self.stop:
            text, self.held = self.held, ""
            return text
        places = [self.held.find(stop) for stop in self.stop if stop in self.held]
        if places:
            self.finished, text, self.held = "stop", self.held[: min(places)], ""
            return text
        keep = max(self._overlap(stop) for stop in self.stop)
        cut = len(self.held) - keep
        text, self.held = self.held[:cut], self.held[cut:]
        return text

    def _overlap(self, stop: str) -> int:
        """How many characters at the end of what is held could be the beginning of `stop`."""
        return next(
            (
                n
                for n in range(min(len(stop) - 1, len(self.held)), 0, -1)
                if self.held.endswith(stop[:n])
            ),
            0,
        )


class Cut(NamedTuple):
    """A place where a text may leave its prompt: `back` tokens before the end, by a token that says what they say, and goes
    on."""

    back: int
    covered: str  # what they say
    after: NDArray[np.int32]  # the constraint's state after each token, `[V]`


MOST_BACK = 8
"""Tokens of a prompt that one token may cover: Unigram's pieces have ten bytes at most."""


def cuts(tokenizer: Tokenizer, constraint: Constraint, prompt: Sequence[int]) -> list[Cut]:
    """Where a text may leave its prompt: at its end, and wherever a longer token reaches past it.

    A prompt is a text, not its tokens. Behind "대한민" the tokens 대한 and 민 would make "대한민국" unlikely to a model that
    has always read it as one token; behind a lone " " all is unlikely, since words are read with the space before them. So
    the tokens that reach over the end count too ("token healing"), each by the probability of all that it needs.
    """
    found = [Cut(0, "", constraint.after(START))]
    covered = b""
    for back, token in enumerate(reversed(prompt[-MOST_BACK:]), start=1):
        data = tokenizer.token_bytes(token)
        if not data:
            break
        covered = data + covered
        try:
            text = covered.decode()
        except UnicodeDecodeError:  # the end of a character
            continue
        after = constraint.after_covering(covered)
        if after.any():
            found.append(Cut(back, text, after))
    return found


@dataclass(frozen=True)
class _Prompt:
    """A prompt as the model is to read it, and where a text may leave it: at its end first."""

    text: str
    tokens: list[int]
    cuts: list[Cut]

    @property
    def back(self) -> int:
        """The most tokens that a cut takes back."""
        return self.cuts[-1].back

    def before(self, cut: Cut) -> list[int]:
        """The tokens that stay."""
        return self.tokens[: len(self.tokens) - cut.back]

    def leave(
        self, logits: NDArray[np.float32], sampling: SamplingSettings, random: np.random.Generator
    ) -> Cut:
        """A cut, drawn as a token is, by its share of all that may follow: the probability of the tokens up to it, times that of
        the tokens it allows. Logits `[back + 1, V]`: before each token that may be taken back, and at the end."""
        if len(self.cuts) == 1:
            return self.cuts[0]
        rows = [log_probabilities(row) for row in logits]
        tail = self.tokens[len(self.tokens) - self.back :]
        reached = [
            0.0,
            *itertools.accumulate(row[token] for row, token in zip(rows, tail, strict=False)),
        ]
        shares = []
        for cut in self.cuts:
            place = self.back - cut.back
            allowed = rows[place][cut.after != DEAD]
            shares.append(reached[place] + np.logaddexp.reduce(allowed, initial=-np.inf))
        number = choose(probabilities(np.array(shares, np.float32), sampling), random.random())
        return self.cuts[max(number, 0)]  # -1: nothing may follow, and the text will end here


class _Text:
    """One of the texts of a call: where its constraint, its random numbers and its writer stand."""

    def __init__(
        self,
        sample: int,
        writer: _Writer,
        random: np.random.Generator,
        history: History | None,
        cut: Cut | None = None,
    ) -> None:
        self.sample, self.writer, self.random, self.history = sample, writer, random, history
        self.state = START
        self.cut = cut if cut is not None and cut.back else None  # until its token is drawn
        self.scores: list[TokenScore] = []

    @cached_property
    def _past_the_cut(self) -> NDArray[np.uint8]:
        assert self.cut is not None
        forbidden: NDArray[np.uint8] = (self.cut.after == DEAD).astype(np.uint8)
        return forbidden

    def forbidden(self, constraint: Constraint) -> NDArray[np.uint8]:
        """1 for each token that may not follow, `[V]`."""
        return constraint.forbidden(self.state) if self.cut is None else self._past_the_cut

    def address(self, constraint: Constraint) -> int:
        """Where `forbidden` lies in memory."""
        return (
            constraint.address(self.state) if self.cut is None else self._past_the_cut.ctypes.data
        )

    def take(self, token: int, constraint: Constraint) -> None:
        """Go on behind a token."""
        after = constraint.after(self.state) if self.cut is None else self.cut.after
        self.state, self.cut = after.item(token), None
        if self.history is not None:
            self.history.push(token)


class Conversation:
    """One text that goes on from call to call of `Engine.stream`: what was read stays read."""

    def __init__(self) -> None:
        self._texts: Texts | None = None  # one text, and room to go on from each of its cuts
        self._unread: list[int] = []  # written, but not yet read by the model itself


def prompt_ids(tokenizer: Tokenizer, prompt: str, context_length: int | None = None) -> list[int]:
    """The prompt's ids behind an end-of-text id: a text begins where another has ended. Any prompt works.

    Only the last `context_length` ids are ever seen, so of a long prompt only its end is encoded: enough for that many
    tokens as long as the longest, from a space or line end on, where tokens begin too.
    """
    start = [] if tokenizer.end_of_text is None else [tokenizer.end_of_text]
    if context_length is not None:
        longest = max(len(tokenizer.token_bytes(token)) for token in range(tokenizer.vocab_size))
        enough = (context_length + 64) * longest
        if len(prompt) > 2 * enough:
            end = prompt[-2 * enough :]
            places = [place for place in map(end[:enough].find, "\n ") if place >= 0]
            prompt, start = end[min(places, default=0) :], []
    ids: list[int] = start + tokenizer.encode(prompt).tolist()
    if not ids:
        raise SettingsError(
            "this tokenizer has no end-of-text token to begin from; give a prompt of at least one character"
        )
    return ids if context_length is None else ids[-context_length:]


class Engine:
    """A model and its tokenizer, made ready to write: weights are packed once, for any number of texts.

    precision: of the matrices: float32, bfloat16 or int8 (`semigpt.generation.quantize`)
    native: None for the fastest way there is, False for PyTorch alone, True to insist on decode.c
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        *,
        precision: Precision = "float32",
        native: bool | None = None,
    ) -> None:
        self.model, self.tokenizer, self.precision = model, tokenizer, precision
        self._decoder: Decoder = make_decoder(model, precision, native)
        self._utf8: Constraint | None = None

    def stream(
        self,
        prompt: str | Sequence[str] = "",
        *,
        max_new_tokens: int = 200,
        sampling: SamplingSettings | None = None,
        seed: int | None = None,
        num_samples: int = 1,
        stop: Sequence[str] = (),
        stop_tokens: Sequence[int] = (),
        banned: Sequence[str] = (),
        pattern: str | None = None,
        choices: Sequence[str] = (),
        logprobs: int | None = None,
        echo: bool = False,
        conversation: Conversation | None = None,
    ) -> Iterator[Piece]:
        """Continue each prompt `num_samples` times, all side by side, yielding the texts' pieces as they come.

        A text ends at `max_new_tokens`, at the model's end-of-text or one of `stop_tokens`, before the first stop
        string, or where `pattern` (the new text as a whole) or one of `choices` is met. `banned` strings do not occur
        in it. A text depends on its prompt, the settings, the seed and its number among the samples of its prompt, and
        on nothing else in the batch. A prompt is a text: its last tokens may give way to a longer one (`cuts`).

        logprobs: score each token, beside this many alternatives
        echo: give the prompt too, as the first piece; its scores begin where the model's context does, at the second token, and
            end where the first new token begins
        conversation: go on behind all that was said in it; one prompt, one sample

        Closing the iterator frees the work. Raises SettingsError, before anything is written, for what cannot be.
        """
        sampling = sampling or SamplingSettings()
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        _check_length(max_new_tokens)
        if num_samples < 1:
            raise SettingsError(f"num_samples must be at least 1, not {num_samples}")
        if any(not text for text in stop):
            raise SettingsError("a stop string must not be empty")
        if logprobs is not None and logprobs < 0:
            raise SettingsError(f"logprobs must be 0 or more, not {logprobs}")
        V = self.model.settings.vocab_size
        for name, tokens in (("logit_bias", sampling.logit_bias), ("stop_tokens", stop_tokens)):
            if wrong := [token for token in tokens if not 0 <= token < V]:
                raise SettingsError(
                    f"{name} names token {wrong[0]}, which is outside the vocabulary of {V} tokens"
                )
        if sampling.num_beams > 1 and num_samples > sampling.num_beams:
            raise SettingsError(
                f"num_samples {num_samples} is more than num_beams {sampling.num_beams}: so many are not found"
            )
        if conversation is not None and (
            len(prompts) != 1 or num_samples != 1 or sampling.num_beams > 1
        ):
            raise SettingsError(
                "a conversation takes one prompt, one sample and no beams at a time"
            )
        if pattern is None and not choices and not banned:
            self._utf8 = constraint = self._utf8 or text_constraint(self.tokenizer, V)
        else:
            constraint = text_constraint(
                self.tokenizer, V, pattern=pattern, choices=choices, banned=banned
            )
        ends = {
            *stop_tokens,
            *(() if self.tokenizer.end_of_text is None else (self.tokenizer.end_of_text,)),
        }
        if conversation is not None and conversation._texts is not None:
            own = self.tokenizer.encode(prompts[0]).tolist()
            read = [self._prompt(prompts[0], conversation._unread, own, constraint)]
        else:
            context = self.model.settings.context_length
            read = [
                self._prompt(text, ids[:1], ids[1:], constraint)
                for text in prompts
                for ids in (prompt_ids(self.tokenizer, text, context),)
            ]
        write = self._search if sampling.num_beams > 1 else self._draw
        return write(
            read,
            max_new_tokens,
            sampling,
            seed,
            num_samples,
            stop,
            ends,
            constraint,
            logprobs,
            echo,
            conversation,
        )

    def _prompt(
        self, text: str, before: list[int], own: list[int], constraint: Constraint
    ) -> _Prompt:
        # The first token of all stays: something has to be read before a token can be drawn.
        free = own if before else own[1:]
        return _Prompt(text, before + own, cuts(self.tokenizer, constraint, free))

    def generate(self, prompt: str | Sequence[str] = "", **settings: Any) -> list[str]:
        """The whole texts, one a sample: `stream` joined. It takes the same settings."""
        texts: dict[int, str] = {}
        for piece in self.stream(prompt, **settings):
            texts[piece.sample] = texts.get(piece.sample, "") + piece.text
        return [texts[sample] for sample in sorted(texts)]

    def _draw(
        self,
        prompts: list[_Prompt],
        max_new_tokens: int,
        sampling: SamplingSettings,
        seed: int | None,
        num_samples: int,
        stop: Sequence[str],
        ends: set[int],
        constraint: Constraint,
        logprobs: int | None,
        echo: bool,
        conversation: Conversation | None,
    ) -> Iterator[Piece]:
        count = len(prompts) * num_samples
        if conversation is None:
            decoder = self._decoder.open(
                len(prompts), max(count, sum(prompt.back + 1 for prompt in prompts))
            )
        else:
            decoder = conversation._texts or self._decoder.open(1, MOST_BACK + 1)
            conversation._texts, conversation._unread = decoder, prompts[0].tokens
        if max_new_tokens == 0:
            for sample in range(count):
                if echo:
                    prompt = prompts[sample // num_samples]
                    yield self._echo(sample, prompt, prompt.cuts[0], logprobs)
                yield Piece(sample, "", "length")
            return
        logits = read_to_cuts(decoder, prompts)
        texts: list[_Text] = []
        rows: list[int] = []
        end = -1
        for prompt in prompts:
            end += prompt.back + 1
            for number in range(num_samples):
                random = uniforms(seed, number)
                cut = prompt.leave(logits[end - prompt.back : end + 1], sampling, random)
                rows.append(end - cut.back)
                history = self._history(prompt, cut, sampling)
                texts.append(_Text(len(texts), _Writer(self.tokenizer, stop), random, history, cut))
        decoder.keep(rows)
        logits = logits[rows]
        if echo:
            for text in texts:
                prompt = prompts[text.sample // num_samples]
                yield self._echo(text.sample, prompt, text.cut or prompt.cuts[0], logprobs)
        for step in range(1, max_new_tokens + 1):
            scored = logits.copy() if logprobs is not None else None
            tokens = next_tokens(decoder, logits, texts, sampling, constraint)
            going_on: list[int] = []
            if conversation is not None:
                conversation._unread = [int(tokens[0])] if tokens[0] >= 0 else []
            for row, (text, token) in enumerate(zip(texts, tokens.tolist(), strict=True)):
                writer = text.writer
                if token in ends or token < 0:
                    said = writer.finish("stop")
                else:
                    if scored is not None:
                        text.scores.append(self._score(scored[row], token, logprobs or 0))
                    said = writer.push(token, 0 if text.cut is None else len(text.cut.covered))
                    text.take(token, constraint)
                    if (
                        writer.finished is None
                        and constraint.ends_when_met
                        and constraint.complete(text.state)
                    ):
                        said += writer.finish("stop")
                    if writer.finished is None and step == max_new_tokens:
                        said += writer.finish("length")
                if writer.finished is None:
                    going_on.append(row)
                if said or writer.finished:
                    scores, text.scores = tuple(text.scores), []
                    yield Piece(text.sample, said, writer.finished, scores)
            if not going_on:
                return
            if len(going_on) < len(texts):
                decoder.keep(going_on)
                texts, tokens = [texts[row] for row in going_on], tokens[going_on]
            logits = decoder.step(tokens)

    def _search(
        self,
        prompts: list[_Prompt],
        max_new_tokens: int,
        sampling: SamplingSettings,
        seed: int | None,
        num_samples: int,
        stop: Sequence[str],
        ends: set[int],
        constraint: Constraint,
        logprobs: int | None,
        echo: bool,
        conversation: Conversation | None,
    ) -> Iterator[Piece]:
        count = sampling.num_beams
        for number, prompt in enumerate(prompts):
            decoder = self._decoder.open(1, max(count, prompt.back + 1))
            logits = read_to_cuts(decoder, [prompt])
            cut = prompt.leave(logits, replace(sampling, temperature=0), uniforms(0, 0))
            decoder.keep([prompt.back - cut.back])
            history = self._history(prompt, cut, sampling)
            found = beam_search(
                decoder,
                logits[[-1 - cut.back]],
                max_new_tokens,
                sampling,
                ends,
                constraint,
                history=history,
                cut=cut,
            )
            for sample, (tokens, reason) in enumerate(
                found[:num_samples], start=number * num_samples
            ):
                writer = _Writer(self.tokenizer, stop)
                said = ""
                for place, token in enumerate(tokens):
                    if writer.finished is None:
                        said += writer.push(token, 0 if place else len(cut.covered))
                if writer.finished is None:
                    said += writer.finish(reason)
                before = prompt.before(cut)
                scores = (
                    () if logprobs is None else tuple(self._score_all(before, tokens, logprobs))
                )
                if echo:
                    yield self._echo(sample, prompt, cut, logprobs)
                yield Piece(sample, said, writer.finished, scores)

    def _history(self, prompt: _Prompt, cut: Cut, sampling: SamplingSettings) -> History | None:
        if not sampling.looks_back:
            return None
        return History(
            prompt.before(cut), self.model.settings.vocab_size, sampling.no_repeat_ngram_size
        )

    def _echo(self, sample: int, prompt: _Prompt, cut: Cut, logprobs: int | None) -> Piece:
        """The prompt as the first piece of a text, with the scores of its tokens up to the cut."""
        tokens = prompt.before(cut)
        scores = (
            () if logprobs is None else tuple(self._score_all(tokens[:1], tokens[1:], logprobs))
        )
        return Piece(sample, prompt.text, None, scores)

    def _score(self, logits_V: NDArray[np.float32], token: int, count: int) -> TokenScore:
        log_V = log_probabilities(logits_V)
        likeliest = np.argsort(-log_V, kind="stable")[:count].tolist()
        alternatives = tuple((self._token_text(other), float(log_V[other])) for other in likeliest)
        return TokenScore(token, self._token_text(token), float(log_V[token]), alternatives)

    def _token_text(self, token: int) -> str:
        return (
            self.tokenizer.token_text(token) if token < self.tokenizer.vocab_size else f"<{token}>"
        )

    def _score_all(self, before: list[int], tokens: list[int], count: int) -> Iterator[TokenScore]:
        """Scores of tokens that are known already, read in one pass; as many as the context holds."""
        if not tokens:
            return
        context = self.model.settings.context_length
        start = max(0, len(before) + len(tokens) - context)
        whole = (before + tokens)[start:]
        texts = self._decoder.open(1)
        first = max(1, len(before) - start)
        logits = texts.feed([whole[:first]])
        for place in range(first, len(whole)):
            yield self._score(logits[0], whole[place], count)
            if place + 1 < len(whole):
                logits = texts.step(np.array(whole[place : place + 1]))


def next_tokens(
    decoder: Texts,
    logits: NDArray[np.float32],
    texts: Sequence[_Text],
    sampling: SamplingSettings,
    constraint: Constraint | None,
) -> NDArray[np.int64]:
    """One token a text, `[B]`; -1 where none may follow. The logits may be written over."""
    draws = [text.random.random() for text in texts]
    if sampling.plain and isinstance(decoder, NativeTexts):
        rows = [0 if constraint is None else text.address(constraint) for text in texts]
        return decoder.draw(rows, sampling.temperature, draws)
    tokens = np.empty(len(texts), np.int64)
    for row, (text, uniform) in enumerate(zip(texts, draws, strict=True)):
        logits_V = (
            adjusted(logits[row], sampling, text.history) if sampling.looks_back else logits[row]
        )
        if constraint is not None:
            logits_V = np.where(text.forbidden(constraint), np.float32(-np.inf), logits_V)
        tokens[row] = choose(probabilities(logits_V, sampling), uniform)
    return tokens


def read_to_cuts(texts: Texts, prompts: Sequence[_Prompt]) -> NDArray[np.float32]:
    """Read each prompt once, and go on with a text for each token that a cut of it takes back, the one from before the first of
    them first: the logits after each."""
    logits = texts.feed([prompt.before(prompt.cuts[-1]) for prompt in prompts])
    if not any(prompt.back for prompt in prompts):
        return logits
    ends = [(prompt, end) for prompt in prompts for end in range(prompt.back + 1)]
    texts.keep([number for number, prompt in enumerate(prompts) for _ in range(prompt.back + 1)])
    return texts.feed([prompt.tokens[-prompt.back :][:end] for prompt, end in ends])


def beam_search(
    texts: Texts,
    logits: NDArray[np.float32],
    max_new_tokens: int,
    sampling: SamplingSettings,
    ends: set[int],
    constraint: Constraint,
    *,
    history: History | None = None,
    cut: Cut | None = None,
) -> list[tuple[list[int], str]]:
    """The best `num_beams` continuations found of one text, best first, each with why it ended. Nothing is drawn: the same each
    time.

    texts: with that text read, the logits `[1, V]` after it, and room for `num_beams`
    history: of it, where the sampling looks back
    cut: of the first token

    Each step keeps the `num_beams` likeliest continuations of all beams; one that ends is put aside. The search is over
    when as many have ended and no beam still going can become better, at its present length (transformers' default).
    """
    count, power = sampling.num_beams, sampling.length_penalty
    # Of each beam: log-probability, tokens, the constraint's state after each token to come, history.
    first = constraint.after(START) if cut is None else cut.after
    beams: list[tuple[float, list[int], NDArray[np.int32], History | None]] = [
        (0.0, [], first, history)
    ]
    ended: list[tuple[float, list[int], str]] = []
    for _ in range(max_new_tokens):
        candidates: list[tuple[float, int, int]] = []
        for number, (total, _, after, past) in enumerate(beams):
            log_V = log_probabilities(logits[number]).astype(np.float32)
            log_V = adjusted(log_V, sampling, past) if sampling.looks_back else log_V
            log_V = np.where(after == DEAD, -np.inf, log_V)
            # Of 2 x num_beams at least half are no ends, where there is one end.
            best = np.argsort(-log_V, kind="stable")[: count * (1 + len(ends))].tolist()
            candidates += [
                (total + float(log_V[token]), number, token)
                for token in best
                if log_V[token] > -math.inf
            ]
        candidates.sort(key=lambda candidate: (-candidate[0], candidate[1], candidate[2]))
        chosen: list[tuple[float, int, int]] = []
        for place, (total, number, token) in enumerate(candidates):
            tokens = beams[number][1]
            if token in ends:
                if place < count:
                    ended.append((total / (len(tokens) + 1) ** power, tokens, "stop"))
                continue
            if constraint.ends_when_met and constraint.complete(int(beams[number][2][token])):
                ended.append((total / (len(tokens) + 1) ** power, [*tokens, token], "stop"))
                continue
            chosen.append((total, number, token))
            if len(chosen) == count:
                break
        ended = sorted(ended, key=lambda text: -text[0])[:count]
        if not chosen:
            beams = []
            break
        grown = []
        for total, number, token in chosen:
            _, tokens, after, past = beams[number]
            if past is not None:
                past = past.copy()
                past.push(token)
            grown.append((total, [*tokens, token], constraint.after(int(after[token])), past))
        beams = grown
        if len(ended) == count and ended[-1][0] >= beams[0][0] / len(beams[0][1]) ** power:
            beams = []
            break
        texts.keep([number for _, number, _ in chosen])
        logits = texts.step(np.array([token for _, _, token in chosen]))
    ended += [
        (total / max(len(tokens), 1) ** power, tokens, "length") for total, tokens, _, _ in beams
    ]
    return [
        (tokens, reason) for _, tokens, reason in sorted(ended, key=lambda text: -text[0])[:count]
    ]


def token_steps(
    model: LanguageModel,
    tokens_BT: Tensor,
    sampling: SamplingSettings,
    seed: int | None,
    *,
    native: bool | None = None,
) -> Iterator[NDArray[np.int64]]:
    """The next token of each row, `[B]`, for as long as one asks. A prompt longer than the model's context counts by its
    end. Where the model has a cache each new token costs one position, past the context too: the window slides."""
    prompts: list[list[int]] = tokens_BT.tolist()
    looks_back, V = sampling.looks_back, model.settings.vocab_size
    rows = []
    for row, prompt in enumerate(prompts):
        history = History(prompt, V, sampling.no_repeat_ngram_size) if looks_back else None
        rows.append(_Text(row, None, uniforms(seed, row), history))  # type: ignore[arg-type]
    texts = make_decoder(model, native=native).open(len(prompts))
    logits = texts.feed(prompts)
    while True:
        tokens = next_tokens(texts, logits, rows, sampling, None).copy()
        for text, token in zip(rows, tokens.tolist(), strict=True):
            if text.history is not None:
                text.history.push(token)
        yield tokens
        logits = texts.step(tokens)


def generate_tokens(
    model: LanguageModel,
    inputs_BT: Tensor,
    max_new_tokens: int,
    sampling: SamplingSettings,
    *,
    seed: int | None = None,
) -> Tensor:
    """`inputs_BT` continued by `max_new_tokens` tokens, `[B, T + max_new_tokens]`."""
    _check_length(max_new_tokens)
    if inputs_BT.dim() != 2 or inputs_BT.shape[1] == 0:
        raise SettingsError(
            f"generate needs ids of shape [batch, at least 1], not {list(inputs_BT.shape)}"
        )
    steps = token_steps(model, inputs_BT, sampling, seed)
    new = [
        torch.from_numpy(tokens) for _, tokens in zip(range(max_new_tokens), steps, strict=False)
    ]
    new_BT = torch.stack(new, dim=1) if new else torch.empty(len(inputs_BT), 0, dtype=torch.int64)
    return torch.cat((inputs_BT, new_BT.to(inputs_BT)), dim=1)


def _check_length(max_new_tokens: int) -> None:
    if max_new_tokens < 0:
        raise SettingsError(f"max_new_tokens must be 0 or more, not {max_new_tokens}")


def stream_text(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompt: str | Sequence[str] = "",
    *,
    precision: Precision = "float32",
    native: bool | None = None,
    **settings: Any,
) -> Iterator[Piece]:
    """`Engine.stream` of an engine made for this once; it takes the same settings."""
    return Engine(model, tokenizer, precision=precision, native=native).stream(prompt, **settings)


def generate_text(
    model: LanguageModel, tokenizer: Tokenizer, prompt: str | Sequence[str] = "", **settings: Any
) -> list[str]:
    """The whole continuations, one a sample: `stream_text` joined. It takes the same settings."""
    engine = {name: settings.pop(name) for name in ("precision", "native") if name in settings}
    return Engine(model, tokenizer, **engine).generate(prompt, **settings)
