"""Every error semigpt raises for a reason a user can act on.

    SemigptError
    ├── SettingsError     a flag, a config key or a value that cannot work
    ├── CorpusError       text that cannot be found, read or used
    ├── TokenizerError    a tokenizer that cannot be trained, saved or loaded
    ├── CheckpointError   a run folder, a checkpoint or a model folder that cannot be written or trusted
    └── TrainingError     training that had to stop: a loss that is not finite, a device that is not there

A message says what is wrong, where, and what to do next, in one line. The command line catches the base class
once, prints that line to standard error and leaves with exit code 2; nobody meets a traceback for their own typo.
"""

__all__ = [
    "CheckpointError",
    "CorpusError",
    "SemigptError",
    "SettingsError",
    "TokenizerError",
    "TrainingError",
]


class SemigptError(Exception):
    """The base of them all."""


class SettingsError(SemigptError):
    """A flag, a config key or a value that cannot work."""


class CorpusError(SemigptError):
    """Text that cannot be found, read or used."""


class TokenizerError(SemigptError):
    """A tokenizer that cannot be trained, saved or loaded."""


class CheckpointError(SemigptError):
    """A run folder, a checkpoint or a model folder that cannot be written or trusted."""


class TrainingError(SemigptError):
    """Training that had to stop."""
