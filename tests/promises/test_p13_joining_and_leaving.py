"""P13: a text is the same alone and among others that join, leave, wait and fail meanwhile."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from conftest import VOCABULARY, small_model
from semigpt.errors import SemigptError
from semigpt.generation import batch
from semigpt.generation.batch import Batch, Job
from semigpt.generation.constraint import Constraint
from semigpt.generation.decoder import TorchDecoder
from semigpt.generation.engine import Engine
from semigpt.generation.sampling import SamplingSettings
from semigpt.generation.stream import Chunk
from semigpt.native.decode import NativeUnavailableError, library
from semigpt.tokenizers import CharTokenizer

LETTERS = "".join(map(chr, range(0xAC00, 0xAC00 + VOCABULARY - 1)))
SLOTS = 4
SAMPLING = [
    SamplingSettings(),
    SamplingSettings(temperature=0),
    SamplingSettings(top_p=0.8, top_k=30),
    SamplingSettings(min_p=0.05, repetition_penalty=1.3),
    SamplingSettings(frequency_penalty=0.5, logit_bias={3: 2.0}, no_repeat_ngram_size=2),
]
REQUESTS = st.fixed_dictionaries(
    {
        "prompt": st.integers(0, 40).map(lambda n: LETTERS[n : n + 1 + n % 30]),
        "max_new_tokens": st.sampled_from([0, 1, 5, 30]),
        "num_samples": st.sampled_from([1, 1, 2, 5]),
        "seed": st.integers(0, 3),
        "sampling": st.sampled_from(SAMPLING),
        "logprobs": st.sampled_from([None, None, 2]),
        "echo": st.booleans(),
        "pattern": st.sampled_from([None, None, "[가-힣]{2,9}"]),
        "stop": st.sampled_from([(), (LETTERS[5],)]),
    }
)


@cache
def engine(kind: str) -> Engine:
    writer = Engine(small_model(kind), CharTokenizer.plain(LETTERS + "\n"))
    if isinstance(writer.decoder, TorchDecoder):
        writer.decoder.together = False  # as `semigpt serve` has it
    return writer


ALONE: dict[str, dict[int, list[Chunk]]] = {}


def alone(kind: str, request: dict[str, Any]) -> dict[int, list[Chunk]]:
    """The chunks of each sample, written by an engine that does nothing else."""
    key = f"{kind} {request}"
    if key not in ALONE:
        ALONE[key] = {}
        for chunk in engine(kind).stream(**request):
            ALONE[key].setdefault(chunk.sample, []).append(chunk)
    return ALONE[key]


class Client:
    """A request in the batch, and what came of it."""

    def __init__(self, kind: str, request: dict[str, Any]) -> None:
        self.request = request
        self.wanted = alone(kind, request)
        self.chunks: dict[int, list[Chunk]] = {}
        self.errors: list[SemigptError] = []
        plan = engine(kind).plan(**request)
        self.job = Job(plan, 0, self.take, self.errors.append)

    def take(self, chunk: Chunk) -> None:
        self.chunks.setdefault(chunk.sample, []).append(chunk)


class Serving(RuleBasedStateMachine):
    """Clients come and go between the steps of one batch."""

    kind = "gpt"

    def __init__(self) -> None:
        super().__init__()
        self.clients: list[Client] = []
        writer = engine(self.kind)
        self.pool = writer.decoder.pool(SLOTS)
        self.batch = Batch(self.pool, writer.tokenizer, writer.scorer)

    @rule(request=REQUESTS)
    def join(self, request: dict[str, Any]) -> None:
        self.clients.append(Client(self.kind, request))
        self.batch.add(self.clients[-1].job)

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        client = self.clients.pop(data.draw(st.integers(0, len(self.clients) - 1)))
        client.job.cancelled = True

    @rule(steps=st.integers(1, 12))
    def step(self, steps: int) -> None:
        for _ in range(steps):
            self.batch.read()
            self.batch.draw()

    @invariant()
    def what_is_written_is_what_is_written_alone(self) -> None:
        for client in self.clients:
            assert not client.errors
            for sample, chunks in client.chunks.items():
                assert chunks == client.wanted[sample][: len(chunks)]

    @invariant()
    def no_slot_is_held_twice(self) -> None:
        assert 0 <= self.pool.free_slots <= SLOTS

    def teardown(self) -> None:
        for _ in range(5000):
            if not self.batch.busy:
                break
            self.batch.read()
            self.batch.draw()
        assert not self.batch.busy
        assert self.pool.free_slots == SLOTS
        for client in self.clients:
            assert client.job.done
            assert client.chunks == client.wanted


class ServingByPyTorch(Serving):
    """The rungs that C does not decode."""

    kind = "blocks"


@pytest.mark.parametrize("machine", [Serving, ServingByPyTorch])
def test_every_text_is_what_it_is_alone(machine: type[Serving]) -> None:
    if machine is Serving:
        try:
            library()
        except NativeUnavailableError as error:
            pytest.skip(str(error))
    test = machine.TestCase
    few = 25 if machine is Serving else 6
    test.settings = hypothesis_settings(max_examples=few, stateful_step_count=25, deadline=None)
    test("runTest").debug()


def test_constraints_that_compute_hold_up_no_other_sequence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a step one computes, however many want to; the others wait, and write the same."""
    monkeypatch.setattr(batch, "CATCH_UP", -1.0)
    computed: list[int] = []
    compute = Constraint._after_tokens

    def counted(self: Constraint, state: int) -> Any:
        computed.append(state)
        return compute(self, state)

    plain = {"prompt": LETTERS[:2], "max_new_tokens": 12}
    held = [{**plain, "pattern": "[가-힣]{9}", "seed": seed} for seed in range(SLOTS - 1)]
    clients = [Client("gpt", request) for request in (*held, plain | {"seed": 9})]
    writer = engine("gpt")
    shared = Batch(writer.decoder.pool(SLOTS), writer.tokenizer, writer.scorer)
    for client in clients:
        shared.add(client.job)
    monkeypatch.setattr(Constraint, "_after_tokens", counted)
    most, free = 0, clients[-1].job
    while shared.busy:
        computed.clear()
        written = free.written
        shared.read()
        shared.draw()
        most = max(most, len(computed))
        assert not written or free.done or free.written == written + 1, "it waits for none"
    assert most == 1
    assert all(client.chunks == client.wanted for client in clients)
