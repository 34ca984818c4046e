"""A model at one moment of its training, kept in memory until it is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from semigpt.huggingface.adapter import adapter_state, save_adapter
from semigpt.huggingface.folder import save_model
from semigpt.models.base import LanguageModel

if TYPE_CHECKING:
    from torch import Tensor

    from semigpt.run_folder import RunFolder
    from semigpt.tokenizers.base import Tokenizer

__all__ = ["Snapshot"]


@dataclass(frozen=True)
class Snapshot:
    """Weights, the adapters that are merged into them, where there are any, and their card."""

    model: LanguageModel
    weights: dict[str, Tensor]
    adapter: dict[str, Tensor]
    card: str

    @classmethod
    def of(cls, model: LanguageModel, card: str, whole: LanguageModel | None = None) -> Snapshot:
        """The model as it is now; of one in parts a whole copy, which is used up."""
        if whole is not None:  # a GPU that holds a part may not hold two copies
            weights = {name: tensor.cpu() for name, tensor in whole.huggingface_state().items()}
        else:
            weights = {name: tensor.clone() for name, tensor in model.huggingface_state().items()}
        return cls(model, weights, adapter_state(model), card)

    def save(self, run: RunFolder, tokenizer: Tokenizer, base: str | None) -> None:
        """Write the model folder of a run, and that of the adapter of a model called `base`.

        Raises CheckpointError where a file cannot be written.
        """
        save_model(run.model_folder, self.model, tokenizer, self.card, state=self.weights)
        if self.adapter:
            save_adapter(run.adapter_folder, self.model, self.adapter, base)
