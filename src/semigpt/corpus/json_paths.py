"""Places in a JSON value, named by keys with dots between: `data.paragraphs.context`.

A list stands for each of its items, and `*` for every key of an object.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from semigpt.corpus.reading import and_more
from semigpt.language import _

__all__ = ["paths_in_words", "values_at"]

PATHS_SHOWN = 6
PATH_DEPTH = 8
MANY_KEYS = 20  # of an object whose keys are numbers or names of its parts


def values_at(value: Any, keys: Sequence[str]) -> Iterator[Any]:
    """What is at a path; every item of a list on the way."""
    if isinstance(value, list):
        for item in value:
            yield from values_at(item, keys)
    elif not keys:
        yield value
    elif isinstance(value, dict) and keys[0] == "*":
        for item in value.values():
            yield from values_at(item, keys[1:])
    elif isinstance(value, dict) and keys[0] in value:
        yield from values_at(value[keys[0]], keys[1:])


def paths_in_words(value: Any) -> str:
    """At which paths there is text."""
    found: dict[str, None] = {}
    _collect(value, (), found)
    if not found:
        return _("there is no text in it")
    names = list(found)
    more = and_more(len(names) - PATHS_SHOWN)
    shown = ", ".join(f"#path={name}" for name in names[:PATHS_SHOWN])
    return _("there is text at {shown}{more}").format(shown=shown, more=more)


def _collect(value: Any, path: tuple[str, ...], found: dict[str, None]) -> None:
    """Add the paths of strings in `value`: of the first items of a list, to some depth."""
    if isinstance(value, str) and path:
        found[".".join(path)] = None
    elif isinstance(value, list) and len(path) < PATH_DEPTH:
        for item in value[:3]:
            _collect(item, path, found)
    elif isinstance(value, dict) and len(path) < PATH_DEPTH:
        if len(value) > MANY_KEYS and not any(isinstance(item, str) for item in value.values()):
            value = {"*": list(value.values())}
        for key, item in islice(value.items(), 100):
            if len(found) < 100:
                _collect(item, (*path, key), found)
