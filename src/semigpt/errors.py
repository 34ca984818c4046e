"""Every error that semigpt raises for a reason a user can act on.

    SemigptError
    ├── SettingsError     a flag, a config key or a value that cannot work
    ├── CorpusError       text that cannot be found, read or used
    ├── TokenizerError    a tokenizer that cannot be trained, saved or loaded
    ├── CheckpointError   a run, checkpoint or model folder that cannot be written or trusted
    └── TrainingError     training that had to stop: a loss that is not finite
        └── LostProcessError  another process of a training by several is gone

A message says in one line what is wrong, where, and what to do next. The command line catches the
base class once, prints that line to standard error and exits with code 2: a user's mistake shows no
traceback.
"""

__all__ = [
    "CheckpointError",
    "CorpusError",
    "LostProcessError",
    "SemigptError",
    "SettingsError",
    "TokenizerError",
    "TrainingError",
]


class SemigptError(Exception):
    """The base class of all errors that a user can act on. Line ends in its message, which names
    of files and columns may hold, become spaces.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))


class SettingsError(SemigptError):
    """A flag, a config key or a value that cannot work."""


class CorpusError(SemigptError):
    """Text that cannot be found, read or used."""


class TokenizerError(SemigptError):
    """A tokenizer that cannot be trained, saved or loaded."""


class CheckpointError(SemigptError):
    """A run, checkpoint or model folder that cannot be written or trusted."""


class TrainingError(SemigptError):
    """Training that had to stop."""


class LostProcessError(TrainingError):
    """Another process of a training by several is gone."""
