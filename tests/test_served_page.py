"""The page that `semigpt serve` answers `/` with, in a real browser: it asks the API alone.

Skipped where there is no Chromium or no playwright; what the answer is, is tested anyway.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="semigpt[serve] is not installed")
pytest.importorskip("uvicorn", reason="semigpt[serve] is not installed")
pytest.importorskip("prometheus_client", reason="semigpt[serve] is not installed")
pytest.importorskip("httpx", reason="semigpt[serve] is not installed")

import torch

from browser import Tab, compose
from semigpt.generation.engine import Engine
from semigpt.huggingface.folder import save_model
from semigpt.models import build_model, model_class
from semigpt.run_folder import RunFolder
from semigpt.serving import listen, server, watch
from semigpt.serving.candidates import candidates_after
from semigpt.serving.http import make_app
from semigpt.serving.loop import Loop
from semigpt.tokenizers import train_tokenizer
from serving_stand import KEY, Stand

PHONE = {"width": 390, "height": 844}

# What needs no browser


def test_the_page_is_one_small_answer_with_a_strict_policy(stand: Stand, locked: Stand) -> None:
    for stood in (stand, locked):  # with a key too: the page knows nothing
        answer = stood.ask("GET", "/")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/html")
        assert len(answer.content) <= 60_000
        (script,) = re.findall(r"<script>(.*?)</script>", answer.text, re.DOTALL)
        (style,) = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
        policy = answer.headers["content-security-policy"]
        rules = dict(part.strip().split(" ", 1) for part in policy.split(";"))
        assert rules["default-src"] == "'none'"
        assert rules["connect-src"] == "'self'"
        assert rules["frame-ancestors"] == "'none'"
        assert rules["require-trusted-types-for"] == "'script'"
        for rule, source in (("script-src", script), ("style-src", style)):
            digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
            assert rules[rule] == f"'sha256-{digest}'", "this one, and no other"
        assert "http" not in re.sub(r"http-equiv|http://www.w3.org/2000/svg", "", answer.text)
        assert not re.findall(r"\b(?:src|href)=\"(?!data:)", answer.text)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
    assert "data-key" in locked.ask("GET", "/").text
    assert KEY not in locked.ask("GET", "/").text
    for path in ("//", "/.", "/?/..", "/index.html", "/page.js", ""):
        status = asyncio.run(stand.call("GET", path))[0]["status"]
        assert status == (200 if path == "/?/.." else 404), path  # a query is no path
    assert stand.ask("GET", "/", headers={"host": "example.com"}).status_code == 421


@pytest.mark.parametrize("kind", ["char", "byte", "jamo"])
def test_candidates_are_whole_characters(kind: Any, korean_text: str) -> None:
    tokenizer = train_tokenizer(kind, [korean_text])
    torch.manual_seed(0)
    shape = {**model_class("gpt").small, "context_length": 24}
    model = build_model("gpt", tokenizer.vocab_size, shape)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(std=0.3)
    engine = Engine(model, tokenizer)
    assert tokenizer.end_of_text is not None
    before = [tokenizer.end_of_text, *tokenizer.encode("서울").tolist()]
    found = candidates_after(engine, before, 8)
    assert len(found) == 8
    assert all(
        one.text is None or (len(one.text) == 1 and "\ufffd" not in one.text) for one in found
    )
    assert all(0 < one.p <= 1 for one in found)
    assert kind == "char" or any(len(one.tokens) > 1 for one in found)
    for one in found:
        # The share of all its tokens; a syllable without a final has none behind it as well.
        p, ids = 1.0, list(before)
        for token in one.tokens:
            with torch.no_grad():
                logits = model.eval()(torch.tensor([ids[-24:]]))[0][0, -1]
            p *= float(logits.softmax(dim=-1)[token])
            ids.append(token)
        assert one.p <= p * 1.0001
        assert kind == "jamo" or one.p == pytest.approx(p, rel=1e-3)
    assert candidates_after(engine, [], 8) == []


# In a browser


@contextlib.contextmanager
def served(app: Any) -> Iterator[str]:
    """The address of a real server of this application."""
    running = server.make_server(app)
    with listen.listening("127.0.0.1", 0) as sockets:
        thread = threading.Thread(target=running.run, args=(sockets,))
        thread.start()
        try:
            yield listen.address("127.0.0.1", sockets[0].getsockname()[1]) + "/"
        finally:
            running.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def address(korean_text: str) -> Iterator[str]:
    """A server of `gpt`, `blocks` and `memory`."""
    stand = Stand(korean_text)
    stand.add("memory")
    with served(stand.app) as url:
        yield url
    stand.loop.stop()


Opened = Callable[..., Tab]


@pytest.fixture
def opened(chromium: Any, address: str) -> Iterator[Opened]:
    tabs: list[Tab] = []

    def open_page(model: str = "gpt", **settings: Any) -> Tab:
        tab = Tab(chromium, address, address, **settings)
        tabs.append(tab)
        tab.ready()
        tab.page.select_option("#model", label=model)
        tab.wait(f"semigpt.now.facts.name === '{model}'")
        return tab

    yield open_page
    for tab in tabs:
        tab.close()


def test_text_is_written_stopped_retried_and_undone(opened: Opened) -> None:
    tab = opened()
    page = tab.page
    page.fill("#text", "의사협회는")
    page.click("#go")
    first = tab.settled()
    assert first.startswith("의사협회는")
    assert len(first) > 20
    page.click("#retry")
    second = tab.settled()
    assert second != first
    assert page.inner_text("#branch") == "2 / 2"
    page.click("#before")
    assert tab.settled() == first
    page.click("#undo")
    assert tab.settled() == "의사협회는"
    page.fill("#seed", "1")
    page.click("#go")
    assert tab.settled() == first, "a seed gives the same text again"
    page.fill("#length", "2000")
    page.select_option("#model", label="blocks")
    tab.wait("semigpt.now.facts.name === 'blocks'")
    page.click("#go")
    tab.wait(f"semigpt.editor.text.length > {len(first) + 3}")
    page.focus("#text")
    page.keyboard.press("Escape")
    stopped = tab.settled()
    assert len(stopped) < len(first) + 2000


def test_a_letter_shows_its_candidates_and_takes_one(opened: Opened) -> None:
    tab = opened()
    page = tab.page
    page.fill("#text", "기상청은 24일")
    tab.settled()
    parts = tab.ask("semigpt.editor.parts")
    assert (
        "".join("기상청은 24일"[part["start"] : part["end"]] for part in parts) == "기상청은 24일"
    )
    assert "글자당" in page.inner_text("#status")
    page.focus("#text")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    tab.wait("document.getElementById('letter-title').textContent === '‘상’ 자리'")
    assert page.locator("#candidates li").count() == 8
    button = page.locator("#candidates button").nth(1)
    taken = button.locator(".letters").inner_text()
    page.uncheck("#then-go")
    button.click()
    assert tab.settled() == f"기{taken[0]}".replace("␣", " ").replace("↵", "\n")
    page.click("#undo")
    page.click("#undo")
    assert tab.settled() == "기상청은 24일"


def test_attention_lens_and_the_gate(opened: Opened) -> None:
    tab = opened()
    page = tab.page
    page.fill("#text", "기상청은 24일")
    for part in ("attention", "lens"):
        page.click(f"#{part} summary")
    tab.settled()
    tab.wait("document.querySelectorAll('#heads button').length === 2")
    tab.wait("document.querySelectorAll('#stages tr').length === 2")
    layers = tab.ask("semigpt.now.attention(semigpt.editor.text, semigpt.place)")
    assert all(0 < sum(part["weight"] for part in head) <= 1.00001 for head in layers[0])
    page.locator("#heads button").first.click()
    assert page.locator(".mirror i.looked").count() == 8
    assert not page.locator("#gate").is_visible()
    page.select_option("#model", label="memory")
    page.click("#gate summary")
    tab.wait("document.querySelectorAll('#experts tr').length > 3")
    shares = page.locator("#experts .share").all_inner_texts()
    total = sum(float(share.strip("<% ").replace(",", "")) for share in shares)
    assert 90 < total < 110
    assert page.locator("#experts th").first.inner_text() == "신경망"


def test_every_model_side_by_side_in_one_stream(opened: Opened) -> None:
    tab = opened()
    page = tab.page
    page.fill("#text", "기상청은")
    tab.settled()
    tab.asked.clear()
    page.fill("#length", "20")
    page.click("#compare")
    tab.wait("!document.getElementById('compare').disabled")
    written = page.locator("#rungs .written").all_inner_texts()
    assert len(written) == 3
    assert all(text.startswith("기상청은") for text in written)
    assert sum(url.endswith("/v1/compare") for url in tab.asked) == 1
    assert page.locator("#rungs .written i.heat").count() > 3


@pytest.mark.parametrize("order", ["key before commit", "commit before key"])
def test_a_composed_syllable_is_continued_once(order: str, opened: Opened) -> None:
    tab = opened()
    tab.page.fill("#text", "내일 날씨는 ")
    tab.page.focus("#text")
    cdp, press = compose(tab)
    if order == "key before commit":
        press()
        assert tab.ask("semigpt.runs") == 0, "nothing writes into the box while composing"
    cdp.send("Input.insertText", {"text": "전"})
    if order == "commit before key":
        press()
    text = tab.settled()
    assert tab.ask("semigpt.runs") == 1
    assert text.startswith("내일 날씨는 전")
    assert sum(url.endswith("/v1/completions") for url in tab.asked) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_and_a_screen_reader(scheme: str, opened: Opened) -> None:
    tab = opened("memory", viewport=PHONE, color_scheme=scheme, has_touch=True)
    page = tab.page
    page.fill("#text", "기상청은 24일")
    for part in ("attention", "lens", "gate"):
        page.click(f"#{part} summary")
    tab.wait("document.querySelectorAll('#experts tr').length")
    for language in ("ko", "en"):
        tab.ask("(language) => semigpt.speak(language)", language)
        assert tab.ask("document.documentElement.scrollWidth") <= PHONE["width"]
    colour = tab.ask("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", colour)[:3])) < 200) == (scheme == "dark")
    assert_accessible(tab)


def assert_accessible(tab: Tab) -> None:
    """Nothing serious to axe, where axe-playwright-python brought it; the roles in any case."""
    page = tab.page
    assert page.get_by_role("heading", level=1).count() == 1
    assert page.locator("[role=status]").count() >= 1
    unnamed = """[...document.querySelectorAll("button, select, input, textarea, summary")]
      .filter((one) => one.checkVisibility())
      .filter((one) => !(one.labels?.length || one.ariaLabel || one.textContent.trim()))
      .map((one) => one.outerHTML)"""
    assert tab.ask(unnamed) == []
    try:
        import axe_playwright_python
    except ImportError:
        return
    (file,) = Path(axe_playwright_python.__file__).parent.glob("axe.min.js")
    tab.ask(file.read_text(encoding="utf-8") + ";0")
    found = tab.ask("axe.run().then((all) => all.violations)")
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    assert [(one["id"], one["nodes"][0]["html"]) for one in serious] == []


def test_the_policy_lets_nothing_in(opened: Opened) -> None:
    tab = opened()
    refused = """async () => {
      const wrong = [];
      try { document.body.innerHTML = "<b>"; } catch (error) { wrong.push(error.name); }
      try { await fetch("http://127.0.0.1:9/"); } catch (error) { wrong.push(error.name); }
      return wrong;
    }"""
    assert tab.ask(refused) == ["TypeError", "TypeError"]
    assert all("Policy" in said or "blocked" in said for said in tab.wrong)
    tab.wrong.clear()


def test_the_key_is_asked_for_and_stays_in_memory(locked: Stand, chromium: Any) -> None:
    with served(locked.app) as url:
        tab = Tab(chromium, url, url)
        tab.wait("document.getElementById('key')?.open")
        assert tab.asked == [url], "nothing is asked without the key"
        tab.page.fill("#key input", "not the key, but as long")
        tab.page.press("#key input", "Enter")
        tab.wait("document.querySelector('#key [role=alert]').textContent.includes('맞지 않')")
        assert all("401" in said for said in tab.wrong)
        tab.wrong.clear()
        tab.page.fill("#key input", KEY)
        tab.page.press("#key input", "Enter")
        tab.ready()
        tab.page.fill("#text", "의사")
        tab.page.click("#go")
        assert len(tab.settled()) > 2
        kept = "[localStorage.length, sessionStorage.length, document.cookie, location.href]"
        assert tab.ask(kept) == [0, 0, "", url]
        assert not any(KEY in asked for asked in tab.asked)
        tab.close()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunFolder]:
    run = RunFolder.create(tmp_path / "운동", {"model": {"kind": "gpt"}})
    yield run
    run.unlock()


def test_the_training_tab_follows_a_run_that_grows(
    stand: Stand, run: RunFolder, chromium: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its curve, baselines and newest sample; and its weights as soon as there are any."""
    monkeypatch.setattr(watch, "SECONDS", 0.05)
    models = server.Models.find([run.path])
    loop = Loop(models.open())
    watcher = watch.Watcher(models.trainings, lambda name: loop.swap(models.load(name)))
    loop.start()
    watcher.start()

    def goes_on(step: int, bits: float) -> None:
        if step:
            run.append("metrics", {"step": step - 5, "loss": bits})
        run.append("metrics", {"step": step, "val_loss": bits, "bits_per_character": bits})
        run.append("samples", {"step": step, "prompt": "", "text": f"<b>글 {step}</b>"})

    run.write_metadata({"baselines": {"uniform": 6.5, "xz": None}, "tokens_per_character": 1.0})
    with served(make_app(loop, trainings=models.trainings)) as url:
        tab = Tab(chromium, url, url)
        page = tab.page
        tab.wait("document.getElementById('training')?.hidden === false")
        assert page.get_by_role("tab", selected=True).inner_text() == "학습"
        goes_on(0, 5.5)
        goes_on(10, 4.5)
        tab.wait("document.getElementById('sample').textContent === '<b>글 10</b>'")
        assert "10스텝" in page.inner_text("#run-state")
        assert "4.50비트" in page.locator("#curve").get_attribute("aria-label")
        names = page.locator("#curve text").all_text_contents()
        assert "균등 6.50" in names
        assert "처음 보는 글 4.50" in names
        assert page.locator("#curve polyline").count() == 2
        page.get_by_role("tab", name="글").click()
        assert "아직 저장된 가중치가 없습니다" in page.inner_text("#status")
        card = "| trained for | 10 steps, 9 tokens |\n"
        save_model(run.model_folder, stand.engine.model, stand.engine.tokenizer, card)
        tab.wait("semigpt.now && document.getElementById('about').textContent.includes('10스텝')")
        page.fill("#text", "의사")
        page.click("#go")
        assert len(tab.settled()) > 2
        page.get_by_role("tab", name="글").press("ArrowRight")
        assert page.get_by_role("tab", selected=True).inner_text() == "학습"
        goes_on(20, 3.5)
        run.write_metadata({"baselines": {"uniform": 6.5}, "complete": True})
        tab.wait("document.getElementById('run-state').textContent.includes('마침')")
        page.set_viewport_size(PHONE)
        assert tab.ask("document.documentElement.scrollWidth") <= PHONE["width"]
        assert_accessible(tab)
        tab.close()
    watcher.stop()
    loop.stop()
