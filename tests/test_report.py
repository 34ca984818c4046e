"""The report's page and its charts: whole with any part missing, safe with any text, and readable names."""

import math
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semigpt.report.charts import Level, Series, escape, line_chart, page, short_number, spread
from semigpt.report.page import write_report
from semigpt.run_folder import RunFolder
from semigpt.settings import write_toml

CONFIG = {
    "data": {"spec": "news"},
    "model": {"kind": "gpt", "width": 256},
    "sample": {"prompt": "오늘"},
}
FACTS = {
    "baselines": {"uniform": 11.2, "unigram": 7.6, "bigram": 3.9, "kneser_ney_5": 2.1, "xz": None},
    "source_entropy": 1.21,
    "parameters": 4_312_064,
    "tokens_per_character": 1.25,
    "corpus": {"spec": "news", "characters": 2_013_554, "documents": 2214},
    "tokenizer": {"kind": "char", "vocab_size": 2371},
    "surprise": [[["한", 0.1], ["국", 12.0], ["은행", 3.0]]],
}
VOID = {
    "meta",
    "br",
    "path",
    "circle",
}  # elements without an end, as HTML or as the page writes them


class Document(HTMLParser):
    """Reads a page, and fails where its elements do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data


def evaluate(run: RunFolder, step: int, bits: float, text: str = "오늘 회의가 열렸다.") -> None:
    row = {
        "step": step,
        "tokens_seen": step * 3072,
        "val_loss": bits * math.log(2),
        "val_loss_se": 0.02,
    }
    run.append("metrics", {**row, "bits_per_character": bits})
    run.append("samples", {"step": step, "prompt": "오늘", "text": text})
    run.append("timings", {"step": step, "seconds": step * 0.1})


def learn(run: RunFolder, step: int, loss: float) -> None:
    row = {
        "step": step,
        "tokens_seen": step * 3072,
        "loss": loss,
        "learning_rate": 1e-3,
        "gradient_norm": 0.5,
    }
    run.append("metrics", row)


def read(run: RunFolder) -> Document:
    return Document(write_report(run).read_text(encoding="utf-8"))


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "my-run")
    run.path.mkdir()
    run.config_file.write_text(write_toml(CONFIG), encoding="utf-8")
    return run


def test_report_tells_the_best_evaluation_beside_every_baseline(run):
    for step, bits in ((0, 11.2), (100, 1.87), (200, 1.99)):
        evaluate(run, step, bits)
    run.write_metadata(FACTS)
    text = read(run).text
    assert "This model needs 1.87 bits per character on text it has not seen." in text
    assert "counting letter pairs 3.90" in text
    assert "gram 2.10" in text
    assert "The text itself holds 1.21" in text
    assert "xz" not in text  # not measured: not mentioned


def test_training_loss_is_drawn_in_bits_a_character(run):
    evaluate(run, 0, 4.0)
    learn(run, 10, math.log(2) * 2)  # 2 bits per token, 1.25 tokens per character
    learn(run, 20, math.log(2) * 2)
    run.write_metadata(FACTS)
    assert "training: 2.5 bits per character at 20 steps" in read(run).text


@pytest.mark.parametrize(
    "killed", ["before a step", "before an evaluation", "before its facts", "before its surprise"]
)
def test_report_of_a_killed_run_opens_and_names_what_is_missing(run, killed):
    if killed != "before a step":
        learn(run, 10, 3.0)
    if killed in ("before its facts", "before its surprise"):
        evaluate(run, 0, 11.2)
    if killed == "before its surprise":
        run.write_metadata({key: value for key, value in FACTS.items() if key != "surprise"})
    document = read(run)
    assert "Not measured yet" in document.text
    assert ("has not been evaluated yet" in document.text) == (
        killed in ("before a step", "before an evaluation")
    )
    assert ("No sample yet" in document.text) == (
        killed in ("before a step", "before an evaluation")
    )


def test_report_without_a_config_says_so(tmp_path):
    assert "No config.toml to read." in read(RunFolder(tmp_path)).text


def test_report_loads_and_runs_nothing_whatever_the_text_holds(run):
    hostile = "<script>alert(1)</script><img src=http://x onerror=1>\"'&\x00\x1b\x85\u2028끝"
    evaluate(run, 0, 5.0)
    piece_of_surrogate = [["\ud83d", 3.0], [hostile, 2.0]]
    run.write_metadata(
        {**FACTS, "corpus": {"spec": hostile + "\udc00"}, "surprise": [piece_of_surrogate]}
    )
    document = read(run)
    assert {tag for tag, _ in document.elements}.isdisjoint(
        {"script", "img", "link", "iframe", "object", "base"}
    )
    names = {name for _, attributes in document.elements for name in attributes}
    assert names.isdisjoint({"src", "href", "onerror", "onload"})
    policy = [
        a
        for tag, a in document.elements
        if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy[0]["content"].startswith("default-src 'none'")
    assert "<script>alert(1)</script>" in document.text  # shown, not run
    assert "url(" not in run.report_file.read_text(encoding="utf-8")


def test_samples_are_marked_as_korean_and_go_from_first_to_last(run):
    for step in range(0, 100):
        evaluate(run, step, 5.0 - step / 50, text=f" 표본{step}번")
    document = read(run)
    assert "오늘 표본0번" in document.text
    assert "오늘 표본99번" in document.text
    assert document.text.count("표본") == 12
    assert document.text.index("표본0번") < document.text.index("표본99번")
    assert ("p", {"lang": "ko"}) in document.elements


def test_surprise_is_shaded_by_bits_a_character(run):
    run.write_metadata(FACTS)
    shades = {
        a["title"]: a["class"] for tag, a in read(run).elements if tag == "i" and "title" in a
    }
    assert shades == {
        "0.10 bits": "s0",
        "12.0 bits": "s7",
        "3.00 bits": "s2",
    }  # the last is 1.5 a character


def test_a_long_run_makes_a_small_file(run):
    rows = "".join(
        f'{{"step":{i},"tokens_seen":{i},"loss":{3 + i % 7},"learning_rate":0.001,"gradient_norm":{i % 5}}}\n'
        for i in range(0, 200_000, 10)
    )
    run.logs["metrics"].write_text(rows, encoding="utf-8")
    for step in range(200):
        evaluate(run, 1000 * step, 5.0, text="가" * 5000)
    run.write_metadata({**FACTS, "surprise": [[["글", 1.23]] * 5000] * 20})
    assert write_report(run).stat().st_size < 300_000


def test_report_needs_no_torch():
    code = "import sys, semigpt.report.page; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Charts


@given(st.lists(st.floats(-500, 1000), max_size=20))
def test_names_never_lie_on_each_other_and_keep_their_order(places):
    spreads = spread(places, 15, 0, 400)
    assert all(-1e-6 <= place <= 400 + 1e-6 for place in spreads)
    ordered = [after for _, after in sorted(zip(places, spreads, strict=True))]
    assert all(b - a >= 15 - 1e-6 for a, b in pairwise(ordered))


def test_names_with_room_stay_where_their_lines_end():
    assert spread([300, 10, 100], 15, 0, 400) == [300, 10, 100]
    assert spread([100, 100], 20, 0, 400) == [90, 110]  # both move, half each


numbers = (
    st.floats(-1e9, 1e9)
    | st.integers(0, 1000).map(float)
    | st.sampled_from([math.nan, math.inf, -math.inf])
)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.text(max_size=30), st.lists(st.tuples(numbers, numbers), max_size=5)),
        max_size=12,
    ),
    st.lists(st.tuples(st.text(max_size=30), numbers), max_size=6),
    st.booleans(),
    st.booleans(),
    st.none() | st.floats(-10, 10),
)
def test_any_points_and_names_make_a_chart(lines, levels, log_x, small, y_max):
    chart = line_chart(
        [Series(label, sorted(points)) for label, points in lines],
        title="t<",
        x_label="steps",
        y_label="bits",
        levels=[Level(label, y, floor=True) for label, y in levels],
        log_x=log_x,
        small=small,
        y_max=y_max,
    )
    html = page("t", chart)
    html.encode("utf-8")
    Document(html)
    assert "nan" not in "".join(
        part for part in chart.split("<") if part.startswith(("path", "circle", "svg"))
    )


def test_a_thinned_line_keeps_its_one_peak():
    points = [(float(x), 1.0) for x in range(50_000)]
    points[31_337] = (31_337.0, 9.0)
    chart = line_chart([Series("", points)], title="t", x_label="x", y_label="y", small=True)
    path = chart.split('class="line c0" d="M')[1].split('"')[0]
    heights = [float(pair.split()[1]) for pair in path.split("L")]
    assert heights.count(min(heights)) == 1
    assert len(heights) < 700


def test_levels_above_the_cut_are_named_with_an_arrow():
    chart = line_chart(
        [Series("model", [(0, 11.0), (9, 2.0)])],
        title="t",
        x_label="x",
        y_label="y",
        levels=[Level("uniform", 11.2), Level("bigram", 3.9)],
        y_max=4.0,
    )
    assert "uniform 11.2 ↑" in chart
    assert "bigram 3.90<" in chart


def test_short_numbers_are_short():
    values = [0, 0.0003, 1.871, 11.21, 123.4, 12345.6, 2.5e7, math.inf]
    assert [short_number(v) for v in values] == [
        "0.00",
        "0.0003",
        "1.87",
        "11.2",
        "123",
        "12,346",
        "2.5e+07",
        "inf",
    ]


@given(st.text(st.characters(), max_size=50))
def test_escaped_text_can_be_encoded_and_holds_no_markup(text):
    escaped = escape(text + "\ud800")
    assert not set("<>\"'") & set(escaped)
    escaped.encode("utf-8")
