"""What a request may say: each field's type and bounds, which the OpenAPI description repeats."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    model_validator,
)

__all__ = [
    "MOST_CHARACTERS",
    "STREAMED",
    "ChatRequest",
    "Column",
    "CompareRequest",
    "CompletionRequest",
    "DetokenizeRequest",
    "ErrorAnswer",
    "PlaceRequest",
    "SurpriseRequest",
    "TokenizeRequest",
]

MOST_SAMPLES = 64  # prompts times samples of a request
MOST_CHARACTERS = 200_000  # of all prompts together
MOST_LOOKED_AT = 20_000  # characters of a text of which one place is looked at


def _number(value: Any) -> Any:
    """JSON's numbers alone: neither true nor "11", which pydantic would take."""
    if isinstance(value, bool | str):
        raise ValueError("must be a number")
    return value


def _whole(value: Any) -> Any:
    """11.0 is a whole number to JSON Schema."""
    value = _number(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]
Number = Annotated[float, BeforeValidator(_number)]
# Bounds stand inside where a field may be null: pydantic describes them only there.
Id = Annotated[int, Field(ge=0, le=2**31 - 1), BeforeValidator(_whole)]
Seed = Annotated[int, Field(ge=-(2**63), le=2**64 - 1), BeforeValidator(_whole)]
TopK = Annotated[int, Field(ge=1, le=2**31 - 1), BeforeValidator(_whole)]
MinP = Annotated[float, Field(ge=0, le=1), BeforeValidator(_number)]
Samples = Annotated[int, Field(ge=1, le=16), BeforeValidator(_whole)]
Alternatives = Annotated[int, Field(ge=0, le=20), BeforeValidator(_whole)]
NewTokens = Annotated[int, Field(ge=1, le=4096), BeforeValidator(_whole)]
Prompt = Annotated[str, Field(max_length=MOST_CHARACTERS)]
Ids = Annotated[list[Id], Field(min_length=1, max_length=MOST_CHARACTERS)]
Stop = Annotated[str, Field(min_length=1, max_length=256)]
Choice = Annotated[str, Field(min_length=1, max_length=256)]
Banned = Annotated[str, Field(min_length=1, max_length=64)]
Bias = Annotated[Number, Field(ge=-100, le=100)]
Text = Annotated[str, Field(max_length=MOST_CHARACTERS)]


class _Body(BaseModel):
    """A body: unknown fields are refused, and null stands for a field's default."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, values: Any) -> Any:
        if isinstance(values, dict):
            known = cls.model_fields
            return {n: value for n, value in values.items() if value is not None or n not in known}
        return values


class StreamOptions(_Body):
    include_usage: StrictBool = False
    include_obfuscation: StrictBool = False


class _Sampling(_Body):
    """How one text is drawn from a model."""

    model: str = Field(max_length=256)
    temperature: Number = Field(1.0, ge=0, le=2)
    top_p: Number = Field(1.0, gt=0, le=1)
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] = Field(default_factory=list)
    presence_penalty: Number = Field(0.0, ge=-2, le=2)
    frequency_penalty: Number = Field(0.0, ge=-2, le=2)
    logit_bias: dict[str, Bias] = Field(default_factory=dict, max_length=300)
    seed: Seed | None = None
    # Beyond OpenAI, by the names of `semigpt generate`.
    top_k: TopK | None = None
    min_p: MinP | None = None
    repetition_penalty: Number = Field(1.0, ge=0.01, le=10)
    no_repeat_ngram_size: Whole = Field(0, ge=0, le=64)
    num_beams: Whole = Field(1, ge=1, le=8)
    length_penalty: Number = Field(1.0, ge=-10, le=10)
    pattern: str | None = Field(None, max_length=512)
    choices: list[Choice] = Field(default_factory=list, max_length=64)
    banned: list[Banned] = Field(default_factory=list, max_length=64)
    stop_token_ids: list[Id] = Field(default_factory=list, max_length=64)

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop


class _Generation(_Sampling):
    """What completions and chat completions share."""

    n: Samples = 1
    stream: StrictBool = False
    stream_options: StreamOptions | None = None
    # Taken and ignored: they change nothing that is written.
    user: str | None = Field(None, max_length=512)
    metadata: dict[str, str] | None = Field(None, max_length=16)
    store: StrictBool | None = None
    service_tier: str | None = Field(None, max_length=64)


class CompletionRequest(_Generation):
    """The body of POST /v1/completions."""

    prompt: (
        Prompt
        | Annotated[list[Prompt], Field(min_length=1, max_length=MOST_SAMPLES)]
        | Ids
        | Annotated[list[Ids], Field(min_length=1, max_length=MOST_SAMPLES)]
    ) = ""
    max_tokens: Whole = Field(16, ge=0, le=4096)
    best_of: Samples | None = None
    logprobs: Alternatives | None = None
    echo: StrictBool = False
    suffix: Literal[""] | None = Field(None, description="a base model cannot fill in a middle")

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        """The prompts, as texts or as ids."""
        prompt: Any = self.prompt
        alone = isinstance(prompt, str) or isinstance(prompt[0], int)
        return [prompt] if alone else prompt

    @model_validator(mode="after")
    def _together(self) -> CompletionRequest:
        count = len(self.prompts) * max(self.n, self.best_of or 1)
        if count > MOST_SAMPLES:
            raise ValueError(f"prompt: prompts times samples are {count}, at most {MOST_SAMPLES}")
        if sum(map(len, self.prompts)) > MOST_CHARACTERS:
            raise ValueError(f"prompt: all prompts together are over {MOST_CHARACTERS} long")
        if self.best_of is not None and self.best_of < self.n:
            raise ValueError(f"best_of: must be at least n, {self.n}")
        if self.best_of is not None and self.best_of > self.n and self.stream:
            raise ValueError("best_of: the best are known at the end, so they cannot be streamed")
        if self.max_tokens == 0 and not self.echo:
            raise ValueError("max_tokens: 0 needs echo")
        return self


class Part(_Body):
    type: Literal["text"]
    text: Text


class Message(_Body):
    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[Part], Field(max_length=64)]
    name: str | None = Field(None, max_length=64)

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class ResponseFormat(_Body):
    type: Literal["text"] = Field(description="a base model writes text; see `pattern`")


class ChatRequest(_Generation):
    """The body of POST /v1/chat/completions.

    A base model has read no roles, so the contents are one text, a line each, which is continued.
    """

    messages: list[Message] = Field(min_length=1, max_length=256)
    max_tokens: NewTokens | None = None
    max_completion_tokens: NewTokens | None = None
    logprobs: StrictBool = False
    top_logprobs: Alternatives = 0
    response_format: ResponseFormat | None = None

    @property
    def prompt(self) -> str:
        return "\n".join(message.text for message in self.messages)

    @model_validator(mode="after")
    def _together(self) -> ChatRequest:
        if len(self.prompt) > MOST_CHARACTERS:
            raise ValueError(f"messages: together over {MOST_CHARACTERS} characters")
        return self


class TokenizeRequest(_Body):
    """The body of POST /tokenize."""

    model: str | None = Field(None, max_length=256)
    prompt: Text | None = None
    content: Text | None = Field(None, description="the same as `prompt`")
    add_special_tokens: StrictBool = False
    with_pieces: StrictBool = False

    @property
    def text(self) -> str:
        return self.prompt if self.prompt is not None else self.content or ""

    @model_validator(mode="after")
    def _one(self) -> TokenizeRequest:
        if (self.prompt is None) == (self.content is None):
            raise ValueError("prompt: give it, or content")
        return self


class DetokenizeRequest(_Body):
    """The body of POST /detokenize."""

    model: str | None = Field(None, max_length=256)
    tokens: list[Id] = Field(max_length=MOST_CHARACTERS)


class SurpriseRequest(_Body):
    """The body of POST /v1/surprise."""

    model: str | None = Field(None, max_length=256)
    text: Text
    alternatives: Alternatives = 5


class PlaceRequest(_Body):
    """The body of POST /v1/attention, /v1/lens and /v1/gate.

    What is looked at is how the model came to expect what stands at a place of a text.
    """

    model: str | None = Field(None, max_length=256)
    text: Annotated[str, Field(max_length=MOST_LOOKED_AT)]
    at: Annotated[int, Field(ge=0, le=MOST_LOOKED_AT), BeforeValidator(_whole)] | None = Field(
        None, description="a place in code points; without one the end, where nothing stands yet"
    )
    alternatives: Alternatives = 5

    @model_validator(mode="after")
    def _inside(self) -> PlaceRequest:
        if self.at is not None and self.at > len(self.text):
            raise ValueError(f"at: the text ends at {len(self.text)}")
        return self


class Column(_Sampling):
    """A model and its settings, beside others."""


class CompareRequest(_Body):
    """The body of POST /v1/compare, which is answered by one stream for all columns."""

    prompt: Prompt = ""
    max_tokens: NewTokens = 64
    columns: list[Column] = Field(min_length=1, max_length=16)


class Said(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(BaseModel):
    """An error in OpenAI's form."""

    error: Said


# How the description names an answer that may be a stream.
STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {}, "text/event-stream": {}}}
}
