"""What `/metrics` tells, in Prometheus' format."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from semigpt.generation.stream import Chunk
from semigpt.serving.loop import Answer, ClosingError, Loop, TimedOutError

__all__ = ["Metrics"]

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 120)


class Metrics:
    """Counts of one server."""

    def __init__(self, loop: Loop) -> None:
        self._registry = registry = CollectorRegistry()
        for name, says, value in (
            ("requests_running", "Requests being answered", lambda: loop.running),
            ("requests_waiting", "Prompts without a row", lambda: loop.waiting),
            ("rows", "Sequences being read or written", lambda: loop.rows),
        ):
            Gauge(f"semigpt_{name}", says, registry=registry).set_function(value)
        self._requests = Counter(
            "semigpt_requests", "Requests that ended", ["outcome"], registry=registry
        )
        self._cancelled = Counter(
            "semigpt_cancelled", "Requests that were given up", ["why"], registry=registry
        )
        self._refused = Counter(
            "semigpt_refused", "Requests answered with an error", ["why"], registry=registry
        )
        self._prompt = Counter("semigpt_prompt_tokens", "Tokens of prompts", registry=registry)
        self._new = Counter("semigpt_generation_tokens", "Tokens written", registry=registry)

        def seconds(name: str, says: str) -> Histogram:
            return Histogram(f"semigpt_{name}_seconds", says, buckets=SECONDS, registry=registry)

        self._queue = seconds("queue", "From the request until a prompt of it is read")
        self._first = seconds("time_to_first_token", "From the request to its first text")
        self._each = seconds(
            "time_per_output_token", "From the first text to the last, for each token"
        )
        loop.stepped = seconds("step", "A step of all sequences of a model").observe

    def refuse(self, why: str) -> None:
        """Count an answer that is an error."""
        self._refused.labels(why).inc()

    async def timed(self, answer: Answer) -> AsyncGenerator[list[Chunk], None]:
        """The chunks of an answer, which is counted when it ends or the client leaves."""
        outcome, why = "cancelled", "left"
        chunks = answer.chunks()
        try:
            async for some in chunks:
                yield some
            outcome = "done"
        except TimedOutError:
            why = "timeout"
            raise
        except ClosingError:
            why = "draining"
            raise
        except Exception:
            outcome = "failed"
            raise
        finally:
            await chunks.aclose()
            self._requests.labels(outcome).inc()
            if outcome == "cancelled":
                self._cancelled.labels(why).inc()
            if answer.taken_up is not None:
                self._queue.observe(answer.taken_up - answer.begun)
            self._prompt.inc(answer.prompt_tokens)
            self._new.inc(answer.tokens)
            if answer.first is not None:
                self._first.observe(answer.first - answer.begun)
                if answer.tokens > 1:
                    self._each.observe((time.monotonic() - answer.first) / answer.tokens)

    def page(self) -> bytes:
        """All of it as text."""
        return generate_latest(self._registry)
