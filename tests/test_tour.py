"""The tour: every chapter in both languages; the lines shown are those that ran."""

from __future__ import annotations

import ast
import contextlib
import doctest
import io
import json
import math
import re
import sys
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from html import unescape
from itertools import chain, takewhile
from pathlib import Path
from typing import Any

import pytest
import torch

from semigpt.cli import main
from semigpt.cli.tour import seen_from, show
from semigpt.columns import columns, wrapped
from semigpt.corpus.staging import prepare_corpus
from semigpt.errors import CorpusError, SettingsError
from semigpt.tokenizers import train_tokenizer
from semigpt.tour import (
    CHAPTERS,
    ENOUGH_STEPS,
    SEEN_LEARNING,
    TourSettings,
    chapters,
    documents_of,
    first_sentence,
)
from semigpt.tour import tour as tour_of
from semigpt.tour.figures import Picture, curves, heat_map
from semigpt.tour.files import as_html, as_notebook
from semigpt.tour.loader import (
    Block,
    Code,
    Element,
    Fold,
    FoldEnd,
    Heading,
    Paragraph,
    blocks,
    read_chapters,
    told,
)
from semigpt.tour.session import Ran, Session
from semigpt.tour.text import as_text, prompted

KOREAN = [
    "첫 문서",
    "글자와 어휘",
    "문장을 숫자로, 숫자를 문장으로",
    "글 전체를 텐서 하나로",
    "학습용과 검증용",
    "블록: 문맥과 정답",
    "배치: 블록 여러 개를 한 번에",
    "가장 단순한 모델: 표 하나",
    "손실: 왜 모양을 바꿔야 할까요",
    "갓 만든 모델의 손실은 ln V",
    "마지막 자리의 확률",
    "배우기 전의 열 글자",
    "옵티마이저: 한 스텝",
    "학습이 향하는 곳: 세어서 만든 표",
    "학습, 그리고 처음 배운 글",
    "장치로 옮기기",
    "두 가지 손실",
    "앞 글자들과 나누기: 평균",
    "질의, 키, 값",
    "왜 √d로 나눌까요",
    "여러 개의 헤드",
    "피드포워드: 모은 것을 생각하기",
    "잔차 블록: 깊이 쌓기",
]
ENGLISH = [
    "The first document",
    "Characters and vocabulary",
    "A sentence encoded and decoded",
    "The whole text as one tensor",
    "What is learnt from and what is held out",
    "A block: contexts and targets",
    "A batch: several blocks at once",
    "The simplest model: one table",
    "The loss, and why the shape must change",
    "A fresh model's loss is ln V",
    "The last position's probabilities",
    "Ten characters before learning",
    "The optimizer: one step",
    "Where training is heading: the table of counts",
    "Training, and the first learnt text",
    "Moving to a device",
    "The loss on both splits",
    "Sharing with the characters before: averages",
    "Queries, keys and values",
    "Why divide by √d",
    "Several heads",
    "Feed-forward: thinking about what was gathered",
    "Residual blocks: stacking them deep",
]


BOOK = "한권으로 끝내는 실전 LLM 파인튜닝"
WRITTEN_OUT = {  # the book's own steps, and the lines that hold semigpt's own work to them
    1: [
        'data = DatasetDict({"train": Dataset.from_dict({"document": documents})})',
        'ko_text = "".join(data["train"]["document"])',
        'ko_text == corpus.path("train").read_bytes().decode()',
    ],
    2: ["characters = sorted(set(ko_text))", "V = len(characters)"],
    3: [
        "character_to_ids = {char: i for i, char in enumerate(characters)}",
        "ids_to_character = {i: char for i, char in enumerate(characters)}",
        "token_encode = lambda s: [character_to_ids[c] for c in s]",
        'token_decode = lambda l: "".join([ids_to_character[i] for i in l])',
        "token_decode(token_encode(sentence)) == sentence",
        "tokenizer.encode(sentence).tolist() == token_encode(sentence)",
        "tokenizer.decode(token_encode(sentence)) == sentence",
    ],
    4: [
        "data = torch.tensor(token_encode(ko_text), dtype=torch.long)",
        'torch.equal(data, torch.from_numpy(encoded.astype("int64")))',
        "ko_text[:30] == token_decode(data[:30].tolist())",
    ],
    5: ["n = int(0.9 * len(data))", "train_ids, validation_ids = data[:n], data[n:]"],
    6: ["x, y = train_ids[:block_size], train_ids[1 : block_size + 1]"],
    7: [
        "def batch_function(mode):",
        "    starts = torch.randint(len(ids) - block_size, (batch_size,))",
        "    x = torch.stack([ids[i : i + block_size] for i in starts])",
        "    y = torch.stack([ids[i + 1 : i + block_size + 1] for i in starts])",
        'example_x, example_y = batch_function("train")',
        "torch.equal(x, inputs)",
        "torch.equal(y, targets)",
    ],
    8: [
        "class semiGPT(nn.Module):",
        "        self.embed = nn.Embedding(vocab_length, vocab_length)",
        "torch.equal(logits[0, 0], table.embed.weight[example_x[0, 0]])",
        "torch.equal(our_logits, logits)",
    ],
    9: [
        "class semiGPT(nn.Module):",
        "        batch, block, vocab = logits.shape",
        "        rows = logits.view(batch * block, vocab)",
        "        loss = F.cross_entropy(rows, targets.view(batch * block))",
        "torch.equal(our_logits, logits)",
        "torch.equal(our_loss, loss)",
    ],
    10: ["round(loss.item(), 4), round(math.log(V), 4)"],
    11: [
        "last = logits[:, -1, :]",
        "probabilities = F.softmax(last, dim=-1)",
        "drawn_ids = torch.multinomial(probabilities, num_samples=1)",
    ],
    12: [
        "class semiGPT(nn.Module):",
        "    def __init__(self, vocab_length):",
        "    def forward(self, inputs, targets=None):",
        "    def generate(self, inputs, max_new_tokens):",
        "            probabilities = F.softmax(logits[:, -1, :], dim=-1)",
        "            next_ids = torch.multinomial(probabilities, num_samples=1)",
        "            inputs = torch.cat((inputs, next_ids), dim=1)",
        "torch.equal(our_probabilities, probabilities)",
        "torch.equal(ours.generate(start, 10, seed=3), written)",
    ],
    18: [
        "torch.allclose(weights @ x, averages, atol=1e-6)",
        "torch.allclose(scores.softmax(dim=1), weights)",
        "torch.allclose(scores.softmax(dim=1) @ x, averages, atol=1e-6)",
        "torch.allclose((everywhere @ x)[:, 0], x.mean(dim=1), atol=1e-6)",
    ],
    19: [
        "torch.allclose(attend(q, k, v), out, atol=1e-6)",
        "torch.allclose(attend(0 * q, k, v), averaged, atol=1e-6)",
    ],
    21: ["eight.parameter_count() == multihead.parameter_count()"],
}


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory, korean_text: str) -> Path:
    """One text file of the reader's own, its sentences coming again in other orders."""
    lines = korean_text.splitlines()
    path = tmp_path_factory.mktemp("text") / "글.txt"
    path.write_text(
        "\n".join(lines[i % 3] + lines[(i * i) % 3] for i in range(20)), encoding="utf-8"
    )
    return path


@pytest.fixture(scope="module")
def spec(book: Path) -> str:
    """The file as one document."""
    return f"{book}#by=document"


@pytest.fixture(scope="module")
def text(book: Path) -> str:
    """What the tour reads of it: the nine tenths to learn from."""
    whole = book.read_text(encoding="utf-8")
    return whole[: int(0.9 * len(whole))]


def tour(spec: str, **settings: Any) -> Iterator[str]:
    """The tour as text."""
    return tour_of(TourSettings(spec=spec, **settings))


@pytest.fixture(scope="module")
def elements(spec: str) -> dict[str, list[Element]]:
    """The whole tour with its figures in each language, with the same seed and steps."""
    return {
        lang: list(
            chain.from_iterable(
                chapters(TourSettings(spec=spec, lang=lang, steps=30, seed=3, figures=True))
            )
        )
        for lang in ("ko", "en")
    }


@pytest.fixture(scope="module")
def pages(spec: str) -> dict[str, str]:
    """The whole tour as text in each language, with the same seed and steps."""
    return {lang: "\n\n".join(tour(spec, lang=lang, steps=30, seed=3)) for lang in ("ko", "en")}


def headings(text: str) -> list[str]:
    return re.findall(r"^\d+\. (.+)\n=+$", text, re.MULTILINE)


def code(text: str) -> list[str]:
    """The lines of code and their answers."""
    return [line for line in text.splitlines() if line.startswith("    ")]


def prose(text: str) -> list[str]:
    """What is said in each chapter, headings, code and answers left out."""
    chapters = re.split(r"^\d+\. .+\n=+$", text, flags=re.MULTILINE)[1:]
    return [
        "\n".join(line for line in chapter.splitlines() if not line.startswith("    "))
        for chapter in chapters
    ]


def statements(text: str) -> dict[int, list[str]]:
    """The lines of code in each chapter, without their prompts."""
    chapters = re.split(r"^\d+\. .+\n=+$", text, flags=re.MULTILINE)
    prompt = re.compile(r"^    (?:>>>|\.\.\.) (.*)$", re.MULTILINE)
    return {number: prompt.findall(chapter) for number, chapter in enumerate(chapters)}


def is_equality(line: str) -> bool:
    """Whether a line of code asks if two things are equal."""
    try:
        statement = ast.parse(line).body[0]
    except SyntaxError:  # a line of several
        return False
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Compare):
        return True
    return line.startswith(("torch.equal(", "torch.allclose("))


def answer(text: str, line: str) -> str:
    """What stands below a line of code."""
    return text.split(f"    >>> {line}\n", 1)[1].split("\n", 1)[0].strip()


def test_every_chapter_comes_in_order_in_both_languages(pages: dict[str, str]) -> None:
    assert headings(pages["ko"]) == KOREAN
    assert headings(pages["en"]) == ENGLISH


def test_both_languages_run_the_same_code_to_the_same_answers(pages: dict[str, str]) -> None:
    assert code(pages["ko"]) == code(pages["en"])
    numbers = {
        lang: [set(re.findall(r"\d[\d,.]*\d|\d", part)) for part in prose(pages[lang])]
        for lang in pages
    }
    for title, korean, english in zip(ENGLISH, numbers["ko"], numbers["en"], strict=True):
        assert korean == english, title


def test_korean_is_korean_and_english_is_english(pages: dict[str, str]) -> None:
    for part in prose(pages["ko"]):
        assert re.search(r"[가-힣]+(니다|봅시다)\.", part)
    for part in prose(pages["en"]):
        ours = re.sub(r"`[^`]*`", "", part.replace("\n", " ")).replace(BOOK, "")
        assert not re.search(r"[가-힣]", ours)


def test_the_book_is_named_once_on_the_first_page(pages: dict[str, str]) -> None:
    for page in pages.values():
        assert prose(page)[0].replace("\n", " ").count(BOOK) == 1
        assert page.replace("\n", " ").count(BOOK) == 1


def test_the_books_steps_are_written_out_and_ours_equal_them(pages: dict[str, str]) -> None:
    """What the tour calls equal is equal, and no line of that kind is missing here."""
    shown = statements(pages["ko"])
    for number, lines in shown.items():
        wanted = WRITTEN_OUT.get(number, [])
        assert [line for line in wanted if line not in lines] == [], number
        equalities = [line for line in lines if is_equality(line)]
        assert equalities == [line for line in wanted if is_equality(line)], number
    pairs = re.findall(r"^    >>> (.+)\n    (?!>>>)(.+)$", pages["ko"], re.MULTILINE)
    answers = [shown for line, shown in pairs if is_equality(line)]
    assert answers == ["True"] * 21


def test_the_whole_class_is_shown_at_last(pages: dict[str, str]) -> None:
    """The last `semiGPT`, copied into a file of its own, is a model that learns and writes."""
    source = re.findall(r"    >>> class semiGPT.+\n(?:    \.\.\. .*\n)+", pages["ko"])[-1]
    names: dict[str, Any] = {"torch": torch, "nn": torch.nn, "F": torch.nn.functional}
    exec(re.sub(r"^    (>>>|\.\.\.) ", "", source, flags=re.MULTILINE), names)
    torch.manual_seed(0)
    model, ids = names["semiGPT"](7), torch.arange(6).view(2, 3)
    logits, loss = model(ids, ids + 1)
    assert logits.shape == (2, 3, 7)
    correct = logits.log_softmax(dim=-1).gather(2, (ids + 1)[..., None])
    assert loss.item() == pytest.approx(-correct.mean().item())
    assert model(ids)[1] is None
    written = model.generate(ids, 4)
    assert written.shape == (2, 7)
    assert torch.equal(written[:, :3], ids)


def test_typed_into_python_the_lines_give_the_answers_shown(pages: dict[str, str]) -> None:
    """What the first page claims, in a session that knows nothing of the tour."""
    test = doctest.DocTestParser().get_doctest(pages["ko"], {}, "tour", None, None)
    assert len(test.examples) > 100
    wrong: list[str] = []
    doctest.DocTestRunner(verbose=False).run(test, out=wrong.append)
    assert not wrong, "".join(wrong)


def test_the_numbers_are_those_of_the_text(pages: dict[str, str], text: str) -> None:
    page, V = pages["ko"], len(set(text))
    assert answer(page, "len(ko_text)") == str(len(text))
    assert answer(page, "V") == str(V)
    assert answer(page, "data.shape, data.dtype") == f"(torch.Size([{len(text)}]), torch.int64)"
    assert answer(page, "logits.shape") == f"torch.Size([4, 8, {V}])"
    assert (
        answer(page, "logits.view(32, V).shape, example_y.view(32).shape")
        == f"(torch.Size([32, {V}]), torch.Size([32]))"
    )
    assert (
        answer(page, "round(loss.item(), 4), round(math.log(V), 4)")
        == f"({math.log(V):.4f}, {math.log(V):.4f})"
    )
    assert answer(page, "len(train_ids), len(validation_ids)") == str(
        (int(0.9 * len(text)), len(text) - int(0.9 * len(text)))
    )


def test_a_sentence_of_the_text_comes_back_from_its_ids(pages: dict[str, str], text: str) -> None:
    page, characters = pages["ko"], sorted(set(text))
    (sentence,) = re.findall(r"    >>> sentence = (.+)", page)
    assert sentence.strip("'") in text
    assert answer(page, "token_decode(token_encode(sentence))") == sentence
    ids = [characters.index(character) for character in sentence.strip("'")]
    assert answer(page, "token_encode(sentence)") == str(ids)


def test_a_batch_is_cut_from_the_text(pages: dict[str, str], text: str) -> None:
    chapter = pages["ko"].split("\n8. ")[0].split("\n7. ")[1]
    found = re.findall(r"""^    (['"].+['"])$""", chapter, re.MULTILINE)
    rows = [ast.literal_eval(row) for row in found]
    assert len(rows) == 4
    assert all(len(row) == 8 and row in text for row in rows)


def test_pytorch_says_itself_what_is_wrong(pages: dict[str, str], text: str) -> None:
    V = len(set(text))
    message = f"RuntimeError: Expected target size [4, {V}], got [4, 8]"
    traceback = f"    Traceback (most recent call last):\n        ...\n    {message}"
    assert f"    >>> F.cross_entropy(logits, example_y)\n{traceback}" in pages["ko"]
    assert re.search(r"torch\.int32\)\)\n.+\n.+\n    RuntimeError: .*Int", pages["ko"])


def test_only_the_last_place_feels_a_changed_last_character(pages: dict[str, str]) -> None:
    line = "[round(difference, 4) for difference in differences.tolist()]"
    *before, last = ast.literal_eval(answer(pages["ko"], line))
    assert before == [0.0] * 7
    assert last > 0


def test_the_variance_grows_with_d_and_the_division_takes_it_back(pages: dict[str, str]) -> None:
    found = re.findall(
        r"d=(\d+) undivided: variance ([\d.]+), weight ([\d.]+)\n"
        r"    d=\1 divided: variance ([\d.]+), weight ([\d.]+)",
        pages["ko"],
    )
    assert [row[0] for row in found] == ["8", "32", "128"]
    for d, raw, weight, divided, divided_weight in (map(float, row) for row in found):
        assert d / 2 < raw < 2 * d
        assert 0.5 < divided < 2
        assert divided_weight < weight


def test_a_residual_stack_remembers_its_input(pages: dict[str, str]) -> None:
    found = re.findall(r"layer \d: plain (-?[\d.]+), added ([\d.]+)", pages["ko"])
    assert len(found) == 8
    assert all(abs(float(plain)) < 0.4 < 0.6 < float(added) for plain, added in found)


def test_the_ladder_shows_all_five_rungs(pages: dict[str, str]) -> None:
    rows = re.findall(
        r"^    (\w+) +([\d,]+) +30 steps  loss ([\d.]+)  ([\d.]+) bits per character$",
        pages["en"],
        re.MULTILINE,
    )
    assert [row[0] for row in rows] == ["bigram", "attention", "multihead", "feedforward", "blocks"]
    for _, _, loss, in_bits in rows:
        assert float(in_bits) == pytest.approx(float(loss) / math.log(2), abs=1e-3)
    assert "Run it again with more `--seconds`" in pages["en"].replace("\n", " ")
    assert "guesses best" not in pages["en"]


@pytest.mark.parametrize(
    ("steps", "conclusion"),
    [(ENOUGH_STEPS - 1, "This was too little"), (ENOUGH_STEPS, "`blocks` guesses best")],
)
def test_the_best_rung_is_named_after_enough_steps(steps: int, conclusion: str) -> None:
    (chapter,) = (text for text in read_chapters("en") if text.startswith("# 23. "))
    end = chapter[chapter.index("<!-- if: min(steps") :]
    session = Session({"ENOUGH_STEPS": ENOUGH_STEPS})
    session.run(f"ladder = {{'attention': (9, 10**6, 2.5), 'blocks': (9, {steps}, 2.0)}}")
    assert conclusion in as_text(next(told(end, session, figures=False)), 100)


def test_training_walks_toward_the_counts(spec: str) -> None:
    paragraphs = tour(spec, lang="en", steps=SEEN_LEARNING)
    page = "\n\n".join(takewhile(lambda text: not text.startswith("16. "), paragraphs))
    walk = [
        (float(loss), float(distance))
        for loss, distance in re.findall(r"\d+: loss ([\d.]+), distance ([\d.]+)", page)
    ]
    assert len(walk) == 5
    assert [loss for loss, _ in walk] == sorted((loss for loss, _ in walk), reverse=True)
    assert walk[-1][1] < 0.25 * walk[0][1]
    counted = float(answer(page, 'round(measured(counted, "train").loss, 4)'))
    assert counted < walk[-1][0] < counted + 0.3
    assert "so does the distance" in page
    assert "it begins to imitate" in page
    before, after = ast.literal_eval(answer(page, "before, after"))
    assert len(before) == len(after) == 11
    assert before != after


def test_other_text_than_the_seed_alone_changes_what_is_drawn(
    spec: str, pages: dict[str, str]
) -> None:
    other = "\n\n".join(tour(spec, lang="ko", steps=30, seed=4))
    assert headings(other) == KOREAN
    assert answer(other, "before") != answer(pages["ko"], "before")


def test_the_clock_ends_the_training(spec: str) -> None:
    page = "\n\n".join(tour(spec, lang="ko", seconds=0.5))
    assert headings(page) == KOREAN
    assert "TrainingSettings(minutes=0.00167" in page
    assert "0.1초" in page


@pytest.mark.parametrize(
    "text",
    [
        "가나다라마바사아자차카타파하 가나다라 ",
        "하나뿐인 문서입니다. 짧아도 됩니다!",
        "아" * 40,
        "abcdefgh" * 12,
    ],
)
def test_a_tiny_text_is_enough(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tiny.txt"
    path.write_text(text, encoding="utf-8")
    page = "\n\n".join(tour(str(path), lang="ko", steps=1))
    assert headings(page) == KOREAN
    ours = "".join(prepare_corpus(str(path)).documents("train"))
    assert text.startswith(ours)
    assert answer(page, "V") == str(len(set(ours)))


def test_a_text_shorter_than_two_blocks_is_one_line_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "short.txt"
    path.write_text("너무 짧은 글", encoding="utf-8")
    with pytest.raises(CorpusError, match=r"6 characters.*18.*--data"):
        next(tour(str(path)))


def test_two_blocks_are_just_enough(tmp_path: Path) -> None:
    for length in (19, 20):  # of which 17 and 18 are to learn from
        path = tmp_path / f"{length}.txt"
        path.write_text("가나다라마바사아자차카타파하거너더러머버"[:length], encoding="utf-8")
        paragraphs = tour(str(path), lang="ko", steps=1)
        if length < 20:
            with pytest.raises(CorpusError):
                next(paragraphs)
        else:
            assert headings("\n\n".join(paragraphs)) == KOREAN


@pytest.mark.parametrize(
    "wrong", [{"lang": "fr"}, {"seconds": 0}, {"seconds": math.inf}, {"steps": 0}, {"seed": -1}]
)
def test_what_cannot_be_is_refused(spec: str, wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        next(tour(spec, **wrong))


def at_prompt(source: str, session: Session | None = None) -> list[str]:
    ran = (session or Session()).run(source)
    return "\n".join(map(prompted, ran)).splitlines()


def test_a_session_shows_each_statement_with_its_answer() -> None:
    session = Session()
    assert at_prompt("x = 2\n\nx + 1\nfor i in range(x):\n    print(i)", session) == [
        ">>> x = 2",
        ">>> x + 1",
        "3",
        ">>> for i in range(x):",
        "...     print(i)",
        "0",
        "1",
    ]
    assert session["x"] == 2
    assert session.run("x / 0", mistaken=True)[0].error == "ZeroDivisionError: division by zero"
    with pytest.raises(ZeroDivisionError):
        session.run("x / 0")


def test_what_is_run_aside_is_forgotten() -> None:
    session = Session()
    session.run("x = [1]")
    with session.aside():
        assert session.run("y = x + [2]\ny")[1].value == "[1, 2]"
        session.run("x = y")
    assert session["x"] == [1]
    with pytest.raises(NameError):
        session.run("y")


def test_no_empty_line_ends_a_statement_at_the_prompt() -> None:
    assert at_prompt("class A:\n    x = 1\n\n    y = 2\n\n\nA.y") == [
        ">>> class A:",
        "...     x = 1",
        "...     y = 2",
        ">>> A.y",
        "2",
    ]


def test_a_decorated_function_is_shown_from_its_decorator_on() -> None:
    shown = at_prompt("import functools\n@functools.cache\ndef one():\n    return 1\none()")
    assert shown[1:] == [
        ">>> @functools.cache",
        "... def one():",
        "...     return 1",
        ">>> one()",
        "1",
    ]


def test_code_knows_the_session_alone_and_sentences_know_both() -> None:
    session = Session({"SEED": 7, "unit": "원"})
    assert at_prompt("SEED, 'SEEDS SEEDy'", session) == [
        ">>> 7, 'SEEDS SEEDy'",
        "(7, 'SEEDS SEEDy')",
    ]
    session.run("price = 1200")
    assert (
        session.fill("{price:,}{unit}, `{unit!r}`, {[price, 0][:1]}") == "1,200원, `'원'`, [1200]"
    )
    with pytest.raises(NameError):
        session.run("unit")


CHAPTER = """\
# 1. Title

Two sentences.
One paragraph of {len(name)}.

<!-- let: name = "a" * 3 -->

<!-- if: len(name) == 3 -->

Three.

<!-- else -->

Not {nobody}.

```python
never
```

<!-- end -->

<!-- if: False -->

Not {nobody}.

<!-- end -->

```python
a = 1

b = 2
```

```python raises
1 / 0
```

```python figure
drawn = 1
```

## Exercise

A `b {a}`?

<details>
<summary>Answer</summary>

```python
b = 3
```

</details>

Last of {name}, {b}."""


def test_a_chapter_is_its_blocks() -> None:
    assert list(blocks(CHAPTER)) == [
        Block("heading", "1. Title"),
        Block("paragraph", "Two sentences.\nOne paragraph of {len(name)}."),
        Block("let", 'name = "a" * 3'),
        Block("if", "len(name) == 3"),
        Block("paragraph", "Three."),
        Block("else", ""),
        Block("paragraph", "Not {nobody}."),
        Block("code", "never"),
        Block("end", ""),
        Block("if", "False"),
        Block("paragraph", "Not {nobody}."),
        Block("end", ""),
        Block("code", "a = 1\n\nb = 2"),
        Block("mistake", "1 / 0"),
        Block("figure", "drawn = 1"),
        Block("subheading", "Exercise"),
        Block("paragraph", "A `b {a}`?"),
        Block("fold", "Answer"),
        Block("code", "b = 3"),
        Block("unfold", ""),
        Block("paragraph", "Last of {name}, {b}."),
    ]


def test_a_chapter_is_its_elements() -> None:
    session = Session({"name": "name"})
    one, two, error, figure, three = (
        Ran("a = 1"),
        Ran("b = 2"),
        Ran("1 / 0", error="ZeroDivisionError: division by zero"),
        Ran("drawn = 1"),
        Ran("b = 3"),
    )
    whole: list[Element] = [
        Heading("1. Title"),
        Paragraph(("Two sentences.\nOne paragraph of 4.",)),
        Paragraph(("Three.",)),
        Code((one, two)),
        Code((error,)),
        Code((figure,)),
        Heading("Exercise", level=2),
        Paragraph(("A ", "b 1", "?")),
        Fold("Answer"),
        Code((three,)),
        FoldEnd(),
        Paragraph(("Last of aaa, 2.",)),
    ]
    assert list(told(CHAPTER, session, figures=True)) == whole
    assert session["drawn"] == 1
    session = Session({"name": "name"})
    without = [element for element in whole if element != Code((figure,))]
    assert list(told(CHAPTER, session, figures=False)) == without
    assert [as_text(element, 88) for element in without[:5] + without[6:9]] == [
        "1. Title\n========",
        "Two sentences. One paragraph of 4.",
        "Three.",
        "    >>> a = 1\n    >>> b = 2",
        "    >>> 1 / 0\n    Traceback (most recent call last):\n        ...\n"
        "    ZeroDivisionError: division by zero",
        "A `b 1`?",
        "Answer\n------",
        "    >>> b = 3",
    ]


@pytest.mark.parametrize(
    "mark",
    [
        "<!-- fi: x -->",
        "<!-- else: x -->",
        "<!-- if -->",
        "```\nx\n```",
        "```python\nx",
        "<summary>",
    ],
)
def test_a_mark_that_means_nothing_is_refused(mark: str) -> None:
    with pytest.raises(ValueError, match="not a block|neither|no fold"):
        list(blocks(f"Text.\n\n{mark}\n\nMore."))


def test_both_languages_have_the_same_blocks_and_the_same_code() -> None:
    """File by file, only headings, sentences and their values differ."""
    both = {lang: read_chapters(lang) for lang in ("ko", "en")}
    assert len(both["ko"]) == len(both["en"]) == len(KOREAN) == CHAPTERS
    for number, (korean, english) in enumerate(zip(*both.values(), strict=True), 1):
        pairs = list(zip(blocks(korean), blocks(english), strict=True))
        for ko, en in pairs:
            assert ko.kind == en.kind, number
            worded = ("heading", "subheading", "fold", "paragraph", "let")
            assert ko.kind in worded or ko.text == en.text, number
        for title in pairs[0]:
            assert title.kind == "heading", number
            assert title.text.startswith(f"{number}. "), number


def test_conditions_do_not_nest() -> None:
    for chapter in [*read_chapters("ko"), *read_chapters("en")]:
        marks = [block.kind for block in blocks(chapter) if block.kind in ("if", "else", "end")]
        assert re.fullmatch("(if( else)? end ?)*", " ".join(marks))


def test_a_gpu_is_named_where_there_is_one() -> None:
    (chapter,) = (text for text in read_chapters("ko") if "pick_device" in text)
    sentences = chapter[chapter.rindex("```") + 3 :].lstrip("\n")
    session = Session()
    session.run("import torch\ndevice = torch.device('cuda')")
    said = as_text(next(told(sentences, session, figures=False)), 88)
    assert said.startswith("이 컴퓨터에서는 cuda 장치가 골라졌습니다.")


def test_of_a_long_text_the_beginning_is_read(
    spec: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first_page(longest: int) -> str:
        monkeypatch.setattr("semigpt.tour.LONGEST_TEXT", longest)
        return "\n\n".join(takewhile(lambda page: page[:3] != "2. ", tour(spec, lang="en")))

    whole = first_page(len(text))
    assert answer(whole, "len(ko_text)") == str(len(text))
    assert "All documents together" not in whole
    page = first_page(len(text) - 1)
    assert answer(page, "len(ko_text)") == str(len(text) - 1)
    assert answer(page, "ko_text == beginning") == "True"
    assert f"All documents together have {len(text):,}, which is a lot." in page.replace("\n", " ")
    assert f"we join only the first {len(text) - 1:,} characters" in page.replace("\n", " ")


def test_documents_are_joined_with_nothing_between(tmp_path: Path, korean_text: str) -> None:
    lines = [f"{number}번 글. {korean_text.splitlines()[number % 3]}" for number in range(40)]
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    page = "\n\n".join(takewhile(lambda page: page[:3] != "2. ", tour(str(path))))
    documents = list(prepare_corpus(str(path)).documents("train"))
    assert 1 < len(documents) < len(lines)
    assert answer(page, "len(ko_text)") == str(sum(map(len, documents)))
    assert f"첫 문서는 {len(documents[0])}자입니다." in page


def test_a_sentence_is_the_first_that_says_something() -> None:
    assert first_sentence("- \n!\n가. 오늘은 비가 왔다! 내일은?") == "가."
    assert first_sentence("1\n오늘은 비가 왔다! 내일은?") == "오늘은 비가 왔다!"
    assert first_sentence("아" * 50) == "아" * 40
    assert first_sentence("!") == "!"


def test_a_paragraph_is_broken_where_the_next_word_would_not_fit() -> None:
    assert wrapped("a" * 80 + " 한글 한글바", 88) == "a" * 80 + " 한글\n한글바"
    assert wrapped("a" * 80 + "  한글abc\nd", 88) == "a" * 80 + " 한글abc\nd"
    assert columns("a" * 80 + " 한글abc") == 88


def test_sentences_and_code_fit_a_terminal(pages: dict[str, str]) -> None:
    assert columns("한글 ok") == 7
    for page in pages.values():
        lines = [line for part in prose(page) for line in part.splitlines()]
        assert [line for line in lines if columns(unicodedata.normalize("NFC", line)) > 88] == []
        for lines in statements(page).values():
            # After `>>> `, 4 columns; but the lines that hold the reader's own file and text.
            own = ("corpus = prepare_corpus(", "sentence = ")
            wide = [line for line in lines if columns(line) > 76 and not line.startswith(own)]
            assert wide == []


# Widths, pace and colours of a terminal


def test_nothing_said_is_wider_than_the_terminal(elements: dict[str, list[Element]]) -> None:
    for element in elements["ko"]:
        narrow = as_text(element, 60)
        if isinstance(element, Code):  # a tensor takes 80 columns: no margin in fewer than 84
            assert not narrow.startswith(" ")
            assert as_text(element, 84).startswith("    >>> ")
        elif isinstance(element, Paragraph):
            words = max(map(columns, narrow.split()))
            assert all(columns(line) <= max(60, words) for line in narrow.splitlines())


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def two_chapters() -> Iterator[Iterator[Element]]:
    yield iter([Heading("1. 하나"), Fold("답"), Paragraph(("첫 답",)), FoldEnd()])
    yield iter([Heading("2. 둘"), Code((Ran("print('둘')", printed="둘\n"),))])


@pytest.mark.parametrize(
    ("typed", "shown"), [("\n\n", ("첫 답", "둘")), ("\nq\n", ("첫 답",)), ("q", ()), ("", ())]
)
def test_a_terminal_waits_before_an_answer_and_between_chapters(
    typed: str, shown: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    screen, asked = Screen(), Screen()
    for name, stream in (("stdin", Screen(typed)), ("stdout", screen), ("stderr", asked)):
        monkeypatch.setattr(sys, name, stream)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    show(two_chapters(), "ko")
    plain = re.sub("\x1b\\[[0-9;]*m", "", screen.getvalue())
    assert [text for text in ("첫 답", "둘") if f"\n{text}\n" in plain] == list(shown)
    assert "Enter: 답 보기" in asked.getvalue()
    assert bool(re.search("\x1b\\[32;?[0-9;]*m둘", screen.getvalue())) == ("둘" in shown)


def test_without_a_terminal_nothing_waits(capsys: pytest.CaptureFixture[str]) -> None:
    show(two_chapters(), "ko")
    assert capsys.readouterr() == (
        "1. 하나\n=======\n\n답\n--\n\n첫 답\n\n2. 둘\n=====\n\n>>> print('둘')\n둘\n\n",
        "",
    )


def test_a_tour_begins_where_it_is_asked_to(spec: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tour", "--steps", "1", "--chapter", "22", "--data", spec]) == 0
    out, err = capsys.readouterr()
    assert headings(out) == KOREAN[21:]
    assert err.splitlines()[-1] == "chapter 21 of 23: run, not shown"


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--chapter", "24"], "--chapter is 1 to 23, not 24"),
        (["--chapter", "2", "--html", "a.html"], "--chapter is for the terminal"),
        (["--notebook", "a.html"], "a.html: give it a name that ends in .ipynb"),
        (["--html", "none/a.html"], "there is no folder none; make it first"),
        (["--html", "mine.html"], "mine.html is there already"),
    ],
)
def test_a_file_that_cannot_be_written_is_said_before_anything_runs(
    flags: list[str],
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.html").write_text("mine", encoding="utf-8")
    assert main(["tour", "--data", "no such text", *flags]) == 2
    assert why in capsys.readouterr().err
    assert Path("mine.html").read_text(encoding="utf-8") == "mine"


def test_a_notebook_elsewhere_names_the_text_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = "글.txt\nnews\nhf:a/b\n-#sha256=0\n~/a\n/b"
    assert seen_from(spec, None) == seen_from(spec, Path("a.ipynb")) == spec
    full = spec.replace("글.txt", f"{tmp_path / '글.txt'}")
    assert seen_from(spec, Path("elsewhere/a.ipynb")) == full


# The notebook and the page


def cells_of(elements: list[Element], kind: str) -> list[dict[str, Any]]:
    notebook = json.loads(as_notebook(elements))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def executed(source: str, names: dict[str, Any]) -> tuple[str, str]:
    """What a notebook's cell prints, and its last value as a notebook without IPython writes it."""
    *body, last = ast.parse(source).body
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        if not isinstance(last, ast.Expr):
            body, last = [*body, last], ast.parse("None").body[0]
        exec(compile(ast.Module(body, []), "<cell>", "exec"), names)
        value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)
    return printed.getvalue(), "" if value is None else repr(value)


def test_the_notebook_runs_from_top_to_bottom_to_the_same_answers(
    elements: dict[str, list[Element]],
) -> None:
    names: dict[str, Any] = {}
    cells = cells_of(elements["ko"], "code")
    for number, cell in enumerate(cells, 1):
        printed, value = executed("".join(cell["source"]), names)
        outputs = {"".join(output.get("text", "")) for output in cell["outputs"]}
        outputs |= {
            "".join(output.get("data", {}).get("text/plain", "")) for output in cell["outputs"]
        }
        assert outputs | {""} == {printed, value, ""}, "".join(cell["source"])
        assert cell["execution_count"] == number
    assert len(cells) > 100
    assert issubclass(names["semiGPT"], torch.nn.Module)


def test_the_notebook_is_of_format_4_5(elements: dict[str, list[Element]]) -> None:
    notebook = json.loads(as_notebook(elements["en"]))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert set(notebook) == {"cells", "metadata", "nbformat", "nbformat_minor"}
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch("[a-zA-Z0-9_-]{1,64}", name) for name in ids)
    keys = {"cell_type", "id", "metadata", "source"}
    for cell in notebook["cells"]:
        more = {"outputs", "execution_count"} if cell["cell_type"] == "code" else set()
        assert set(cell) == keys | more
        assert isinstance(cell["source"], list)
        for output in cell.get("outputs", ()):
            kind = output["output_type"]
            assert set(output) == (
                {"output_type", "name", "text"}
                if kind == "stream"
                else {"output_type", "data", "metadata", "execution_count"}
            )


def test_each_chapter_of_the_files_has_an_exercise_and_pictures_where_it_teaches(
    elements: dict[str, list[Element]],
) -> None:
    prose = ["".join(cell["source"]) for cell in cells_of(elements["ko"], "markdown")]
    titles = [text for text in prose if text.startswith("# ")]
    assert titles == [f"# {number}. {title}" for number, title in enumerate(KOREAN, 1)]
    folded = [text for text in prose if text.startswith("<details>\n<summary>답</summary>\n\n")]
    assert len(folded) == prose.count("## 연습") == CHAPTERS
    drawn, chapter = set(), 0
    for element in elements["ko"]:
        chapter += isinstance(element, Heading) and element.level == 1
        if isinstance(element, Code) and any(ran.picture for ran in element.ran):
            drawn.add(chapter)
    assert drawn == {6, 9, 14, 15, 18, 19, 21, 23}


@pytest.mark.parametrize("lang", ["ko", "en"])
def test_the_page_holds_the_tour_and_loads_nothing(
    lang: Any, elements: dict[str, list[Element]]
) -> None:
    page = as_html(elements[lang], lang)
    titles = KOREAN if lang == "ko" else ENGLISH
    for shown in (r'<h2 id="c\d+">\d+\. (.+?)</h2>', r'<li><a href="#c\d+">(.+?)</a></li>'):
        assert list(map(unescape, re.findall(shown, page))) == titles
    assert page.count("<details>") == page.count("</details>") == CHAPTERS
    assert f'<html lang="{lang}">' in page
    assert "<script" not in page
    assert not re.search(r"""src=|href="(?!#)|url\(|@import""", page)
    figures = re.findall(r"<figure.*?</figure>", page, re.DOTALL)
    assert len(figures) == 9
    for figure in figures:
        ET.fromstring(figure)


def test_no_answer_is_markup(tmp_path: Path) -> None:
    """Not the reader's own text either, in a notebook's sentences and on the page."""
    path = tmp_path / "text.txt"
    path.write_text("`<b>$x$</b>` *a*_b_ " * 9, encoding="utf-8")
    settings = TourSettings(spec=f"{path}#by=document", steps=1, figures=True)
    elements = list(chain.from_iterable(chapters(settings)))
    page = as_html(elements, "ko")
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    (first,) = (
        "".join(cell["source"])
        for cell in cells_of(elements, "markdown")
        if "첫 블록 `" in "".join(cell["source"])
    )
    assert re.search(r"첫 블록 ``? .+ ``에서|첫 블록 `[^`]+`에서", first)


def test_pictures_are_drawn_in_characters_where_there_is_no_other_place() -> None:
    picture = heat_map([[1.0, 0.0], [0.3, 0.6]], "가 ", "나\n")
    assert repr(picture) == "   나↵\n가 ██\n ␣ ░░▓▓"
    two = heat_map(torch.eye(2).expand(2, 2, 2), "ab", "ab", "head")
    assert repr(two).splitlines() == [
        "  head 1  head 2",
        "  a b   a b",
        "a ██    ██",
        "b   ██    ██",
    ]
    for drawn in (picture, two, curves({"a": [(1, 2.0), (2, 1.0)]}, "x", "y", {"b": 1.5})):
        assert isinstance(drawn, Picture)
        assert ET.fromstring(drawn._repr_svg_()).tag.endswith("svg")
        assert drawn.html.startswith('<figure class="chart">')


# What is told of a run, and of too little training


def test_why_the_vocabulary_of_a_run_is_larger_is_said(pages: dict[str, str], spec: str) -> None:
    corpus = prepare_corpus(spec)
    trained = train_tokenizer("char", corpus.documents("train"))
    V = int(answer(pages["ko"], "V"))
    assert trained.vocab_size == V + 257
    assert answer(pages["ko"], "CharTokenizer(ko_text).vocab_size - V") == "257"
    assert "V보다 257만큼 큽니다" in pages["ko"].replace("\n", " ")


def test_a_short_training_has_no_moral(pages: dict[str, str]) -> None:
    page = pages["en"].replace("\n", " ")
    assert "30 steps are too few to say that anything was learnt" in page
    assert "it begins to imitate" not in page
    assert "so does the distance" not in page


def test_enough_documents_are_read_and_no_more(spec: str) -> None:
    class Documents:
        def documents(self, split: str) -> Iterator[str]:
            yield from ("가" * 5, "나" * 5, "다" * 5)

    corpus: Any = Documents()
    assert [documents_of(corpus, most) for most in (1, 5, 6, 15)] == [1, 1, 2, 3]
