"""The report's page and its charts: whole with any part missing, safe with any text, and readable
names.
"""

import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semigpt.html import escape, table
from semigpt.report import charts
from semigpt.report.charts import Level, Series, line_chart, svg_file
from semigpt.report.document import page
from semigpt.report.layout import padded, short_number, spread, tick_label, ticks
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
    "surprisal": [[["한", 0.1], ["국", 12.0], ["은행", 3.0]]],
    "attention": {
        "parts": ["한", "국", " 은행"],
        "heads": [[[[100], [100, 0], [12, 88, 0]], [[100], [0, 100], [3, 0, 97]]]],
    },
    "embeddings": {
        "tokens": ["는", "을", "7", " ", "Kg"],
        "x": [0.0, 0.023, -1.0, 0.5, 0.2],
        "y": [0.0, 0.0, 0.3, 0.1, -0.4],
        "variance": [0.2, 0.05],
        "width": 1128,
    },
}
VOID = {"meta", "br"}  # elements without an end


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
    assert (
        "The baselines need: uniform 11.20, unigram (character frequencies) 7.60, "
        "bigram (character pairs) 3.90, 5-gram (Kneser-Ney) 2.10." in text
    )
    assert "a fair choice among 3.7." in text
    assert "The source itself needs 1.21: no model can be below." in text
    assert "xz" not in text  # not measured: not mentioned


def test_training_loss_is_drawn_in_bits_per_character(run):
    evaluate(run, 0, 4.0)
    learn(run, 10, math.log(2) * 2)  # 2 bits per token, 1.25 tokens per character
    learn(run, 20, math.log(2) * 2)
    run.write_metadata(FACTS)
    assert "training: 2.5 bits per character at 20 steps" in read(run).text


@pytest.mark.parametrize(
    "killed", ["before a step", "before an evaluation", "before its facts", "before its pictures"]
)
def test_report_of_a_killed_run_opens_and_names_what_is_missing(run, killed):
    if killed != "before a step":
        learn(run, 10, 3.0)
    pictures = ("surprisal", "attention", "embeddings")
    if killed in ("before its facts", "before its pictures"):
        evaluate(run, 0, 11.2)
    if killed == "before its pictures":
        run.write_metadata({key: value for key, value in FACTS.items() if key not in pictures})
    document = read(run)
    assert document.text.count("Not measured yet") == 3
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
    half_a_surrogate_pair = [["\ud83d", 3.0], [hostile, 2.0]]
    metadata = {**FACTS, "corpus": {"spec": hostile + "\udc00"}}
    metadata["attention"] = {**FACTS["attention"], "parts": [hostile, hostile, "\ud83d"]}
    metadata["embeddings"] = {**FACTS["embeddings"], "tokens": [hostile, *"\ud83d\x00<&"]}
    run.write_metadata({**metadata, "surprisal": [half_a_surrogate_pair]})
    document = read(run)
    assert {tag for tag, _ in document.elements}.isdisjoint(
        {"script", "img", "link", "iframe", "object", "base"}
    )
    attributes = [pair for _, found in document.elements for pair in found.items()]
    assert {name for name, _ in attributes}.isdisjoint({"src", "onerror", "onload"})
    assert {value for name, value in attributes if name == "href"} == {"#looks-letters"}
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


def test_surprise_is_shaded_by_bits_per_character(run):
    run.write_metadata(FACTS)
    shades = {
        a["title"]: a["class"] for tag, a in read(run).elements if tag == "i" and "title" in a
    }
    assert shades == {
        "0.10 bits": "s0",
        "12.0 bits": "s7",
        "3.00 bits": "s2",
    }  # the last is 1.5 per character


def test_each_head_is_a_triangle_with_its_letters(run):
    run.write_metadata(FACTS)
    document = read(run)
    labels = [a.get("aria-label", "") for tag, a in document.elements if tag == "svg"]
    assert "Layer 1, head 1: looks 1.1 letters back on average" in labels
    assert "Layer 1, head 2: looks 0.0 letters back on average" in labels
    assert document.text.count("은행") == 3, "beside the rows, below the columns, and surprising"
    strokes = [a["d"] for tag, a in document.elements if a.get("class") == "p5" and "d" in a]
    assert strokes == ["M0 0h1M0 1h1M1 2h1", "M0 0h1M1 1h1M2 2h1"]
    assert ("path", {"class": "p1", "d": "M0 2h1"}) in document.elements, "12 % is the second edge"


def test_a_token_that_would_cover_another_is_a_dot(run):
    run.write_metadata(FACTS)
    document = read(run)
    tags = [tag for tag, a in document.elements if a.get("class") in ("hangul", "digit", "latin")]
    assert tags.count("circle") == 2, "once wide, once narrow"
    assert tags.count("text") == 2 * 3
    assert "25% of how they differ in 1,128 directions" in document.text


def test_a_rung_without_heads_says_so_and_nonsense_draws_nothing(run):
    nonsense = {"tokens": ["가"], "x": ["?"], "y": [math.nan], "variance": [], "width": None}
    run.write_metadata({**FACTS, "attention": None, "embeddings": nonsense})
    text = read(run).text
    assert "It has no heads that look back." in text
    assert "It has too few tokens for a map." in text


def test_the_pictures_of_many_heads_stay_small(run):
    rows = [[(31 * i * j) % 101 for j in range(i + 1)] for i in range(14)]
    heads = {"parts": ["뷁"] * 14, "heads": [[rows] * 16] * 28}
    points = {"tokens": ["뷁뷁"] * 240, "x": [n / 240 for n in range(240)]}
    points |= {"y": [math.sin(n) for n in range(240)], "variance": [0.1, 0.1], "width": 1}
    run.write_metadata({})
    bare = write_report(run).stat().st_size
    run.write_metadata({"attention": heads, "embeddings": points})
    assert write_report(run).stat().st_size - bare < 150_000
    labels = [a.get("aria-label", "") for tag, a in read(run).elements if tag == "svg"]
    layers = {label.split(",")[0] for label in labels if label.startswith("Layer")}
    assert {"Layer 1", "Layer 28"} < layers
    assert len(layers) == 7


def test_only_a_stopped_run_is_told_how_to_resume(run):
    evaluate(run, 0, 5.0)
    run.write_metadata(FACTS)
    assert "semigpt train --resume" in read(run).text
    run.write_metadata({**FACTS, "complete": True})
    assert "resume" not in read(run).text
    assert "semigpt generate" in read(run).text
    # The page of a run is written just before its facts say that it is complete.
    run.write_metadata(FACTS)
    write_report(run, complete=True)
    assert "resume" not in run.report_file.read_text(encoding="utf-8")


def test_on_paper_shades_are_printed_and_nothing_is_torn_from_its_heading(run):
    evaluate(run, 0, 5.0)
    run.write_metadata(FACTS)
    write_report(run)
    html = run.report_file.read_text(encoding="utf-8")
    shaded = rules(html, ".passage i")
    assert shaded["print-color-adjust"] == "exact"
    assert rules(html, "h1, h2, h3", within="@media print")["break-after"] == "avoid"
    assert rules(html, "figure, table, pre", within="@media print")["break-inside"] == "avoid"


def rules(html: str, selector: str, within: str = "") -> dict[str, str]:
    """The declarations of the rule whose selector begins so, after `within`."""
    _, _, rest = html[html.index(within) :].partition(selector)
    body = rest[rest.index("{") + 1 : rest.index("}")]
    return {
        name.strip(): value.strip()
        for name, _, value in (declaration.partition(":") for declaration in body.split(";"))
    }


@pytest.mark.parametrize(
    ("bits", "above"), [(8.0, []), (5.0, ["uniform"]), (3.0, ["uniform", "unigram"])]
)
def test_the_curve_is_cut_above_the_baseline_that_was_passed(run, bits, above):
    evaluate(run, 0, 11.2)
    evaluate(run, 100, bits)
    run.write_metadata(FACTS)
    text = read(run).text
    for name in ("uniform", "unigram", "bigram"):
        assert (re.search(rf"{name} [\d.]+ ↑", text) is not None) == (name in above)


def test_a_long_run_makes_a_small_file(run):
    rows = "".join(
        f'{{"step":{i},"tokens_seen":{i},"loss":{3 + i % 7},'
        f'"learning_rate":0.001,"gradient_norm":{i % 5}}}\n'
        for i in range(0, 200_000, 10)
    )
    run.logs["metrics"].write_text(rows, encoding="utf-8")
    for step in range(200):
        evaluate(run, 1000 * step, 5.0, text="가" * 5000)
    run.write_metadata({**FACTS, "surprisal": [[["글", 1.23]] * 5000] * 20})
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
    st.none() | st.floats(-10, 10),
)
def test_any_points_and_names_make_a_chart(lines, levels, small, y_max):
    chart = line_chart(
        [Series(label, sorted(points)) for label, points in lines],
        title="t<",
        x_label="steps",
        y_label="bits",
        levels=[Level(label, y, floor=True) for label, y in levels],
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


def test_a_level_is_drawn_at_its_value_and_a_line_from_edge_to_edge():
    """The axes' ticks are the scale: a level on a tick lies on the tick's grid line."""
    chart = line_chart(
        [Series("model", [(0, 0.0), (50, 10.0), (100, 5.0)])],
        title="t",
        x_label="x",
        y_label="y",
        levels=[Level("five", 5.0)],
    )
    wide = chart[: chart.index("</figure>")].split('class="narrow"')[0]
    level = re.search(r'class="level" d="M([\d.]+) ([\d.]+)H([\d.]+)"', wide)
    left, five, right = (float(group) for group in level.groups())
    grid = {
        label: float(y)
        for y, label in re.findall(r'y="([\d.]+)" dy=".35em"[^>]*>(\d+)</text>', wide)
    }
    assert grid["5"] == five
    assert grid["5"] == pytest.approx((grid["0"] + grid["10"]) / 2, abs=0.1)
    xs, ys = zip(
        *(
            map(float, pair.split())
            for pair in wide.split('class="line c0" d="M')[1].split('"')[0].split("L")
        ),
        strict=True,
    )
    assert xs == pytest.approx([left, (left + right) / 2, right], abs=0.1)
    assert ys[0] == pytest.approx(grid["0"], abs=0.1)
    assert ys[2] == pytest.approx(five, abs=0.1)
    assert ys[1] == pytest.approx(grid["10"], abs=0.1)
    assert ys[1] < five, "up is more"


@pytest.mark.parametrize(
    ("low", "high", "about", "expected"),
    [
        (0, 10, 5, [0, 2, 4, 6, 8, 10]),
        (0.13, 0.87, 4, [0.2, 0.4, 0.6, 0.8]),
        (1.2, 11.9, 5, [5, 10]),
        (-3, 3, 3, [-2, 0, 2]),
        (4000, 61_000, 6, [10_000, 20_000, 30_000, 40_000, 50_000, 60_000]),
    ],
)
def test_ticks_are_round_numbers_inside_the_range(low, high, about, expected):
    assert ticks(low, high, about) == expected


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0, 0.5, 1.0], ["0.0", "0.5", "1.0"]),
        ([0, 2000, 4000], ["0", "2,000", "4,000"]),
        ([0, 5000, 10_000], ["0", "5k", "10k"]),
        ([0, 12_500, 25_000], ["0.0", "12.5k", "25.0k"]),
        ([0, 20_000_000], ["0", "20M"]),
        ([0, 0.000001], ["0", "1e-06"]),
    ],
)
def test_tick_labels_have_as_many_decimals_as_they_need(values, labels):
    assert [tick_label(value, values) for value in values] == labels


def test_a_range_is_padded_but_not_below_zero():
    assert padded(0, 100) == (0, 105)
    assert padded(50, 100) == (47.5, 102.5)
    assert padded(-50, 50) == (-55, 55)
    assert padded(2, 2) == (1.9, 2.1)


def test_points_that_are_not_finite_are_left_out_and_no_points_are_said_so():
    def chart(*points):
        return line_chart([Series("a", points)], title="t", x_label="x", y_label="y")

    assert chart((0, 1.0), (1, math.nan), (2, 3.0)) == chart((0, 1.0), (2, 3.0))
    assert "No points yet." in chart((0, math.nan))
    with pytest.raises(ValueError, match="at least one finite point"):
        svg_file([Series("a", [(0, math.inf)])], title="t", x_label="x", y_label="y")


def test_an_svg_file_is_xml_that_needs_nothing_beside_it():
    picture = svg_file(
        [Series("model <1>", [(0, 11.0), (60, 4.0), (120, 2.0)])],
        title="Loss & baselines",
        x_label="seconds",
        y_label="bits per character",
        levels=[Level("5-gram", 2.3), Level("uniform", 11.2)],
    )
    root = ElementTree.fromstring(picture)
    svg = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{svg}svg"
    assert root.find(f"{svg}title").text == "Loss & baselines"
    texts = [text.text for text in root.iter(f"{svg}text")]
    assert {"seconds", "bits per character", "model <1> 2.00", "5-gram 2.30"} <= set(texts)
    style = root.find(f"{svg}style").text
    assert "@media (prefers-color-scheme: dark)" in style
    assert not re.findall(r"https?:|url\(|@import", picture.replace(svg[1:-1], ""))
    left, top, width, height = map(float, root.get("viewBox").split())
    paper = root.find(f"{svg}rect")
    assert [float(paper.get(name)) for name in ("x", "y", "width", "height")] == pytest.approx(
        [left, top, width, height], abs=0.1
    ), "it brings its own background"
    used = set(re.findall(r"var\(--([\w-]+)\)", style)) - {"line"}
    assert used <= set(re.findall(r"--([\w-]+): #", style)), "every colour is defined"


@pytest.mark.parametrize("scheme", [charts.LIGHT, charts.DARK])
def test_text_and_lines_stand_out_from_the_paper(scheme):
    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    def contrast(one, other):
        low, high = sorted((luminance(one), luminance(other)))
        return (high + 0.05) / (low + 0.05)

    assert contrast(scheme["ink"], scheme["paper"]) >= 7
    assert contrast(scheme["soft"], scheme["paper"]) >= 4.5
    for index in range(len(charts.LINES_LIGHT)):
        assert contrast(scheme[f"c{index}"], scheme["paper"]) >= 3


def test_a_table_escapes_what_it_shows():
    shown = table("a<b", [("<i>", "1 & 2")])
    assert "a&lt;b" in shown
    assert "&lt;i&gt;" in shown
    assert "1 &amp; 2" in shown
    Document(shown)


def test_a_chart_grows_where_its_names_need_the_height():
    levels = [Level(f"level {number}", 1 + number / 100) for number in range(30)]
    picture = svg_file(
        [Series("model", [(0, 1.0), (1, 2.0)])],
        title="t",
        x_label="x",
        y_label="y",
        levels=levels,
        height=200,
    )
    names = re.findall(r'y="([\d.]+)" dy=".35em">(?:level|model)', picture)
    heights = sorted(map(float, names))
    assert len(heights) == 31
    assert all(below - above >= 14.9 for above, below in pairwise(heights))
    bottom = float(re.search(r'class="axis" d="M[\d.]+ ([\d.]+)H', picture)[1])
    assert heights[-1] <= bottom


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
