"""The engine that writes text, behind `semigpt generate` and the samples of a training run.

It asks a decoder for logits and does the rest in NumPy, so that a seed gives the same text on every
device and in every batch.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from semigpt.errors import SemigptError, SettingsError
from semigpt.generation.batch import Batch, Conversation, Job, Request
from semigpt.generation.beam_search import Searches
from semigpt.generation.constraint import Constraint, Vocabulary, text_constraint
from semigpt.generation.decoder import Pool, check_ids, make_decoder
from semigpt.generation.quantize import Precision
from semigpt.generation.sampling import SamplingSettings
from semigpt.generation.scoring import Scorer
from semigpt.generation.stream import Chunk, TokenScore
from semigpt.generation.token_healing import Prompt, healing_points
from semigpt.language import _
from semigpt.models.base import LanguageModel
from semigpt.native.decode import NativeDecoder
from semigpt.tokenizers.base import Tokenizer

__all__ = [
    "Chunk",
    "Conversation",
    "Engine",
    "TokenScore",
    "generate_text",
    "stream_text",
]

MOST_SIDE_BY_SIDE = 64
"""Sequences of one request that are written at once; the others follow as those end."""


class Engine:
    """A model and its tokenizer, ready to write. Weights are packed once for all requests.

    precision: of the matrices (`semigpt.generation.quantize`)
    native: None for the fastest decoder there is, False for PyTorch alone, True to insist on C

    Raises SettingsError for a tokenizer with more tokens than the model, NativeUnavailableError
    where C is insisted on and cannot be had.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        *,
        precision: Precision = "float32",
        native: bool | None = None,
    ) -> None:
        settings, V = model.settings, model.settings.vocab_size
        if tokenizer.vocab_size > V:
            raise SettingsError(
                _(
                    "the tokenizer has {vocab_size} tokens, the model {v}: "
                    "give the model the tokenizer that it was trained with"
                ).format(vocab_size=tokenizer.vocab_size, v=V)
            )
        self.model, self.tokenizer, self.precision = model, tokenizer, precision
        self.decoder = make_decoder(model, precision, native)
        self.scorer = Scorer(self.decoder, tokenizer, settings.context_length)
        self._vocabulary = Vocabulary(tokenizer, V)
        self.free = text_constraint(self._vocabulary)
        self.free.explore()

    @property
    def native_identity(self) -> str:
        """What the text depends on beside weights and tokenizer: the compiled code and its threads.

        Empty where PyTorch decodes.
        """
        if not isinstance(self.decoder, NativeDecoder):
            return ""
        return f"{Path(self.decoder.library._name).name} {self.decoder.threads}"

    def stream(self, prompt: str | Sequence[str] = "", **settings: Any) -> Iterator[Chunk]:
        """Continue each prompt `num_samples` times, side by side; yield chunks as they come.

        settings: of `plan`

        A sequence depends on its prompt, the settings, the seed and its number among the samples of
        its prompt, and on nothing else in the batch. It ends at `max_new_tokens`, at the
        end-of-text token or one of `stop_tokens`, before the first of the strings `stop`, or where
        `pattern` or one of `choices` is complete. A prompt's last tokens may give way to a longer
        one (`token_healing`).

        Closing the iterator frees the work. Raises SettingsError, before anything is written, for a
        request that cannot be met, and CheckpointError, while writing, for logits that are not
        finite.
        """
        return self._write(self.plan(prompt, **settings))

    def plan(
        self,
        prompt: str | Sequence[str] | Sequence[Sequence[int]] = "",
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
    ) -> Request:
        """What `stream` is to write with these settings, checked and encoded, for a `Batch`.

        Text that is given is normalised as the tokenizer normalises.

        prompt: ids are read exactly as they are: nothing stands before them, and none gives way
            (`token_healing`)
        sampling: None for the model's own distribution
        seed: None for a new one from the operating system
        banned: strings that do not occur in the new text
        pattern: a regular expression that matches the new text as a whole; `choices`: strings, of
            which it is one
        logprobs: score each token, beside so many alternatives
        echo: give the prompt as the first chunk. Its scores begin at the second token that the
            context holds, and end where the first new token begins
        conversation: continue it with one prompt and one sample

        Raises SettingsError for a request that cannot be met.
        """
        sampling = sampling or SamplingSettings()
        prompts: list[Any] = [prompt] if isinstance(prompt, str) else list(prompt)
        V = self.model.settings.vocab_size
        check_ids(_("logit_bias token"), list(sampling.logit_bias), V)
        check_ids(_("stop token"), stop_tokens, V)
        constraint = self._constraint(pattern, choices, banned)
        ends = (*stop_tokens, self.tokenizer.end_of_text)
        return Request(
            prompts=[
                self._prompt(text, constraint, conversation)
                if isinstance(text, str)
                else self._exact_prompt(text, constraint)
                for text in prompts
            ],
            max_new_tokens=max_new_tokens,
            sampling=sampling,
            seed=seed,
            num_samples=num_samples,
            stop=[self.normalized(text) for text in stop],
            end_tokens=frozenset(token for token in ends if token is not None),
            constraint=constraint,
            logprobs=logprobs,
            echo=echo,
            conversation=conversation,
        )

    def _write(self, request: Request) -> Iterator[Chunk]:
        """Yield the chunks of a request as they come."""
        chunks, errors = list[Chunk](), list[SemigptError]()
        work: Batch | Searches
        if request.sampling.num_beams > 1:
            work = Searches(self.decoder, self.tokenizer, self.scorer)
            steps: tuple[Callable[[], None], ...] = (work.step,)
        else:
            work = Batch(self._pool(request), self.tokenizer, self.scorer)
            steps = (work.read, work.draw)
        for index in range(len(request.prompts)):
            work.add(Job(request, index, chunks.append, errors.append))
        while work.busy:
            for step in steps:
                step()
                if errors:
                    raise errors[0]
                yield from chunks
                chunks.clear()

    def _pool(self, request: Request) -> Pool:
        """Slots for the sequences of a request that is drawn: of a conversation its own."""
        conversation = request.conversation
        if conversation is None:
            count = len(request.prompts) * request.num_samples
            return self.decoder.pool(min(count + 1, MOST_SIDE_BY_SIDE))
        if conversation.pool is None:
            conversation.pool = self.decoder.pool(1)
            conversation.slot = conversation.pool.take()
        conversation.unread = request.prompts[0].tokens
        return conversation.pool

    def generate(self, prompt: str | Sequence[str] = "", **settings: Any) -> list[str]:
        """The whole texts, one for each sample: `stream` joined. It takes the same settings."""
        texts: dict[int, str] = {}
        for chunk in self.stream(prompt, **settings):
            texts[chunk.sample] = texts.get(chunk.sample, "") + chunk.text
        return [texts[sample] for sample in sorted(texts)]

    def _constraint(
        self, pattern: str | None, choices: Sequence[str], banned: Sequence[str]
    ) -> Constraint:
        if pattern is None and not choices and not banned:
            return self.free
        return text_constraint(
            self._vocabulary,
            pattern=None if pattern is None else self.normalized(pattern),
            choices=[self.normalized(text) for text in choices],
            banned=[self.normalized(text) for text in banned],
        )

    def encode(self, text: str, most: int) -> list[int]:
        """The ids of a text behind an end-of-text id, of a long one the last `most`.

        Raises SettingsError for no text where the tokenizer has no end-of-text token.
        """
        return prompt_ids(self.tokenizer, self.normalized(text), most, self._vocabulary.longest)

    def normalized(self, text: str) -> str:
        """The text as the tokenizer normalises it."""
        form = self.tokenizer.normalization
        return text if form is None else unicodedata.normalize(form, text)

    def _prompt(
        self, text: str, constraint: Constraint, conversation: Conversation | None
    ) -> Prompt:
        text = self.normalized(text)
        if conversation is not None and conversation.pool is not None:
            before, own = conversation.unread, self.tokenizer.encode(text).tolist()
            if not before and not own:
                raise SettingsError(_("the conversation has nothing to read; give it some text"))
        else:
            context, longest = self.model.settings.context_length, self._vocabulary.longest
            ids = prompt_ids(self.tokenizer, text, context, longest)
            before, own = ids[:1], ids[1:]
        # The first token of all stays: something must be read before a token can be drawn.
        healed = own if before else own[1:]
        return Prompt(text, before + own, healing_points(self.tokenizer, constraint, healed))

    def _exact_prompt(self, ids: Sequence[int], constraint: Constraint) -> Prompt:
        check_ids(_("prompt token"), ids, self.tokenizer.vocab_size)
        if not ids:
            raise SettingsError(_("a prompt of ids needs at least one; give a text for none"))
        context = self.model.settings.context_length
        points = healing_points(self.tokenizer, constraint, [])
        return Prompt(self.tokenizer.decode(ids), list(ids)[-context:], points)


def prompt_ids(tokenizer: Tokenizer, prompt: str, context_length: int, longest: int) -> list[int]:
    """The ids of a prompt after the id that texts begin with: by default where another has ended.

    Only the last `context_length` ids are ever read, so only the end of a long prompt is encoded:
    enough for that many tokens as long as the longest, from a space or line end on, where tokens
    begin too.

    longest: bytes of the longest token

    Raises SettingsError where there is nothing to begin from.
    """
    start = [] if tokenizer.begin_of_text is None else [tokenizer.begin_of_text]
    enough = (context_length + 64) * longest
    if len(prompt) > 2 * enough:
        end = prompt[-2 * enough :]
        places = [place for place in map(end[:enough].find, "\n ") if place >= 0]
        prompt, start = end[min(places, default=0) :], []
    ids: list[int] = start + tokenizer.encode(prompt).tolist()
    if not ids:
        raise SettingsError(
            _(
                "this tokenizer has no end-of-text token to begin from; "
                "give a prompt of at least one character"
            )
        )
    return ids[-context_length:]


def stream_text(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompt: str | Sequence[str] = "",
    *,
    precision: Precision = "float32",
    native: bool | None = None,
    **settings: Any,
) -> Iterator[Chunk]:
    """`Engine.stream` of an engine made for this call; it takes the same settings."""
    return Engine(model, tokenizer, precision=precision, native=native).stream(prompt, **settings)


def generate_text(
    model: LanguageModel, tokenizer: Tokenizer, prompt: str | Sequence[str] = "", **settings: Any
) -> list[str]:
    """The whole continuations, one for each sample: `stream_text` joined, with its settings."""
    options = {name: settings.pop(name) for name in ("precision", "native") if name in settings}
    return Engine(model, tokenizer, **options).generate(prompt, **settings)
