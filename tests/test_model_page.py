"""`model.html` in a real browser: semigpt's own ids, logits and text, and a page that can be used.

Skipped where there is no Chromium or no playwright; what the page says of itself is tested anyway.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from browser import Tab, compose
from semigpt.cli import main
from semigpt.errors import SettingsError
from semigpt.export import page_file
from semigpt.export.page_file import Exhibit, page_html, write_page
from semigpt.export.verify import trial_texts
from semigpt.generation.engine import generate_text
from semigpt.generation.quantize import rounded
from semigpt.generation.sampling import SamplingSettings
from semigpt.models import LADDER, build_model, model_class
from semigpt.models.base import LanguageModel
from semigpt.models.bigram import BigramSettings, SemiGPT
from semigpt.tokenizers import Tokenizer, train_tokenizer
from semigpt.tokenizers.char import CharTokenizer

CONTEXT = 48
TEXTS = [trial_texts()[0][:60], trial_texts()[3][:24]]
PROMPT = "서울시는 12일 한"
SAMPLES = [
    {"step": 0, "prompt": "", "text": "뷁의 꿹", "bits_per_character": 9.5},
    {"step": 100, "prompt": "", "text": "서울시는 오늘 </script><!--", "bits_per_character": 3.25},
]
KINDS = ("char", "byte", "jamo", "bpe", "char_bpe", "unigram")
CASES = [
    *((rung, "char") for rung in LADDER if rung not in ("gpt", "memory")),
    *(("gpt", kind) for kind in KINDS),
    ("bigram", "unigram"),
]


@cache
def tokenizer_of(kind: Any) -> Tokenizer:
    size = None if kind in ("char", "byte", "jamo") else 400
    return train_tokenizer(kind, trial_texts() * 3, vocab_size=size)


def model_of(rung: str, tokenizer: Tokenizer, **changes: object) -> LanguageModel:
    torch.manual_seed(0)
    shape = {**model_class(rung).small, "context_length": CONTEXT, **changes}
    model = build_model(rung, tokenizer.vocab_size, shape).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2 or not parameter.any():
                parameter.normal_(std=0.3)
    return model


# What needs no browser


def test_a_page_says_why_it_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tokenizer_of("char")
    memory = Exhibit(name="run", model=small_memory(tokenizer), tokenizer=tokenizer)
    with pytest.raises(SettingsError, match=r"beside the net it needs the [\d,]+ n-grams"):
        page_html("run", [memory])

    class Other(SemiGPT):
        kind = "other"

    made_up = Other(BigramSettings(vocab_size=tokenizer.vocab_size, context_length=8))
    with pytest.raises(SettingsError, match="no forward pass for this other"):
        page_html("run", [Exhibit(name="run", model=made_up, tokenizer=tokenizer)])
    monkeypatch.setattr(page_file, "LARGEST", 1000)
    large = Exhibit(name="run", model=model_of("gpt", tokenizer), tokenizer=tokenizer)
    with pytest.raises(SettingsError, match=r"at most 0 million parameters, and these are 0\.\d"):
        page_html("run", [large])


def small_memory(tokenizer: Tokenizer) -> LanguageModel:
    from semigpt.models.memory import MemoryGPT
    from semigpt.ngrams.counts import Counts

    model = model_of("memory", tokenizer)
    assert isinstance(model, MemoryGPT)
    ids = tokenizer.encode("".join(trial_texts()))
    model.set_counts(Counts.fit(ids, tokenizer.vocab_size, order=3))
    return model


def test_its_bytes_are_the_same_each_time_and_few(tmp_path: Path) -> None:
    tokenizer = tokenizer_of("char")
    shown = Exhibit(
        name="</script>", model=model_of("gpt", tokenizer), tokenizer=tokenizer, samples=SAMPLES
    )
    page = page_html("</script>", [shown])
    assert page == page_html("</script>", [shown])
    assert page.count("</script>") == 3, "the script, and two blocks of data"
    data = re.findall(r'<script type="[^"]*" id="[^"]*">.*?</script>', page, re.DOTALL)
    assert len(page.encode()) - sum(len(block.encode()) for block in data) <= 60 << 10
    with pytest.raises(page_file.SemigptError, match="cannot write"):
        write_page(tmp_path / "no" / "model.html", "run", [shown])


def test_both_languages_have_every_text() -> None:
    known: dict[str, set[str]] = {}
    for name, middle in (("strings", "  en: {"), ("served_strings", "STRINGS.en, {")):
        korean, english = page_file._source(f"{name}.js").split(middle)
        names = [re.findall(r"^ +(\w+): [\"`]", part, re.MULTILINE) for part in (korean, english)]
        assert names[0] == names[1]
        known[name] = set(names[0])
    both = known["strings"] | known["served_strings"]
    for scripts, words in (
        (page_file.SCRIPTS, known["strings"]),
        (page_file.SERVED_SCRIPTS, both),
    ):
        sources = "".join(page_file._source(f"{name}.js") for name in scripts)
        sources += page_file._source("page.html")
        asked = re.findall(r'(?:say\(|data-(?:say|label)"?[=:] ?)"(\w+)"', sources)
        assert set(asked) <= words


# In a browser


Opened = Callable[..., Tab]


@pytest.fixture
def opened(chromium: Any, tmp_path: Path) -> Iterator[Opened]:
    tabs: list[Tab] = []

    def open_page(*exhibits: Exhibit, **settings: Any) -> Tab:
        file = tmp_path / f"{len(tabs)}.html"
        write_page(file, "나의 모델", exhibits)
        tabs.append(Tab(chromium, file.as_uri(), **settings))
        tabs[-1].ready()
        return tabs[-1]

    yield open_page
    for tab in tabs:
        tab.close()


@pytest.fixture(scope="module")
def exhibit() -> Exhibit:
    tokenizer = tokenizer_of("char")
    model = model_of("gpt", tokenizer)
    facts = {"bits_per_character": 3.25, "steps": 100}
    return Exhibit(name="run", model=model, tokenizer=tokenizer, facts=facts, samples=SAMPLES)


READ = """async (text) => {
  const engine = semigpt.now, ids = engine.ids(text), rows = [];
  const session = new engine.reader.constructor(engine.model);
  for (const id of ids) rows.push([...engine.model.logits(await session.read(id))]);
  const { parts } = await engine.score(text);
  return { ids, rows, parts, decoded: engine.tokenizer.decode(ids) };
}"""
WRITE = """async (text) => {
  let written = "";
  for await (const chunk of semigpt.now.write({ text, count: 24, temperature: 0, seed: 1 })) {
    written += chunk.text;
  }
  return written;
}"""


def window_begin(place: int) -> int:
    """Where the window begins in which the page reads a token."""
    half = CONTEXT // 2
    return 0 if place < CONTEXT else half * ((place - CONTEXT) // half + 1)


@pytest.mark.parametrize(("rung", "kind"), CASES)
def test_ids_logits_and_greedy_text_are_semigpts(rung: str, kind: str, opened: Opened) -> None:
    tokenizer = tokenizer_of(kind)
    model = model_of(rung, tokenizer)
    tab = opened(Exhibit(name=rung, model=model, tokenizer=tokenizer))
    exact = rounded(model, "int8")
    for text in TEXTS:
        found = tab.ask(READ, text)
        ids = [tokenizer.end_of_text, *tokenizer.encode(text).tolist()]
        assert found["ids"] == ids
        assert found["decoded"] == text
        logits = torch.tensor(found["rows"]).double()
        log_p = logits.log_softmax(dim=-1)
        expected = torch.empty_like(log_p)
        for begin in sorted({window_begin(place) for place in range(len(ids))}):
            window = torch.tensor([ids[begin : begin + CONTEXT]])
            with torch.no_grad():
                found_in_window = exact(window)[0][0].double().log_softmax(dim=-1)
            for place in range(begin, min(begin + CONTEXT, len(ids))):
                if window_begin(place) == begin:
                    expected[place] = found_in_window[place - begin]
        divergence = (expected.exp() * (expected - log_p)).sum(dim=-1) / np.log(2)
        assert float(divergence.max()) <= 1e-9  # bits
        assert torch.equal(log_p.argmax(dim=-1), expected.argmax(dim=-1))
        # The parts are the whole text, each with the bits of its tokens.
        assert [part["start"] for part in found["parts"]] == [
            0,
            *(part["end"] for part in found["parts"][:-1]),
        ]
        assert found["parts"][-1]["end"] == len(text)
        bits = -expected[torch.arange(len(ids) - 1), torch.tensor(ids[1:])] / np.log(2)
        assert sum(part["bits"] for part in found["parts"]) == pytest.approx(float(bits.sum()))
    greedy = SamplingSettings(temperature=0)
    settings: dict[str, Any] = {"precision": "int8", "native": False, "sampling": greedy}
    ours = generate_text(model, tokenizer, PROMPT, max_new_tokens=24, **settings)[0]
    assert tab.ask(WRITE, PROMPT) == ours


def test_a_plain_vocabulary_names_what_it_does_not_know(opened: Opened) -> None:
    tokenizer = CharTokenizer.plain("가나다 ")
    tab = opened(Exhibit(name="book", model=model_of("bigram", tokenizer), tokenizer=tokenizer))
    tab.page.fill("#text", "가나")
    tab.wait("semigpt.editor.parts.length === 2")
    assert "첫 토큰" not in tab.page.inner_text("#letter-bits")
    tab.page.fill("#text", "가뷁")
    tab.wait("document.getElementById('status').textContent.includes('뷁')")
    tab.page.fill("#text", "가나")
    tab.page.click("#go")
    assert tab.settled().startswith("가나")


def test_text_is_written_stopped_retried_and_undone(opened: Opened, exhibit: Exhibit) -> None:
    tab = opened(exhibit)
    page = tab.page
    assert tab.settled().startswith("서울시는 오늘"), "the page begins with what the run wrote"
    page.fill("#text", "서울시는")
    page.click("#go")
    first = tab.settled()
    assert first.startswith("서울시는")
    assert len(first) > 20
    page.click("#retry")
    second = tab.settled()
    assert second != first
    assert page.input_value("#seed") == "2"
    assert page.inner_text("#branch") == "2 / 2"
    page.click("#before")
    assert tab.settled() == first
    page.keyboard.press("Tab")
    page.focus("#text")
    page.keyboard.press("Alt+ArrowDown")
    assert tab.settled() == second
    page.click("#undo")
    assert tab.settled() == "서울시는"
    page.fill("#seed", "1")
    page.click("#go")
    assert tab.settled() == first, "a seed gives the same text again"
    page.fill("#length", "2000")
    page.click("#go")
    tab.wait(f"semigpt.editor.text.length > {len(first) + 5}")
    page.focus("#text")
    page.keyboard.press("Escape")
    stopped = tab.settled()
    time.sleep(0.1)
    assert tab.settled() == stopped, "what was written stays, and nothing more comes"
    assert len(stopped) < len(first) + 2000


def test_a_letter_shows_its_candidates_and_takes_one(opened: Opened, exhibit: Exhibit) -> None:
    tab = opened(exhibit)
    page = tab.page
    page.fill("#text", "서울시는 오늘")
    tab.settled()
    assert page.inner_text("#letter-title") == "다음에 올 글자"
    letter = page.locator(".mirror i").nth(2)
    box = letter.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.wait("document.getElementById('letter-title').textContent === '‘시’ 자리'")
    assert "비트" in page.inner_text("#letter-bits")
    assert "chosen" in letter.get_attribute("class")
    page.keyboard.press("Home")
    tab.wait("document.getElementById('letter-title').textContent === '‘서’ 자리'")
    page.keyboard.press("ArrowRight")
    tab.wait("document.getElementById('letter-title').textContent === '‘울’ 자리'")
    assert page.locator("#candidates li").count() == 8
    candidate = page.locator("#candidates button").nth(1)
    taken = candidate.locator(".letters").inner_text()
    page.uncheck("#then-go")
    candidate.click()
    assert tab.settled() == f"서{taken}".replace("␣", " ")
    page.click("#undo")
    assert tab.settled() == "서", "the text that was cut"
    page.click("#undo")
    assert tab.settled() == "서울시는 오늘"


@pytest.mark.parametrize("kind", ["byte", "jamo"])
def test_candidates_are_whole_characters(kind: str, opened: Opened) -> None:
    tokenizer = tokenizer_of(kind)
    tab = opened(Exhibit(name="run", model=model_of("gpt", tokenizer), tokenizer=tokenizer))
    tab.page.fill("#text", "서울")
    tab.settled()
    found = tab.ask("semigpt.now.candidates(semigpt.editor.parts[1].place)")
    texts = [one["text"] for one in found if one["text"] is not None]
    assert texts
    assert all(len(text) == 1 and text != "\ufffd" for text in texts)
    assert any(len(one["tokens"]) > 1 for one in found)


def test_attention_and_lens_of_a_letter(opened: Opened, exhibit: Exhibit) -> None:
    tab = opened(exhibit)
    page = tab.page
    page.fill("#text", "서울시는 오늘")
    page.click("#attention summary")
    page.click("#lens summary")
    tab.settled()
    tab.wait("document.querySelectorAll('#heads button').length === 8")
    layers = tab.ask("semigpt.now.attention(semigpt.editor.text, semigpt.place)")
    assert [len(heads) for heads in layers] == [4, 4]
    sums = [sum(part["weight"] for part in head) for heads in layers for head in heads]
    assert all(0 < total <= 1 + 1e-5 for total in sums)
    page.locator("#heads button").first.click()
    assert page.locator(".mirror i.looked").count() == 7
    assert "1층 헤드 1" in page.inner_text("#looked")
    page.locator("#heads button").first.click()
    assert page.locator(".mirror i.looked").count() == 0
    rows = page.locator("#stages tr").all_inner_texts()
    assert [row.split()[0] for row in rows] == ["임베딩", "1층", "2층"]
    stages = tab.ask("semigpt.now.lens(semigpt.editor.text, semigpt.place, null, 8)")
    candidates = tab.ask("semigpt.now.candidates(semigpt.place)")
    p_of = {one["text"]: one["p"] for one in stages[-1]}
    whole = [one for one in candidates if len(one["tokens"]) == 1 and one["text"] in p_of]
    assert whole, "others are a byte and its likeliest rest"
    assert all(p_of[one["text"]] == pytest.approx(one["p"]) for one in whole)


def test_samples_map_and_languages(opened: Opened, exhibit: Exhibit) -> None:
    tab = opened(exhibit)
    page = tab.page
    page.locator("#sample-step").press("Home")
    assert page.inner_text("#sample") == "뷁의 꿹"
    assert page.inner_text("#sample-at") == "0스텝 · 9.50비트"
    page.click("#map summary")
    tab.wait("semigpt.map.points")
    page.fill("#find", "한")
    assert page.inner_text("#near").startswith("‘한’와 가까운 토큰:")
    page.click("#language")
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.inner_text("#go") == "Continue"
    assert page.inner_text("#sample-at") == "step 0 · 9.50 bits"
    page.click("#language")
    assert page.get_by_role("button", name="이어 쓰기", exact=True).count() == 1
    assert page.get_by_role("textbox", name="글", exact=True).count() == 1


def test_every_rung_side_by_side(opened: Opened, exhibit: Exhibit) -> None:
    tokenizer = exhibit.tokenizer
    table = Exhibit(name="bigram", model=model_of("bigram", tokenizer), tokenizer=tokenizer)
    tab = opened(table, exhibit)
    page = tab.page
    page.fill("#text", "서울시는")
    tab.settled()
    page.click("#compare")
    tab.wait("!document.getElementById('compare').disabled")
    written = page.locator("#rungs .written").all_inner_texts()
    assert len(written) == 2
    assert all(text.startswith("서울시는") and len(text) > 10 for text in written)
    page.locator("#rungs button").first.click()
    tab.settled()
    assert page.input_value("#model") == "0"
    assert "bigram" in page.locator("#model option:checked").inner_text()
    page.click("#attention summary")
    tab.wait("document.getElementById('attention-hint').textContent.includes('표 하나')")


# Hangul. A syllable is composed, and Ctrl+Enter comes before or after it is committed.


@pytest.mark.parametrize("order", ["key before commit", "commit before key"])
def test_a_composed_syllable_is_continued_once(
    order: str, opened: Opened, exhibit: Exhibit
) -> None:
    tab = opened(exhibit)
    tab.page.fill("#text", "내일 날씨는 ")
    tab.page.focus("#text")
    cdp, press = compose(tab)
    if order == "key before commit":
        press()
        assert tab.ask("semigpt.runs") == 0, "nothing writes into the box while composing"
        assert tab.ask("semigpt.editor.text") == "내일 날씨는 전"
    cdp.send("Input.insertText", {"text": "전"})
    if order == "commit before key":
        press()
    text = tab.settled()
    assert tab.ask("semigpt.runs") == 1
    assert text.startswith("내일 날씨는 전")
    assert len(text) > len("내일 날씨는 전")


def test_enter_is_a_new_line(opened: Opened, exhibit: Exhibit) -> None:
    tab = opened(exhibit)
    tab.page.fill("#text", "날씨")
    tab.page.focus("#text")
    tab.page.keyboard.press("End")
    tab.page.keyboard.press("Enter")
    assert tab.settled() == "날씨\n"
    tab.page.keyboard.press("Control+Enter")
    assert len(tab.settled()) > 3


# How it looks


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scroll(scheme: str, opened: Opened, exhibit: Exhibit) -> None:
    size = {"width": 360, "height": 780}
    tab = opened(exhibit, viewport=size, color_scheme=scheme, has_touch=True)
    tab.ask("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    tab.wait("document.querySelectorAll('#stages tr').length && semigpt.map.points")
    for language in ("ko", "en"):
        tab.ask("(language) => semigpt.speak(language)", language)
        assert tab.ask("document.documentElement.scrollWidth") <= 360
    colour = tab.ask("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", colour)[:3])) < 200) == (scheme == "dark")
    # What is painted lies exactly under what is typed.
    sizes = "['#text', '.mirror'].map((one) => document.querySelector(one).clientHeight)"
    assert len(set(tab.ask(sizes))) == 1
    assert tab.ask("document.getElementById('text').scrollHeight") == tab.ask(sizes)[0]


def test_print_keeps_text_and_colours(opened: Opened, exhibit: Exhibit) -> None:
    tab = opened(exhibit)
    tab.page.emulate_media(media="print")
    assert not tab.page.locator("#text").is_visible()
    assert tab.page.locator(".mirror").is_visible()
    painted = """[...document.querySelectorAll(".mirror i")].map((one) => getComputedStyle(one))
      .filter((style) => style.backgroundColor !== "rgba(0, 0, 0, 0)")
      .map((style) => style.printColorAdjust)"""
    assert set(tab.ask(painted)) == {"exact"}


def test_the_policy_lets_nothing_in(opened: Opened, exhibit: Exhibit) -> None:
    tab = opened(exhibit)
    refused = """async () => {
      const wrong = [];
      try { document.body.innerHTML = "<b>"; } catch (error) { wrong.push(error.name); }
      try { await fetch("data:,x"); } catch (error) { wrong.push(error.name); }
      return wrong;
    }"""
    assert tab.ask(refused) == ["TypeError", "TypeError"]
    assert all("Policy" in said or "blocked" in said for said in tab.wrong)
    tab.wrong.clear()


def test_the_command_writes_it(
    tmp_path: Path, chromium: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from semigpt.huggingface.folder import save_model

    tokenizer = tokenizer_of("char")
    save_model(tmp_path / "model", model_of("blocks", tokenizer), tokenizer, "card")
    assert main(["export", str(tmp_path / "model"), "--to", "html"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'model' / 'model.html'}\n"
    tab = Tab(chromium, (tmp_path / "model" / "model.html").as_uri())
    tab.ready()
    assert tab.settled() == "", "no run, no samples"
    assert tab.page.locator("#candidates li").count() == 8
    tab.close()
    assert main(["export", str(tmp_path / "model"), "--to", "html", "--type", "f16"]) == 2


# The weights of training


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, korean_text: str) -> Path:
    """A run of six steps that kept the checkpoints of its steps 2, 4 and 6."""
    tmp_path = tmp_path_factory.mktemp("trained")
    text = tmp_path / "text.txt"
    text.write_text("\n".join(f"{n}번째 소식. {korean_text}" for n in range(40)), encoding="utf-8")
    out = tmp_path / "run"
    sizes = ["width=16", "context_length=16"]
    every = ["training.save_every=2", "training.eval_every=2", "training.keep=9"]
    settings = [part for one in [*(f"model.{s}" for s in sizes), *every] for part in ("--set", one)]
    flags = ["--model", "attention", "--tokenizer", "char", "--steps", "6", "--out", str(out)]
    assert main(["train", "--data", str(text), *flags, *settings]) == 0
    return out


def test_a_slider_goes_over_the_weights_of_a_training(
    trained: Path, chromium: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(trained), "--to", "html", "--checkpoints", "9"]) == 0
    tab = Tab(chromium, (trained / "model.html").as_uri())
    tab.page.fill("#text", "기상청은 24일")
    tab.settled()
    assert "6스텝 학습" in tab.page.inner_text("#about")
    last = tab.ask("semigpt.editor.parts.at(-1).bits")
    slider = tab.page.get_by_role("slider", name="모델")
    slider.press("Home")
    tab.wait("semigpt.models.described[semigpt.current].facts.checkpoint === 2")
    assert tab.settled() == "기상청은 24일", "the text stays"
    assert "2스텝 학습" in tab.page.inner_text("#about")
    assert slider.get_attribute("aria-valuetext") == "step 2"
    tab.wait("semigpt.editor.parts.at(-1)?.bits > 0")
    assert tab.ask("semigpt.editor.parts.at(-1).bits") > last
    assert tab.page.locator("#rungs h3").all_inner_texts() == ["step 2", "step 4", "run"]
    tab.close()


def test_the_weights_of_a_checkpoint_are_those_that_were_saved(trained: Path) -> None:
    from safetensors.torch import load_file

    from semigpt.export.page_checkpoints import exhibits_of_training
    from semigpt.huggingface.open import open_run

    run, model, tokenizer = open_run(trained)
    found = exhibits_of_training("run", model, tokenizer, run, 9)
    assert [one.facts["checkpoint"] for one in found] == [2, 4, 6]
    bits = [one.facts["bits_per_character"] for one in found]
    assert bits == sorted(bits, reverse=True)
    for one, folder in zip(found, sorted((trained / "checkpoints").iterdir()), strict=True):
        saved = load_file(folder / "model.safetensors")
        state = one.model.state_dict()
        assert all(torch.equal(state[name], tensor) for name, tensor in saved.items())
    assert [one.facts["steps"] for one in exhibits_of_training("r", model, tokenizer, run, 1)] == [
        4,
        6,
    ]


def test_what_has_no_checkpoints_says_how_to_keep_some(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(trained, tmp_path / "run")

    def refused(*given: str) -> str:
        assert main(["export", *given]) == 2
        return capsys.readouterr().err

    asked = ["--to", "html", "--checkpoints"]
    assert "a model folder has none" in refused(str(run / "model"), *asked, "2")
    assert "at least 1" in refused(str(run), *asked, "0")
    assert "--to html" in refused(str(run), "--to", "onnx", "--checkpoints", "2")
    first = run / "checkpoints" / "step-00000002"
    (first / "model.safetensors").write_bytes(b"no tensors")
    assert "its SHA-256 differs" in refused(str(run), *asked, "2")
    for folder in (run / "checkpoints").iterdir():
        shutil.rmtree(folder)
    assert "--set training.keep=10" in refused(str(run), *asked, "2")
