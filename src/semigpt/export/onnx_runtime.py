"""onnxruntime with an ONNX file, and the `tokenizers` library, as a `verify.Runtime`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from semigpt.errors import CheckpointError
from semigpt.language import _
from semigpt.models.base import LanguageModel
from semigpt.tokenizers.base import TOKENIZER_FILE, Tokenizer

__all__ = ["OnnxRuntime"]

PADDING = 3  # tokens before each row, beside a row that has none


class OnnxRuntime:
    """A context in which onnxruntime has loaded `path`, beside the tokenizer of `folder`.

    Raises CheckpointError where onnxruntime refuses the file.
    """

    def __init__(
        self, path: Path, folder: Path, model: LanguageModel, tokenizer: Tokenizer
    ) -> None:
        import onnxruntime
        import tokenizers

        self.name = f"onnxruntime {onnxruntime.__version__}"
        self.sum_rounding = 0.0
        file = folder / TOKENIZER_FILE
        self._tokenizer = tokenizers.Tokenizer.from_file(str(file))
        if not self._tokenizer.encode("").ids:
            raise CheckpointError(
                _(
                    "{file} is of an earlier semigpt and puts nothing before "
                    "a text: save the model "
                    "again with load_model, load_tokenizer and save_model"
                ).format(file=file)
            )
        self._end = tokenizer.special_tokens["<|endoftext|>"]
        self._vocab_size = model.settings.vocab_size
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own errors have no other base
            reason = " ".join(str(error).split())
            raise CheckpointError(
                _("onnxruntime does not load the file: {reason}").format(reason=reason)
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        del self._session

    def encode(self, text: str) -> list[int]:
        """See `Runtime.encode`."""
        return list(self._tokenizer.encode(text).ids)

    def decode(self, ids: list[int]) -> str:
        """See `Runtime.decode`."""
        return str(self._tokenizer.decode(ids))

    def continue_greedily(
        self, ids: list[int], count: int
    ) -> tuple[list[int], NDArray[np.float64]]:
        """See `Runtime.continue_greedily`. The row is padded, in a batch with one that is not."""
        end = self._end
        inputs = np.array([[end] * PADDING + ids, ids + [end] * PADDING])
        mask = np.ones_like(inputs)
        mask[0, :PADDING] = 0
        cache = {
            entry.name: np.zeros((2, entry.shape[1], 0, entry.shape[3]), np.float32)
            for entry in self._session.get_inputs()
            if entry.name.startswith("past")
        }
        written: list[int] = []
        rows: list[NDArray[np.float64]] = []
        while len(written) < count:
            logits, cache = self._run(inputs, mask, cache)
            rows.append(_log_softmax(logits[0, -1].astype(np.float64)))
            written.append(int(rows[-1].argmax()))
            if written[-1] == end:
                break
            inputs = np.full((2, 1), written[-1])
            mask = np.concatenate((mask, np.ones((2, 1), np.int64)), 1)
        return written, np.stack(rows)

    def _run(
        self, inputs: NDArray[Any], mask: NDArray[Any], cache: dict[str, NDArray[Any]]
    ) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        positions = np.maximum(mask.cumsum(1) - 1, 0)[:, -inputs.shape[1] :]
        feeds = {"input_ids": inputs, "attention_mask": mask, "position_ids": positions}
        logits, *present = self._session.run(None, feeds | cache)
        return logits, dict(zip(cache, present, strict=True))


def _log_softmax(row: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = row - row.max()
    found: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum())
    return found
