"""The language of what people read: English as it stands in the code, or Korean by the catalog.

    from semigpt.language import _

    raise SettingsError(_("{path} is no file: check its name").format(path=path))

The language is that of `LANGUAGE`, `LC_ALL`, `LC_MESSAGES` or `LANG`, in gettext's order, or what
`--lang` says. Messages are looked up where they are shown, so none is translated at import: a
message outside a function is marked with `N_` and translated with `_` where it is used.

The catalog is `locale/ko/LC_MESSAGES/semigpt.po`; docs/translating.md says how it is kept.
"""

from __future__ import annotations

import contextlib
import gettext
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

__all__ = ["LANGUAGES", "N_", "_", "language", "ngettext", "speaking"]

LANGUAGES = ("en", "ko")
DOMAIN = "semigpt"
CATALOGS = Path(__file__).parent / "locale"
VARIABLES = ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")


def language() -> str:
    """`en` or `ko`: the first of the languages asked for that is one of them, else `en`."""
    asked = next((os.environ[name] for name in VARIABLES if os.environ.get(name)), "")
    names = (name.partition("_")[0].partition(".")[0].lower() for name in asked.split(":"))
    return next((name for name in names if name in LANGUAGES), "en")


@contextlib.contextmanager
def speaking(name: str | None) -> Iterator[None]:
    """Inside, this process, those it starts, and argparse speak `name`, or else the language of
    the environment.
    """
    before, domain = os.environ.get("LANGUAGE"), gettext.textdomain()
    os.environ["LANGUAGE"] = name or language()
    gettext.bindtextdomain(DOMAIN, str(CATALOGS))
    gettext.textdomain(DOMAIN)
    try:
        yield
    finally:
        gettext.textdomain(domain)
        if before is None:
            del os.environ["LANGUAGE"]
        else:
            os.environ["LANGUAGE"] = before


def _(message: str) -> str:
    """A message in the language of the reader."""
    return _catalog(language()).gettext(message)


def ngettext(one: str, many: str, number: int) -> str:
    """`one` or `many`, as `number` asks, in the language of the reader."""
    return _catalog(language()).ngettext(one, many, number)


def N_(message: str) -> str:  # noqa: N802 - the name that gettext's tools look for
    """Mark a message for the catalog; `_` translates it where it is used."""
    return message


@cache
def _catalog(name: str) -> gettext.NullTranslations:
    return gettext.translation(DOMAIN, CATALOGS, [name], fallback=True)
