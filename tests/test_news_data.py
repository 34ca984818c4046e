"""The data files of the bundled news: what is broken in one is refused by file and key."""

import subprocess
import sys
from pathlib import Path

import pytest

from semigpt.corpus import news
from semigpt.corpus.news.load import bundled, load
from semigpt.errors import CorpusError

FILES = {
    "news.toml": """
sections = ["fruit"]
words = ["words"]
press = "아침일보, 저녁일보"
""",
    "words.toml": """
taste = "달다, 시다"
saying = '''
참, 정말
+ 좋다,
싫다
'''

[lists]
stems = "해솔, 별솔"

[farm]
parts = ['{stems}', '농장, 과수원']

[place]
within = "province"
members = '''
경기: 수원,
성남
강원: 속초
'''

[work]
parts = ['‘{stems} ', '{place.name}’', ' 가, 나']

[fruit]
attribute = "unit"
members = "감 (한 접), 배 (한 개)"

[produce]
members = "파, 무"
its.price = [2_000, 4_000, 1_000]

[[shop]]
members = "빵집, 떡집"
its.goods = "빵, 떡, 엿"
its.seats = [2, 4]
its.fruit = "{fruit}"

[[shop]]
members = "찻집"
its.goods = "차"
its.seats = [4, 4]
its.fruit = "{fruit}"
""",
    "amounts.toml": """
[words]
score = "3-0, 3-1"
[plain]
profit = [100, 200]
count = [8, 12]
price = [2_000, 4_000, 1_000]
[year]
founded = [2024, 2025]
[tenths]
rise = [19, 21]
[hundredths]
share = [1_204, 1_205]
["조"]
sales = [9_999, 10_001]
["억"]
contract = [20_000, 20_000]
["만"]
crowd = [12_300, 12_300]
""",
    "fruit.toml": """
name = "과일"

[shared.taste]
optional = true
frames = '''
{fruit:은} {taste}.
'''

[stories.sale]
name = "판매"
months = [9, 10]
given.shop = "떡집"
headlines = '''
{farm} {fruit} {fruit.unit}
{farm} 열었다
'''

[[stories.sale.plan]]
sentences = 2
paragraph = true
frames = '''
{farm:은} {fruit:을} [판다|내놓았다].
{produce} 값은 {produce.price}원, 전에는 {rise}% 낮은 {=price_before}원이었다.
'''

[[stories.sale.plan]]
shared = "taste"

[[stories.sale.plan]]
shared = "taste"
""",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_a_small_grammar_is_what_its_files_say(folder: Path):
    grammar, press = load(folder)
    assert press == ("아침일보", "저녁일보")
    (section,) = grammar.sections
    (story,) = section.stories
    assert (section.name, story.name, story.months) == ("과일", "판매", (9, 10))
    assert {name: fact.text for name, fact in story.given.items()} == {"shop": "떡집"}
    assert [frame.template for frame in story.headlines] == [
        "{farm} {fruit} {fruit.unit}",
        "{farm} 열었다",
    ]
    sale, taste, again = story.plan
    assert taste is again
    assert (sale.sentences, sale.optional, sale.paragraph) == (2, False, True)
    assert (taste.sentences, taste.optional, taste.paragraph) == (1, True, False)
    assert [frame.template for frame in taste.frames] == ["{fruit:은} {taste}."]


def test_every_way_of_listing_words_and_numbers(folder: Path):
    kinds = load(folder).grammar.kinds
    texts = {name: [kind.text(i) for i in range(kind.size)] for name, kind in kinds.items()}
    assert [name for name in texts if name in ("taste", "farm", "shop")] == [
        "taste",
        "farm",
        "shop",
    ]

    def known(name: str, attribute: str) -> list[list[str]]:
        """What is known of each member of a kind."""
        found = [kinds[name].attribute(member, attribute) for member in range(kinds[name].size)]
        return [[kind.text(i) for i in range(kind.size)] for kind in found]

    assert texts["taste"] == ["달다", "시다"]
    assert texts["saying"] == ["참 좋다", "참 싫다", "정말 좋다", "정말 싫다"]
    assert texts["farm"] == ["해솔농장", "해솔과수원", "별솔농장", "별솔과수원"]
    assert len(texts["work"]) == 2 * 3 * 2
    assert texts["work"][1] == "‘해솔 수원’나"
    assert texts["place"] == ["경기 수원", "경기 성남", "강원 속초"]
    assert known("place", "name") == [["수원"], ["성남"], ["속초"]]
    assert known("place", "province") == [["경기"], ["경기"], ["강원"]]
    assert texts["fruit"] == ["감", "배"]
    assert known("fruit", "unit") == [["한 접"], ["한 개"]]
    assert texts["shop"] == ["빵집", "떡집", "찻집"]
    assert known("shop", "goods") == [["빵", "떡", "엿"], ["빵", "떡", "엿"], ["차"]]
    assert kinds["shop"].attribute(0, "seats").groups[0].numbers == (2, 3, 4)
    assert kinds["shop"].attribute(2, "fruit") is kinds["fruit"]
    assert texts["count"] == ["8", "9", "10", "11", "12"]
    assert kinds["count"].groups[0].numbers == (8, 9, 10, 11, 12)
    assert texts["price"] == ["2,000", "3,000", "4,000"]
    assert texts["founded"] == ["2024", "2025"]
    assert texts["rise"] == ["1.9", "2.0", "2.1"]
    assert texts["share"] == ["12.04", "12.05"]
    assert texts["sales"] == ["9,999", "1조", "1조 1"]
    assert texts["contract"] == ["2억"]
    assert texts["crowd"] == ["1만 2,300"]
    assert texts["score"] == ["3-0", "3-1"]
    assert kinds["score"].groups[0].numbers == ()


# The file, a text in it, what stands there instead, and what the error says.
BROKEN = {
    "no such file": ("news.toml", '["words"]', '["word"]', "word.toml: no such file"),
    "not TOML": ("news.toml", 'press = "', "press = ", "news.toml: "),
    "missing": ("fruit.toml", 'name = "과일"\n', "", "fruit.toml: name: missing"),
    "missing frames": (
        "fruit.toml",
        "frames = '''\n{fruit:은} {taste}.\n'''",
        "",
        "fruit.toml: shared.taste.frames: missing: it has to be text",
    ),
    "missing headlines": (
        "fruit.toml",
        "headlines = '''\n{farm} {fruit} {fruit.unit}\n{farm} 열었다\n'''",
        "",
        "fruit.toml: stories.sale.headlines: missing: it has to be text",
    ),
    "unknown key": ("fruit.toml", "optional =", "option =", "shared.taste.option: no such key"),
    "unknown key of a section": ("fruit.toml", "name =", "nome =", "fruit.toml: nome: no such key"),
    "unknown key of the index": ("news.toml", "press =", "pres =", "news.toml: pres: no such key"),
    "unknown key of a kind": (
        "words.toml",
        "attribute =",
        "atribute =",
        "words.toml: fruit.atribute: no such key",
    ),
    "two ways of listing": (
        "words.toml",
        "[place]",
        "[place]\nparts = ['가']",
        "place.within: no such",
    ),
    "another type": ("fruit.toml", "= true\nframes", "= 1\nframes", "has to be true or false"),
    "true for a number": (
        "fruit.toml",
        "= 2",
        "= true",
        "sentences: True has to be a whole number",
    ),
    "unknown kind": (
        "fruit.toml",
        "{farm} 열었다",
        "{form} 열었다",
        "fruit.toml: stories.sale.headlines: line 2: no kind of fact is called 'form'",
    ),
    "unknown attribute": (
        "fruit.toml",
        "{fruit.unit}",
        "{fruit.size}",
        "fruit has no attribute size",
    ),
    "unknown number": ("fruit.toml", "{=price_", "{=prize_", "line 2: nothing is computed that is"),
    "unknown particle": ("fruit.toml", "{fruit:은}", "{fruit:는}", "no particle is called 는"),
    "a brace too few": ("fruit.toml", "{farm} 열었다", "{farm 열었다", "line 2: { is part of no"),
    "a bracket too many": (
        "fruit.toml",
        "열었다",
        "열었다]",
        "line 2: ] is part of no placeholder",
    ),
    "given that there is none of": (
        "fruit.toml",
        'given.shop = "떡집"',
        'given.shop = "꽃집"',
        "stories.sale.given.shop: no kind of fact of this name has the member 꽃집",
    ),
    "unknown kind that is known of another": (
        "words.toml",
        'its.fruit = "{fruit}"',
        'its.fruit = "{berry}"',
        "words.toml: shop[1].its.fruit: no kind of fact above is called berry",
    ),
    "nothing in braces": ("fruit.toml", "{farm} 열었다", "{} 열었다", "line 2: { is part of no"),
    "unknown shared": (
        "fruit.toml",
        'shared = "taste"\n\n',
        'shared = "tast"\n\n',
        "fruit.toml: stories.sale.plan[2].shared: no shared position is called tast",
    ),
    "shared and more": (
        "fruit.toml",
        'shared = "taste"\n\n',
        'shared = "taste"\noptional = true\n',
        "plan[2]",
    ),
    "no month": ("fruit.toml", "[9, 10]", "[9, 13]", "stories.sale.months: 13 is not a month"),
    "empty months": ("fruit.toml", "[9, 10]", "[]", "stories.sale.months: the list is empty"),
    "empty frames": (
        "fruit.toml",
        "'''\n{fruit:은} {taste}.\n'''",
        "''",
        "fruit.toml: shared.taste.frames: the text is empty",
    ),
    "an empty line": (
        "fruit.toml",
        "{farm} 열었다",
        "\n{farm} 열었다",
        "headlines: line 2 is empty",
    ),
    "too few frames": ("fruit.toml", "sentences = 2", "sentences = 3", "3 of 2 frames"),
    "no sentences": ("fruit.toml", "sentences = 2", "sentences = 0", "plan[1].sentences: 0 of 2"),
    "no sections": ("news.toml", '["fruit"]', "[]", "news.toml: sections: the list is empty"),
    "a section that is no text": ("news.toml", '["fruit"]', "[1]", "sections[1]: 1 has to be text"),
    "empty list": ("words.toml", '"달다, 시다"', '" , "', "words.toml: taste: the list is empty"),
    "empty second list": (
        "words.toml",
        "좋다,\n싫다",
        ",",
        "words.toml: saying: the list is empty",
    ),
    "twice": (
        "words.toml",
        '"달다, 시다"',
        '"달다, 달다"',
        "words.toml: taste: 달다 is in the list twice",
    ),
    "attribute and within": (
        "words.toml",
        'attribute = "unit"',
        'attribute = "unit"\nwithin = "basket"',
        "words.toml: fruit.members: basket is missing before: 감 (한 접)",
    ),
    "within and more": (
        "words.toml",
        'within = "province"',
        'within = "province"\nwhere = "x"',
        "words.toml: place.where: no such key here: choose from members, attribute, within",
    ),
    "unknown list": (
        "words.toml",
        "'{stems}'",
        "'{stem}'",
        "farm.parts[1]: no list is called stem",
    ),
    "no attribute": ("words.toml", " (한 개)", "", "fruit.members: 배 has no unit in brackets"),
    "no province": ("words.toml", "경기: ", "", "place.members: province is missing before: 수원"),
    "a kind of another file": (
        "amounts.toml",
        "count =",
        "taste =",
        "words.toml: taste: a kind of",
    ),
    "a kind of another table": (
        "amounts.toml",
        "founded =",
        "price =",
        "year.price: a kind of fact",
    ),
    "a kind with a digit": ("words.toml", "taste =", "taste2 =", "words.toml: taste2: the name of"),
    "unknown style": ("amounts.toml", "[year]", "[decade]", "amounts.toml: decade: no such key"),
    "backward range": ("amounts.toml", "[8, 12]", "[12, 8]", "plain.count: [12, 8] has to be"),
    "backward range with a step": (
        "amounts.toml",
        "[8, 12]",
        "[12, 8, 1]",
        "plain.count: [12, 8, 1] has to be",
    ),
    "step of zero": ("amounts.toml", "[8, 12]", "[8, 12, 0]", "plain.count: [8, 12, 0] has to be"),
    "four numbers": ("amounts.toml", "[8, 12]", "[8, 12, 1, 1]", "[8, 12, 1, 1] has to be"),
    "a source that is no number": (
        "amounts.toml",
        "[plain]\nprofit = [100, 200]",
        'profit = "100, 200"\n[plain]',
        "amounts.toml: profit: missing: other",
    ),
    "no source": ("amounts.toml", "profit =", "loss =", "amounts.toml: profit: missing: other"),
}


@pytest.mark.parametrize(("file", "old", "new", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_refused_by_file_and_key(
    folder: Path, file: str, old: str, new: str, message: str
):
    text = FILES[file]
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(CorpusError) as raised:
        load(folder)
    assert message in str(raised.value)
    assert str(raised.value).startswith("bundled news: ")
    assert "\n" not in str(raised.value)


def test_a_section_without_stories_is_refused(folder: Path):
    (folder / "fruit.toml").write_text("name = '과일'\n[stories]\n", encoding="utf-8")
    with pytest.raises(CorpusError, match=r"fruit\.toml: stories: the section has no story"):
        load(folder)


def test_a_file_that_is_not_utf8_is_refused(folder: Path):
    (folder / "fruit.toml").write_bytes("name = '과일'".encode("cp949"))
    with pytest.raises(CorpusError, match=r"bundled news: fruit\.toml: "):
        load(folder)


def test_the_data_is_read_once_and_only_when_used():
    assert bundled() is bundled()
    code = (
        "import sys, semigpt, semigpt.corpus.news as n; exit(f'{n.__name__}.load' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_data_file_is_used_and_packaged():
    folder = Path(news.__file__).parent / "data"
    index = (folder / "news.toml").read_text(encoding="utf-8")
    names = {path.stem for path in folder.iterdir()}
    assert all(f'"{name}"' in index for name in names - {"news", "amounts"})
    assert {path.suffix for path in folder.iterdir()} == {".toml"}
    project = (Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8")
    assert '"corpus/news/data/*.toml"' in project
