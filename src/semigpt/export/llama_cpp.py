"""llama.cpp with a GGUF file, as a `verify.Runtime`: its server in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from semigpt.errors import CheckpointError
from semigpt.language import _
from semigpt.models.base import LanguageModel
from semigpt.tokenizers.base import Tokenizer

__all__ = ["LlamaCpp"]

SECONDS = 120  # for an answer; a base model takes one
LIKELIEST = 500  # tokens told of each step; each is a table in JSON


class LlamaCpp:
    """A context in which llama.cpp has loaded `path`.

    Raises CheckpointError, with its last words, where llama.cpp refuses the file or stops.
    """

    name = "llama.cpp"

    def __init__(self, path: Path, model: LanguageModel, tokenizer: Tokenizer) -> None:
        self._path, self._settings, self._tokenizer = path, model.settings, tokenizer
        # Its server adds them in float32, the largest first: the smallest of 8,000 are lost.
        self.sum_rounding = model.settings.vocab_size * 2.0**-24
        # On loopback no proxy is asked.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def __enter__(self) -> Self:
        self._log = tempfile.TemporaryFile()
        context = str(self._settings.context_length)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "semigpt.export.llama_server", str(self._path), context],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        assert self._process.stdout is not None
        self._address = self._process.stdout.readline().strip()
        if not self._address:
            self.__exit__()
            raise CheckpointError(
                _("llama.cpp does not load the file: {last_words}").format(
                    last_words=self._last_words
                )
            )
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.communicate()
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").split("\n")
        self._last_words = next((line for line in reversed(lines) if line.strip()), _("no reason"))
        self._log.close()

    def encode(self, text: str) -> list[int]:
        """See `Runtime.encode`."""
        ids: list[int] = self._ask("tokenize", content=text, add_special=True)["tokens"]
        return ids

    def decode(self, ids: list[int]) -> str:
        """See `Runtime.decode`."""
        special = self._tokenizer.special_tokens.values()
        plain = [i for i in ids if i not in special]
        text: str = self._ask("detokenize", tokens=plain)["content"]
        return text

    def continue_greedily(
        self, ids: list[int], count: int
    ) -> tuple[list[int], NDArray[np.float64]]:
        """See `Runtime.continue_greedily`.

        The server tells the likeliest tokens alone, and nothing of a token whose bytes end inside
        a character.
        """
        vocab_size = self._settings.vocab_size
        answer = self._ask(
            "completion",
            prompt=ids,
            n_predict=count,
            samplers=["temperature"],
            temperature=0,
            n_probs=min(vocab_size, LIKELIEST),
            return_tokens=True,
            cache_prompt=False,
        )
        written: list[int] = answer["tokens"]
        steps, text = iter(answer["completion_probabilities"]), b""
        rows = np.full((len(written), vocab_size), np.nan)
        for row, token in zip(rows, written, strict=True):
            text += self._tokenizer.token_bytes(token)
            if not _ends_inside(text):
                for entry in next(steps)["top_logprobs"]:
                    row[entry["id"]] = entry["logprob"]
        return written, rows

    def _ask(self, path: str, **body: Any) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self._address}/{path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with self._opener.open(request, timeout=SECONDS) as answer:
                found: dict[str, Any] = json.load(answer)
        except (OSError, ValueError) as error:
            raise CheckpointError(
                _("llama.cpp gives no answer with this file: {error}").format(error=error)
            ) from None
        return found


def _ends_inside(text: bytes) -> bool:
    """Whether the last bytes begin a character of more, as llama.cpp's server finds it."""
    leads = zip(reversed(text[-3:]), (0xC0, 0xE0, 0xF0), strict=False)
    return any(lead <= byte < 0xF8 for byte, lead in leads)
