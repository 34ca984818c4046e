"""Runs that are training now: what their folders say, and their newest weights.

The folders are read by a clock of the server's own. Requests see what was read last.
"""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from semigpt.errors import SemigptError
from semigpt.language import _
from semigpt.run_folder import RunFolder

__all__ = ["Training", "Watcher"]

logger = logging.getLogger(__name__)

SECONDS = 1.0  # between two looks
MOST_READ = 8 << 20  # bytes of a log read at a look
MOST_ROWS = 1_000  # of an answer
TRAINED = re.compile(r"^\| trained for \| ([0-9,]{1,20}) steps", re.MULTILINE)


class _Log:
    """The whole lines of a log that grows, and may be cut back when its run is resumed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place, self._last = 0, b""  # bytes read, and the line that they end with
        self.rows: tuple[dict[str, Any], ...] = ()

    def read(self) -> None:
        """Read what was added. Raises OSError for what cannot be read."""
        with self._path.open("rb") as file:
            file.seek(self._place - len(self._last))
            if file.read(len(self._last)) != self._last:
                self._place, self._last, self.rows = 0, b"", ()
            file.seek(self._place)
            content = file.read(MOST_READ)
        whole = content[: content.rfind(b"\n") + 1]
        if not whole:
            return
        self._place += len(whole)
        lines = whole.splitlines(keepends=True)
        self._last = lines[-1]
        self.rows += tuple(row for line in lines if (row := _row(line)) is not None)


def _row(line: bytes) -> dict[str, Any] | None:
    """A line's table; None for one without a step."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and type(row.get("step")) is int else None


class Training:
    """What is known of a run. It is read by one thread, and asked by others."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.weights_step: int | None = None  # of the weights that are served
        self._metrics, self._samples = _Log(run.logs["metrics"]), _Log(run.logs["samples"])
        self._metadata: dict[str, Any] = {}
        self._weights: tuple[int, ...] | None = None

    def read(self) -> None:
        """Read what the run has written since the last look."""
        for log in (self._metrics, self._samples):
            try:
                log.read()
            except OSError:  # not there yet, or not any more
                continue
        self._metadata = self.run.metadata() or self._metadata

    @property
    def has_new_weights(self) -> bool:
        """Whether its model is another than when this was asked last."""
        try:
            status = (self.run.model_folder / "model.safetensors").stat()
        except OSError:
            return False
        before = self._weights
        self._weights = (status.st_ino, status.st_mtime_ns, status.st_size)
        return self._weights != before

    @property
    def bits_per_character(self) -> float | None:
        """Of the best evaluation so far, whose weights the run keeps."""
        measured = (row.get("bits_per_character") for row in self._metrics.rows)
        return min((value for value in measured if isinstance(value, float)), default=None)

    def served(self) -> None:
        """Note which step's weights the model folder has, as its card tells."""
        try:
            card = (self.run.model_folder / "README.md").read_text("utf-8", "replace")
        except OSError:
            card = ""
        found = TRAINED.search(card)
        self.weights_step = None if found is None else int(found[1].replace(",", ""))

    def after(self, step: int) -> dict[str, Any]:
        """What was measured and written after a step, at most some 1,000 rows of it."""
        metrics = [row for row in self._metrics.rows if row["step"] > step]
        more = len(metrics) > MOST_ROWS
        if more:
            last = metrics[MOST_ROWS - 1]["step"]
            metrics = [row for row in metrics if row["step"] <= last]
        shown = [row for row in self._samples.rows if row["step"] > step]
        samples = [row for row in shown if not more or row["step"] <= last]
        planned = self._metadata.get("forecast")
        return {
            "finished": self._metadata.get("complete") is True,
            "step": max((row["step"] for row in self._metrics.rows), default=None),
            "planned_steps": planned.get("steps") if isinstance(planned, dict) else None,
            "weights_step": self.weights_step,
            "tokens_per_character": self._metadata.get("tokens_per_character"),
            "baselines": self._metadata.get("baselines"),
            "source_entropy": self._metadata.get("source_entropy"),
            "metrics": metrics,
            "samples": samples,
            "more": more,
        }


class Watcher:
    """Looks at runs once a second, in a thread of its own.

    newer: called with the name of a run whose model is new; it may raise SemigptError
    """

    def __init__(self, trainings: Mapping[str, Training], newer: Callable[[str], None]) -> None:
        self._trainings, self._newer = trainings, newer
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="semigpt-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def look(self) -> None:
        """Read what has changed, and serve weights that are new."""
        for name, training in self._trainings.items():
            training.read()
            if not training.has_new_weights:
                continue
            try:
                self._newer(name)
            except SemigptError as error:
                logger.warning(_("the new weights of %s are not served: %s"), name, error)
                continue
            training.served()

    def _run(self) -> None:
        while not self._ended.wait(SECONDS):
            try:
                self.look()
            except Exception:  # a fault of ours: what is served goes on, and the next look may do
                logger.exception("a look at the runs failed")
