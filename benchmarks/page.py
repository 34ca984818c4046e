"""Measure model.html in a browser, and take the README's picture of it.

    python benchmarks/page.py runs/news-gpt runs/ladder/bigram
    python benchmarks/page.py runs/news-gpt --served
    python benchmarks/page.py src/semigpt/data/starter --picture docs/model_page.png

Each run's page is written and opened in Chromium (Debian: apt install chromium; pip install
playwright). Of each, a row:

    MB, code        of the file; kB of it that are neither weights nor tokenizer nor samples
    paint, ready    ms to the first paint, and until the text is scored, from the file's opening
    ms/char         to write 60 tokens, the median of three times
    ids             whether the trial texts of `semigpt export` have semigpt's ids
    KL int8         bits, the furthest from semigpt's logits in int8; same: equal argmax
    KL float32      bits, the mean distance from the weights as trained: what int8 costs

With `--served` the page of `semigpt serve`, which has no weights: its kB, the ms from the first
byte asked for to the first paint, and until a model's answers are shown, each the median of nine
openings and the slowest.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import shutil
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from semigpt.errors import SemigptError, SettingsError
from semigpt.export.page_file import exhibit, page_html
from semigpt.export.verify import trial_texts
from semigpt.generation.quantize import rounded
from semigpt.huggingface.open import open_run

SERVED_HEAD = ("run", "kB", "paint", "slowest", "ready", "slowest ready")
OPENINGS = 9
LONGEST_WAIT = 120.0  # seconds
HEAD = ("run", "MB", "code", "paint", "ready", "ms/char", "ids", "KL int8", "same", "KL float32")
READY = "!!window.semigpt?.now && semigpt.editor.paintedText === semigpt.editor.text"
SURPRISING = """(() => {
  const bits = semigpt.editor.parts.map((part) => part.bits);
  return bits.indexOf(Math.max(...bits.slice(8)));
})()"""
DONE = f"!semigpt.writing && {READY}"
PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
READ = """async (text) => {
  const engine = semigpt.now, ids = engine.ids(text), rows = [];
  const session = new engine.reader.constructor(engine.model);
  for (const id of ids.slice(0, engine.model.context)) {
    const bytes = new Uint8Array(engine.model.logits(await session.read(id)).slice().buffer);
    rows.push(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
  }
  return { ids, rows: rows.map(btoa) };
}"""
# As text: playwright takes minutes over a million numbers.
WRITE = """async (text) => {
  const begin = performance.now();
  let count = 0;
  for await (const chunk of semigpt.now.write({ text, count: 60, temperature: 0.8, seed: 1 })) {
    count += [...chunk.text].length;
  }
  return (performance.now() - begin) / count;
}"""


def chromium(playwright: Any) -> Any:
    """Debian's Chromium, or another; SettingsError where there is none."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        raise SettingsError("there is no Chromium here; on Debian: apt install chromium")
    return playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])


def wait(page: Any, condition: str) -> None:
    """Until a condition holds; the page's policy refuses playwright's own way to wait.

    Raises SettingsError with what the page says, where it does not come to that.
    """
    end = time.monotonic() + LONGEST_WAIT
    while not page.evaluate(condition):
        if time.monotonic() > end:
            said = page.inner_text("#status")
            raise SettingsError(f"after {LONGEST_WAIT:.0f} s the page says {said!r}: {condition}")
        time.sleep(0.005)


def divergence(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """KL of each row, in bits: `[T]`."""
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1) / torch.tensor(2.0).log()


def measure(browser: Any, path: Path) -> dict[str, str]:
    """A row of the table."""
    run, model, tokenizer = open_run(path)
    html = page_html(path.name, [exhibit(path.name, model, tokenizer, run)])
    data = re.findall(r'<script type="[^"]*" id="[^"]*">.*?</script>', html, re.DOTALL)
    code = len(html.encode()) - sum(len(block.encode()) for block in data)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.html"
        file.write_text(html, encoding="utf-8")
        page = browser.new_page()
        page.goto(file.as_uri())
        wait(page, READY)
        ready = page.evaluate("performance.now()")
        wait(page, f"{PAINT} !== undefined")
        paint = page.evaluate(PAINT)
        speed = statistics.median(page.evaluate(WRITE, "기상청은 ") for _ in range(3))
        exact, context = rounded(model, "int8"), model.settings.context_length
        same_ids, furthest, distances, same, tokens = True, 0.0, [], 0, 0
        for text in trial_texts():
            found = page.evaluate(READ, text)
            start = [] if tokenizer.end_of_text is None else [tokenizer.end_of_text]
            ids = [*start, *tokenizer.encode(text).tolist()]
            same_ids &= found["ids"] == ids
            ours = torch.tensor([ids[:context]])
            rows = [np.frombuffer(base64.b64decode(row), np.float32) for row in found["rows"]]
            page_log_p = torch.tensor(np.stack(rows)).double().log_softmax(dim=-1)
            with torch.no_grad():
                int8, trained = (net(ours)[0][0].double().log_softmax(-1) for net in (exact, model))
            furthest = max(furthest, float(divergence(int8, page_log_p).max()))
            distances += divergence(trained, page_log_p).tolist()
            same += int((int8.argmax(-1) == page_log_p.argmax(-1)).sum())
            tokens += len(page_log_p)
        page.close()
    return {
        "run": path.name,
        "MB": f"{len(html.encode()) / 1e6:.2f}",
        "code": f"{code / 1e3:.1f}",
        "paint": f"{paint:.0f}",
        "ready": f"{ready:.0f}",
        "ms/char": f"{speed:.2f}",
        "ids": "same" if same_ids else "OTHER",
        "KL int8": f"{furthest:.0e}",
        "same": f"{same}/{tokens}",
        "KL float32": f"{statistics.mean(distances):.0e}",
    }


def measure_served(browser: Any, path: Path) -> dict[str, str]:
    """A row of the table with `--served`: each opening in a fresh tab without a cache."""
    from semigpt.serving import listen, server
    from semigpt.serving.http import make_app
    from semigpt.serving.loop import Loop

    loop = Loop(server.Models.find([path]).open())
    loop.start()
    running = server.make_server(make_app(loop))
    paints, readies, size = [], [], 0
    with listen.listening("127.0.0.1", 0) as sockets:
        thread = threading.Thread(target=running.run, args=(sockets,))
        thread.start()
        url = listen.address("127.0.0.1", sockets[0].getsockname()[1]) + "/"
        for _ in range(OPENINGS + 1):  # the first one warms the browser up
            page = browser.new_page()
            answer = page.goto(url)
            size = len(answer.body())
            wait(page, f"{READY} && {PAINT} !== undefined")
            readies.append(page.evaluate("performance.now()"))
            paints.append(page.evaluate(PAINT))
            page.close()
        running.should_exit = True
        thread.join()
    loop.stop()
    row = {"run": path.name, "kB": f"{size / 1e3:.1f}"}
    for name, slowest, values in (
        ("paint", "slowest", paints[1:]),
        ("ready", "slowest ready", readies[1:]),
    ):
        row |= {name: f"{statistics.median(values):.0f}", slowest: f"{max(values):.0f}"}
    return row


def picture(browser: Any, path: Path, prompt: str, file: Path) -> None:
    """The page in Korean after it has gone on once, with a letter chosen and its heads in sight."""
    run, model, tokenizer = open_run(path)
    with tempfile.TemporaryDirectory() as folder:
        html = Path(folder) / "model.html"
        text = page_html(path.name, [exhibit(path.name, model, tokenizer, run)])
        html.write_text(text, encoding="utf-8")
        view = {"width": 1120, "height": 760}
        page = browser.new_page(viewport=view, locale="ko-KR", device_scale_factor=1)
        page.goto(html.as_uri())
        wait(page, READY)
        page.fill("#text", prompt)
        page.click("#go")
        wait(page, DONE)
        while page.evaluate("semigpt.editor.text.length") < 60:  # a review may end at once
            page.click("#retry")
            wait(page, DONE)
        page.click("#attention summary")
        most = page.evaluate(SURPRISING)
        box = page.locator(".mirror i").nth(most).bounding_box()
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        wait(page, "document.querySelectorAll('#heads button').length > 0")
        page.evaluate("scrollTo(0, 0)")
        time.sleep(0.3)
        page.screenshot(path=file)
        page.close()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run or model folders")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="take one of the first run")
    parser.add_argument("--prompt", default="이 영화는", help="what the picture begins with")
    parser.add_argument("--served", action="store_true", help="the page of semigpt serve instead")
    parser.add_argument("--json", action="store_true", help="a row a line")
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    try:
        with sync_playwright() as playwright:
            browser = chromium(playwright)
            if options.picture is not None:
                picture(browser, options.runs[0], options.prompt, options.picture)
                return 0
            for number, path in enumerate(options.runs):
                row = (measure_served if options.served else measure)(browser, path)
                show(row, first=not number, as_json=options.json)
    except SemigptError as error:
        print(f"page.py: {error}", file=sys.stderr)
        return 2
    return 0


def show(row: dict[str, str], *, first: bool, as_json: bool) -> None:
    """Print a row as soon as it is measured, below the head."""
    if as_json:
        print(json.dumps(row, ensure_ascii=False), flush=True)
        return
    names = SERVED_HEAD if "kB" in row else HEAD
    for shown in [dict(zip(names, names, strict=True)), row][0 if first else 1 :]:
        cells = (f"{shown[name]:<14}" if name == "run" else f"{shown[name]:>10}" for name in names)
        print("  ".join(cells), flush=True)


if __name__ == "__main__":
    sys.exit(main())
