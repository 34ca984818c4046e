"""What `/metrics` tells, in Prometheus' format."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from semigpt.generation.stream import Chunk
from semigpt.serving.loop import Answer, Loop

__all__ = ["Metrics"]

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 120)


class Metrics:
    """Counts of one server."""

    def __init__(self, loop: Loop) -> None:
        self._registry = registry = CollectorRegistry()
        waiting = Gauge("semigpt_requests_waiting", "Prompts without a row", registry=registry)
        rows = Gauge("semigpt_rows", "Sequences being read or written", registry=registry)
        waiting.set_function(lambda: loop.waiting)
        rows.set_function(lambda: loop.rows)
        self._requests = Counter(
            "semigpt_requests", "Requests that ended", ["outcome"], registry=registry
        )
        self._refused = Counter(
            "semigpt_refused", "Requests that were refused", ["status"], registry=registry
        )
        self._prompt = Counter("semigpt_prompt_tokens", "Tokens of prompts", registry=registry)
        self._new = Counter("semigpt_generation_tokens", "Tokens written", registry=registry)
        self._first = Histogram(
            "semigpt_time_to_first_token_seconds",
            "From the request to its first text",
            buckets=SECONDS,
            registry=registry,
        )
        self._each = Histogram(
            "semigpt_time_per_output_token_seconds",
            "From the first text to the last, for each token",
            buckets=SECONDS,
            registry=registry,
        )

    def refuse(self, status: int) -> None:
        """Count a request that never came to a model."""
        self._refused.labels(str(status)).inc()

    async def timed(self, answer: Answer) -> AsyncIterator[list[Chunk]]:
        """The chunks of an answer, which is counted when it ends or the client leaves."""
        outcome = "left"
        chunks = answer.chunks()
        try:
            async for some in chunks:
                yield some
            outcome = "done"
        except GeneratorExit:
            raise
        except Exception:
            outcome = "failed"
            raise
        finally:
            await chunks.aclose()  # type: ignore[attr-defined]
            self._requests.labels(outcome).inc()
            self._prompt.inc(answer.prompt_tokens)
            self._new.inc(answer.tokens)
            if answer.first is not None:
                self._first.observe(answer.first - answer.begun)
                if answer.tokens > 1:
                    self._each.observe((time.monotonic() - answer.first) / answer.tokens)

    def page(self) -> bytes:
        """All of it as text."""
        return generate_latest(self._registry)
