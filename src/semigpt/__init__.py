"""semigpt: a language model of your own from Korean text, from one table to a GPT.

The names below are the public ones. Each is imported when first asked for, so `import semigpt`
costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "CharTokenizer": "semigpt.tokenizers",
    "GPT": "semigpt.models.gpt",
    "GPTSettings": "semigpt.models.gpt",
    "ModelSettings": "semigpt.models.base",
    "Optimizer": "semigpt.training.optimizer",
    "OptimizerSettings": "semigpt.training.optimizer",
    "Progress": "semigpt.training.progress",
    "Recipe": "semigpt.recipe",
    "SamplingSettings": "semigpt.generation.sampling",
    "SemiGPT": "semigpt.models.bigram",
    "SemigptError": "semigpt.errors",
    "TrainingSettings": "semigpt.training.settings",
    "estimate_loss": "semigpt.evaluation.evaluate",
    "evaluate": "semigpt.evaluation.evaluate",
    "generate_text": "semigpt.generation.engine",
    "load_model": "semigpt.huggingface.folder",
    "load_tokenizer": "semigpt.tokenizers",
    "open_run": "semigpt.recipe",
    "prepare_corpus": "semigpt.corpus.staging",
    "prepare_dataset": "semigpt.dataset",
    "save_model": "semigpt.huggingface.folder",
    "stream_text": "semigpt.generation.engine",
    "train": "semigpt.recipe",
    "training_steps": "semigpt.training.trainer",
}
__all__ = ["__version__", *_HOMES]

if TYPE_CHECKING:
    from semigpt.corpus.staging import prepare_corpus
    from semigpt.dataset import prepare_dataset
    from semigpt.errors import SemigptError
    from semigpt.evaluation.evaluate import estimate_loss, evaluate
    from semigpt.generation.engine import generate_text, stream_text
    from semigpt.generation.sampling import SamplingSettings
    from semigpt.huggingface.folder import load_model, save_model
    from semigpt.models.base import ModelSettings
    from semigpt.models.bigram import SemiGPT
    from semigpt.models.gpt import GPT, GPTSettings
    from semigpt.recipe import Recipe, open_run, train
    from semigpt.tokenizers import CharTokenizer, load_tokenizer
    from semigpt.training.optimizer import Optimizer, OptimizerSettings
    from semigpt.training.progress import Progress
    from semigpt.training.settings import TrainingSettings
    from semigpt.training.trainer import training_steps


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'semigpt' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
