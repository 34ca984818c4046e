"""Where a run's seconds go before its first step and after its last: lines of a log.

The log `semigpt.stages` is silent unless its level is DEBUG; `benchmarks/start_end.py` reads it.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator

__all__ = ["mark", "stage"]

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def stage(name: str) -> Iterator[None]:
    """Log how many seconds the block took; also where a generator waits in it."""
    begin = time.perf_counter()
    try:
        yield
    finally:
        logger.debug("%s: %.3f", name, time.perf_counter() - begin)


def mark(name: str) -> None:
    """Log a moment."""
    logger.debug("%s", name)
