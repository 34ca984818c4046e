"""Chromium for the tests of pages: one browser, and tabs in which nothing may go wrong."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

__all__ = ["Tab", "compose", "launched"]


@contextlib.contextmanager
def launched() -> Iterator[Any]:
    """A browser. Skips the test where there is no Chromium or no playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("there is no Chromium; on Debian: apt install chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


class Tab:
    """A page in the browser; nothing may go wrong in it, and nothing may be asked of others.

    own: what the addresses begin with that it may ask
    """

    def __init__(self, chromium: Any, url: str, own: str = "file:", **settings: Any) -> None:
        self.context = chromium.new_context(**{"locale": "ko-KR", **settings})
        self.page = self.context.new_page()
        self.own = own
        self.wrong: list[str] = []
        self.asked: list[str] = []
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", lambda said: self.wrong.append(said.text))
        self.page.on("request", self._asked)
        self.page.goto(url)

    def _asked(self, request: Any) -> None:
        self.asked.append(request.url)
        if not request.url.startswith((self.own, "data:")):
            self.wrong.append(request.url)

    def ask(self, script: str, argument: Any = None) -> Any:
        return self.page.evaluate(script, argument)

    def wait(self, condition: str, seconds: float = 20.0) -> None:
        """Until a condition holds. `wait_for_function` evaluates in the page, which its policy
        refuses.
        """
        end = time.monotonic() + seconds
        while not self.ask(condition):
            assert time.monotonic() < end, condition
            time.sleep(0.01)

    def ready(self) -> None:
        """Once a model is there and the text is scored."""
        self.wait("window.semigpt?.now && semigpt.editor.paintedText === semigpt.editor.text")

    def settled(self) -> str:
        """The text, once nothing is being written and all of it is scored."""
        self.wait("!semigpt.writing && semigpt.editor.paintedText === semigpt.editor.text")
        return str(self.ask("semigpt.editor.text"))

    def close(self) -> None:
        assert not self.wrong
        self.context.close()


def compose(tab: Tab) -> tuple[Any, Callable[[], None]]:
    """Compose 전 without committing it; the protocol's session, and Ctrl+Enter as a key that the
    input method sees first. `semigpt.runs` counts the texts that are begun.
    """
    cdp = tab.context.new_cdp_session(tab.page)
    tab.ask(
        "() => { semigpt.runs = 0; const write = semigpt.write.bind(semigpt);"
        " semigpt.write = (...all) => { semigpt.runs++; return write(...all); }; }"
    )
    for text in ("ㅈ", "저", "전"):
        end = {"selectionStart": len(text), "selectionEnd": len(text)}
        cdp.send("Input.imeSetComposition", {"text": text, **end})

    def press() -> None:
        key = {"key": "Process", "code": "Enter", "windowsVirtualKeyCode": 229, "modifiers": 2}
        cdp.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", **key})
        cdp.send("Input.dispatchKeyEvent", {"type": "keyUp", **key})

    return cdp, press
