"""Libraries that only some kinds of files need."""

import contextlib
from collections.abc import Iterator

from semigpt.errors import CorpusError
from semigpt.language import _

__all__ = ["missing_extra", "needs_extra"]


def missing_extra(kind: str, library: str) -> CorpusError:
    """The error where a library of the extra `text` is not installed: how to get it."""
    return CorpusError(
        _(
            "{kind} is read by {library}, which is not installed: "
            "python -m pip install 'semigpt[text]'"
        ).format(kind=kind, library=library)
    )


@contextlib.contextmanager
def needs_extra(kind: str) -> Iterator[None]:
    """Around the import of a library of the extra `text`."""
    try:
        yield
    except ImportError as error:
        raise missing_extra(kind, (error.name or "a library").partition(".")[0]) from None
