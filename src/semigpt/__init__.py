"""semigpt: a language model of your own from Korean text, from one table to a GPT.

The names in `__all__` are the public ones; whatever else a module holds may change. Each is
imported when first asked for, so `import semigpt` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from semigpt import environment

__version__ = "0.1.0"

_HOMES = {
    "semigpt.config": ("Recipe",),
    "semigpt.corpus.corpus": ("Corpus",),
    "semigpt.corpus.staging": ("prepare_corpus",),
    "semigpt.dataset": ("Dataset", "prepare_dataset"),
    "semigpt.errors": ("SemigptError",),
    "semigpt.evaluation.evaluate": ("Evaluation", "estimate_loss", "evaluate"),
    "semigpt.generation.engine": ("Engine", "generate_text", "stream_text"),
    "semigpt.generation.sampling": ("SamplingSettings",),
    "semigpt.huggingface.folder": ("load_model", "save_model"),
    "semigpt.huggingface.open": ("open_run",),
    "semigpt.models": ("build_model",),
    "semigpt.models.bigram": ("BigramSettings", "SemiGPT"),
    "semigpt.models.gpt": ("GPT", "GPTSettings"),
    "semigpt.notebook": ("show_progress",),
    "semigpt.recipe": ("train",),
    "semigpt.tokenizers": (
        "BPETokenizer",
        "ByteTokenizer",
        "CharBPETokenizer",
        "CharTokenizer",
        "JamoTokenizer",
        "UnigramTokenizer",
        "load_tokenizer",
        "train_tokenizer",
    ),
    "semigpt.training.optimizer": ("Optimizer", "OptimizerSettings"),
    "semigpt.training.progress": ("Progress",),
    "semigpt.training.settings": ("TrainingSettings",),
    "semigpt.training.trainer": ("training_steps",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = ["__version__", *sorted(_HOME_OF)]

environment.prepare()

if TYPE_CHECKING:
    from semigpt.config import Recipe
    from semigpt.corpus.corpus import Corpus
    from semigpt.corpus.staging import prepare_corpus
    from semigpt.dataset import Dataset, prepare_dataset
    from semigpt.errors import SemigptError
    from semigpt.evaluation.evaluate import Evaluation, estimate_loss, evaluate
    from semigpt.generation.engine import Engine, generate_text, stream_text
    from semigpt.generation.sampling import SamplingSettings
    from semigpt.huggingface.folder import load_model, save_model
    from semigpt.huggingface.open import open_run
    from semigpt.models import build_model
    from semigpt.models.bigram import BigramSettings, SemiGPT
    from semigpt.models.gpt import GPT, GPTSettings
    from semigpt.notebook import show_progress
    from semigpt.recipe import train
    from semigpt.tokenizers import (
        BPETokenizer,
        ByteTokenizer,
        CharBPETokenizer,
        CharTokenizer,
        JamoTokenizer,
        UnigramTokenizer,
        load_tokenizer,
        train_tokenizer,
    )
    from semigpt.training.optimizer import Optimizer, OptimizerSettings
    from semigpt.training.progress import Progress
    from semigpt.training.settings import TrainingSettings
    from semigpt.training.trainer import training_steps


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'semigpt' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
