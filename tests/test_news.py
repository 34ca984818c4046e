"""The bundled corpus: deterministic, well-formed Korean, one derivation for each text."""

import ast
import hashlib
import math
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from semigpt.corpus import news
from semigpt.corpus.news.derivations import derivations
from semigpt.corpus.news.facts import Computed, Facts, Group, Kind, kind_name, reached
from semigpt.corpus.news.frames import (
    Computation,
    Element,
    Frame,
    Literal,
    Mention,
    Particle,
    Wording,
)
from semigpt.corpus.news.grammar import Grammar, Position, Section, Story
from semigpt.corpus.news.load import bundled
from semigpt.corpus.news.particles import PARTICLES, agree
from semigpt.errors import CorpusError

ARTICLES = {split: list(news.rows(split)) for split in news.SPLITS}
TRAIN = ARTICLES["train"]
GRAMMAR = bundled().grammar


# --- the corpus


def test_the_corpus_is_the_one_everybody_has():
    first = "\x1e".join("\x1f".join(article[:7]) for article in TRAIN[:20])
    assert hashlib.sha256(first.encode()).hexdigest() == (
        "7003fab0c676f9842f5c13c5d2516b9da0897a3264af390a558664a990e335f8"
    ), "the grammar changed: every loss published for `news` is now out of date"


def test_articles_depend_on_seed_split_and_place_alone():
    assert list(news.rows("test", articles=500))[:20] == ARTICLES["test"][:20]
    assert [article.document for article in news.rows("train", articles=50, seed=1)] != [
        article.document for article in TRAIN[:50]
    ]


def test_rows_can_begin_anywhere():
    assert list(news.rows("test", first=20)) == ARTICLES["test"][20:]


def test_rows_have_the_columns_of_the_books_dataset():
    for article in TRAIN[:200]:
        row = article.row()
        assert tuple(row) == news.COLUMNS
        assert all(isinstance(value, str) and value for value in row.values())
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", row["date"])
        assert row["link"].startswith("https://news.example.com/")
        day = re.search(r"(?<!\d)(1[1-9]|20)일(?! (만|동안|넘))", row["document"])
        if "day" in news.parse(article.document).facts:
            assert day
            assert int(news.parse(article.document).facts["day"]) == int(row["date"][8:10])


def test_splits_have_the_books_proportions_and_share_no_document():
    assert [news.articles_in(split, news.BOOK_ARTICLES) for split in news.SPLITS] == [
        22_194,
        2_466,
        2_740,
    ]
    assert [news.articles_in(split, 1) for split in news.SPLITS] == [1, 1, 1]
    assert {split: len(rows) for split, rows in ARTICLES.items()} == {
        split: news.articles_in(split) for split in news.SPLITS
    }
    documents = [article.document for rows in ARTICLES.values() for article in rows]
    assert len(set(documents)) == len(documents)


def test_it_is_as_large_and_as_varied_as_promised():
    text = "".join(article.document for article in TRAIN)
    assert 1.9e6 < len(text.encode()) < 2.2e6
    assert len({character for character in text if "가" <= character <= "힣"}) >= 1_260
    assert news.frame_count() >= 300
    assert {article.category for article in TRAIN} == {section.name for section in GRAMMAR.sections}
    lengths = sorted(len(article.document) for article in TRAIN)
    assert lengths[0] > 200
    assert 350 < lengths[len(lengths) // 2] < 700


def test_it_needs_the_standard_library_alone():
    """The generator is on the start-up path: it may import nothing that is slow to load."""
    sources = sorted(Path(news.__file__).parent.rglob("*.py"))
    assert len(sources) >= 10
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                assert (
                    name.split(".")[0] in sys.stdlib_module_names
                    or name in ("semigpt.errors", "semigpt.language")
                    or name.startswith("semigpt.corpus.news")
                ), f"{source.name} imports {name}"


@pytest.mark.parametrize(("split", "articles"), [("dev", 10), ("train", 0)])
def test_a_split_that_is_not_there_is_a_users_error(split: str, articles: int):
    with pytest.raises(CorpusError):
        news.rows(split, articles=articles)


# --- one derivation for each text


def test_texts_parse_back_to_the_one_derivation_that_wrote_them():
    for article in [*TRAIN, *ARTICLES["test"]]:
        (derivation,) = derivations(GRAMMAR, article.document)
        assert math.isclose(derivation.information, article.information, rel_tol=0, abs_tol=1e-9)
        assert derivation.section == article.category
        assert news.text_of(derivation) == article.document


@pytest.mark.parametrize(
    "damage",
    [lambda text: text[:-1], lambda text: text + " ", lambda text: text.replace("다", "댜", 1)],
)
def test_other_texts_are_refused(damage: Callable[[str], str]):
    with pytest.raises(CorpusError, match="bundled news"):
        news.information(damage(TRAIN[0].document))


def test_an_ambiguous_text_is_reported(monkeypatch: pytest.MonkeyPatch):
    twice = news.parse(TRAIN[0].document)
    found = "semigpt.corpus.news.derivations.derivations"
    monkeypatch.setattr(found, lambda grammar, document: [twice, twice])
    with pytest.raises(CorpusError, match="in 2 ways: please report it"):
        news.parse(TRAIN[0].document)


def _kind(name: str, *words: str) -> Kind:
    return Kind(name, (Group((words,)),))


def test_probabilities_of_a_small_grammar_sum_to_one():
    """Every text of a small grammar, by brute force: the parsed probabilities sum to one."""
    kinds = {
        "fruit": _kind("fruit", "감", "감귤", "배"),
        "count": Kind("count", (Group((("1", "12", "2"),), (1, 12, 2)),)),
    }
    twice = Computed(("count",), lambda count: str(2 * count))
    plan = (
        Position((Frame("{fruit:이} {count}개 [있다|없다]."), Frame("{fruit}, {fruit2:을} 샀다."))),
        Position((Frame("{fruit:은} 달다."),), optional=True),
        Position((Frame("{count}개의 두 배는 {=twice}개다."),)),
    )
    story = Story("나", (Frame("{fruit}"),), plan)
    grammar = Grammar((Section("가", (story,)),), kinds, {"twice": twice})
    draw = random.Random(0)
    texts = {
        grammar.write(lambda what, options: draw.randrange(options)).document for _ in range(5_000)
    }
    found = [list(derivations(grammar, text)) for text in texts]
    assert all(len(ways) == 1 for ways in found)
    assert sum(2 ** -ways[0].information for ways in found) == pytest.approx(1)


def test_two_facts_of_a_kind_are_never_the_same():
    kinds = {"fruit": _kind("fruit", "감", "배")}
    plan = (Position((Frame("{fruit}, {fruit2:을} 샀다."),)),)
    story = Story("나", (Frame("{fruit}"),), plan)
    grammar = Grammar((Section("가", (story,)),), kinds, {})
    assert list(derivations(grammar, "감, 감을 샀다.")) == []
    assert len(list(derivations(grammar, "감, 배를 샀다."))) == 1


def test_a_member_is_found_once_where_the_text_ends():
    assert _kind("fruit", "감", "감귤", "배").matches("감", 0) == [(0, 1)]


def test_the_digits_at_the_end_of_a_fact_are_not_its_kinds():
    assert [kind_name(fact) for fact in ("person", "person2", "person10")] == ["person"] * 3


# A proof that no sentence can be written in two ways, by two frames or by one, whatever the facts.
# Each frame is an automaton over characters in which every fact may take any value: it accepts all
# texts that the frame can write, and more. All frames are read at once. A set of states that
# reaches one state along two paths, or that ends in two states, is an ambiguity.

Trie = dict[str, "Trie"]
END = ""


def _trie(words: Iterable[str]) -> Trie:
    root: Trie = {}
    for word in words:
        node = root
        for character in word:
            node = node.setdefault(character, {})
        node[END] = {}
    return root


def _number_trie() -> Trie:
    node: Trie = {}
    node.update(dict.fromkeys("0123456789,.", node))
    node[END] = {}
    return node


class _Automaton:
    """State (f, e, node): in frame f, inside element e, at `node` of that element's trie."""

    def __init__(
        self, grammar: Grammar, frames: Sequence[Frame], tries: dict[object, Trie]
    ) -> None:

        def parts(element: Element) -> Iterator[tuple[object, Iterable[str] | None]]:
            match element:
                case Literal(text):
                    yield (text,), (text,)
                case Wording(options):
                    yield options, options
                case Mention(name):
                    groups = [
                        group for kind in reached(grammar.kinds, name) for group in kind.groups
                    ]
                    for place in range(len(groups[0].parts)):
                        words = [word for group in groups for word in group.parts[place]]
                        yield (name.rstrip("0123456789"), place), words
                case Particle(name):
                    yield ("particle", name), (name, PARTICLES[name])
                case Computation():
                    yield "number", None

        self.rows: list[list[Trie]] = []
        for frame in frames:
            row = []
            for element in frame.elements:
                for key, words in parts(element):
                    if key not in tries:
                        tries[key] = _number_trie() if words is None else _trie(words)
                    row.append(tries[key])
            self.rows.append(row)
        self.nodes: dict[int, Trie] = {}
        self.prefix_free: dict[int, bool] = {}

    def pass_over(self, frame: int, place: int, node: int) -> Counter[tuple[int, int, int]] | None:
        """The states after a whole element, which has one way through: no word begins another."""
        row = self.rows[frame]
        if place == len(row) or node != id(row[place]):
            return None
        if node not in self.prefix_free:
            waiting, free = [row[place]], True
            while waiting and free:
                trie = waiting.pop()
                free = END not in trie or len(trie) == 1
                waiting.extend(trie.values())
            self.prefix_free[node] = free
        if not self.prefix_free[node]:
            return None
        return Counter(
            self.settle(frame, place + 1, row[place + 1] if place + 1 < len(row) else {})
        )

    def settle(self, frame: int, place: int, node: Trie) -> Iterator[tuple[int, int, int]]:
        """The states reached without reading: this one, and the next element's if this can end."""
        row = self.rows[frame]
        if place == len(row):
            yield frame, place, 0
            return
        if any(key != END for key in node):
            self.nodes[id(node)] = node
            yield frame, place, id(node)
        if END in node:
            yield from self.settle(frame, place + 1, row[place + 1] if place + 1 < len(row) else {})


def _ambiguity(
    grammar: Grammar, frames: Sequence[Frame], tries: dict[object, Trie] | None = None
) -> str | None:
    """A text that can be written in two ways, or its beginning; None when there is none.

    `tries` keeps the tries of a grammar's word lists between calls.
    """
    automaton = _Automaton(grammar, frames, {} if tries is None else tries)
    start = Counter(
        state for f in range(len(frames)) for state in automaton.settle(f, 0, automaton.rows[f][0])
    )
    seen: set[frozenset[tuple[int, int, int]]] = set()
    waiting = [(start, "")]
    while waiting:
        states, text = waiting.pop()
        if (
            max(states.values()) > 1
            or sum(place == len(automaton.rows[f]) for f, place, _ in states) > 1
        ):
            return text
        key = frozenset(states)
        if key in seen:
            continue
        seen.add(key)
        if len(states) == 1 and (passed := automaton.pass_over(*next(iter(states)))) is not None:
            waiting.append((passed, text + "…"))
            continue
        following: dict[str, Counter[tuple[int, int, int]]] = {}
        for f, place, node in states:
            if place == len(automaton.rows[f]):
                continue
            for character, child in automaton.nodes[node].items():
                if character != END:
                    following.setdefault(character, Counter()).update(
                        automaton.settle(f, place, child)
                    )
        waiting.extend((reached, text + character) for character, reached in following.items())
    return None


def _all_kinds() -> list[Kind]:
    """Every kind of fact, those that are known of other facts as well."""
    waiting, seen = list(GRAMMAR.kinds.values()), dict[int, Kind]()
    while waiting:
        kind = waiting.pop()
        if id(kind) not in seen:
            seen[id(kind)] = kind
            waiting += [known for group in kind.groups for known in group.attributes.values()]
    return list(seen.values())


def _all_frames() -> list[Frame]:
    return [frame for position in GRAMMAR.positions() for frame in position.frames]


def test_no_sentence_can_be_written_in_two_ways():
    """The first sentence identifies the story; in a story, a sentence has one frame and reading."""
    plans = [story.plan for section in GRAMMAR.sections for story in section.stories]
    tries: dict[object, Trie] = {}
    assert _ambiguity(GRAMMAR, [frame for plan in plans for frame in plan[0].frames], tries) is None
    for plan in plans:
        assert (
            _ambiguity(GRAMMAR, [frame for position in plan for frame in position.frames], tries)
            is None
        )


def test_the_proof_finds_ambiguities():
    kinds = {
        "fruit": _kind("fruit", "감", "감귤", "배"),
        "peel": _kind("peel", "귤껍질", "껍질"),
    }
    grammar = Grammar((), kinds, {})
    assert _ambiguity(grammar, [Frame("{fruit} {peel}.")]) is None
    assert _ambiguity(grammar, [Frame("{fruit}{peel}.")]) == "감귤껍질"
    assert _ambiguity(grammar, [Frame("{fruit:이} 좋다."), Frame("배가 [참 |]좋다.")]) is not None
    assert _ambiguity(grammar, [Frame("{fruit}[가|가 참] 좋다."), Frame("배가 좋다.")]) is not None


def test_sentences_and_stories_can_be_told_apart():
    """Sentences end where a full stop meets white space; the first one identifies the story."""
    for frame in _all_frames():
        assert frame.template.endswith(".")
        assert "\n" not in frame.template
        assert ". " not in frame.template
        for element in frame.elements:
            if isinstance(element, Wording):
                assert len(set(element.options)) == len(element.options), (
                    f"the same wording twice in {frame.template}"
                )
    for kind in _all_kinds():
        for group in kind.groups:
            for part in group.parts:
                assert len(set(part)) == len(part), f"{kind.name} has the same member twice"
                assert not any("\n" in text or ". " in text or text.endswith(".") for text in part)
        # The proof above reads members part by part, over all groups: their texts have to differ.
        if len(kind.groups) > 1:
            members = [kind.text(member) for member in range(kind.size)]
            assert len(set(members)) == len(members), f"{kind.name} has a member in two groups"
            assert len({len(group.parts) for group in kind.groups}) == 1
    plans = [story.plan for section in GRAMMAR.sections for story in section.stories]
    leads = Counter(frame.template for plan in plans for frame in plan[0].frames)
    assert max(leads.values()) == 1
    for plan in plans:
        assert not plan[0].optional
        templates = [frame.template for position in plan for frame in position.frames]
        assert len(set(templates)) == len(templates)
        assert all(position.sentences <= len(position.frames) for position in plan)
    assert len({frame.template for frame in _all_frames()}) == len(_all_frames())


def _possible(fact: str, given: Facts) -> list[Kind]:
    """The kinds that a fact can be of in a story. Raises `KeyError` where one lacks it."""
    parent, _, last = fact.rpartition(".")
    name = kind_name(last)
    if not parent:
        return [GRAMMAR.kinds[name]]
    if parent in given:
        return [given[parent].attribute(name)]
    kinds = [group.attributes[name] for kind in _possible(parent, given) for group in kind.groups]
    return list({id(kind): kind for kind in kinds}.values())


def test_everything_said_of_a_fact_comes_after_the_fact():
    """{company.goods} and {=profit_before} stand where what they need is surely mentioned."""

    def check(frame: Frame, known: set[str], given: Facts) -> set[str]:
        known = set(known)
        for element in frame.elements:
            match element:
                case Mention(name):
                    parent = name.rpartition(".")[0]
                    assert not parent or parent in known, f"{name} is too early: {frame.template}"
                    _possible(name, given)
                    known.add(name)
                case Computation(name):
                    assert set(GRAMMAR.computed[name].sources) <= known, (
                        f"{name} is too early in: {frame.template}"
                    )
        return known

    def follows(fact: str, known: set[str], given: Facts) -> bool:
        parent = fact.rpartition(".")[0]
        return fact in known or (
            parent in known and all(kind.size == 1 for kind in _possible(fact, given))
        )

    for section in GRAMMAR.sections:
        for told in section.stories:
            known = set(told.given)
            for position in told.plan:
                after = [check(frame, known, told.given) for frame in position.frames]
                if not position.optional:
                    known = set.intersection(*after)
            assert any(
                all(follows(fact, known, told.given) for fact in headline.mentions)
                for headline in told.headlines
            ), told.name
            for headline in told.headlines:
                named = {fact for fact in headline.mentions if "." not in fact}
                check(headline, known | named, told.given)


def test_lists_are_long_enough_for_all_that_is_drawn_from_them():
    """Two facts of a kind differ, so a story may not mention more of them than there are."""
    for section in GRAMMAR.sections:
        for told in section.stories:
            mentioned: dict[int, set[str]] = {}
            kinds: dict[int, Kind] = {}
            for fact in {f for p in told.plan for frame in p.frames for f in frame.mentions}:
                for kind in _possible(fact, told.given):
                    kinds[id(kind)] = kind
                    mentioned.setdefault(id(kind), set()).add(fact)
            for place, facts in mentioned.items():
                kind = kinds[place]
                assert kind.size == 1 or len(facts) <= kind.size, (told.name, kind.name, facts)


# --- Korean


@pytest.mark.parametrize(
    ("word", "particle", "form"),
    [
        ("사람", "은", "은"), ("바다", "은", "는"), ("물", "으로", "로"), ("불", "을", "을"),
        ("집", "으로", "으로"), ("나무", "으로", "로"), ("서울", "과", "과"), ("3", "은", "은"),
        ("4", "이", "가"), ("7", "으로", "로"), ("8", "으로", "로"), ("6", "으로", "으로"),
        ("10", "을", "을"), ("2.5", "을", "를"), ("3.0", "이", "이"), ("100", "은", "은"),
        ("1,000", "과", "과"), ("1,000,000,000,000", "이", "가"), ("5%", "으로", "로"),
        ("5%", "을", "를"), ("TV", "은", "는"), ("URL", "으로", "로"), ("URL", "이", "이"),
        ("ATM", "이", "이"), ("LAN", "을", "을"), ("5kg", "을", "을"), ("3m", "은", "는"),
        ("‘바람’", "은", "은"), ("‘나비’", "이", "가"), ("김민수(34)", "은", "는"),
        ("강석(41)", "이", "이"), ("℃", "을", "를"), ("3-1", "으로", "로"), ("3-2", "으로", "로"),
        ("3-0", "으로", "으로"), ("길", "으로부터", "로부터"), ("손", "이라고", "이라고"),
        ("차", "이라고", "라고"), ("책", "이다", "이다"), ("개", "이었다", "였다"),
    ],
)  # fmt: skip
def test_particles_agree_with_what_is_read_aloud(word: str, particle: str, form: str):
    assert agree(word, particle) == form


def test_particles_written_in_frames_agree():
    """A particle written out after a choice of wording must fit every one of the wordings."""
    named = {form: name for name, after_vowel in PARTICLES.items() for form in (name, after_vowel)}
    written = re.compile(r"\[([^\]]*)\](은|는|이|가|을|를|과|와|으로|로)(?=[ ,.])")
    for frame in _all_frames():
        for options, form in written.findall(frame.template):
            for option in filter(None, options.split("|")):
                assert agree(option, named[form]) == form, frame.template


def test_particles_agree_throughout_the_corpus():
    """Particles after names in the text, checked by a second rule from Unicode's layout."""
    checked = 0
    for article in TRAIN[::4]:
        for name in set(news.parse(article.document).facts.values()):
            if not "가" <= name[-1] <= "힣":
                continue
            final = (ord(name[-1]) - ord("가")) % 28
            for form in re.findall(
                re.escape(name) + r"(은|는|을|를|으로|로|과|와)(?=[ ,])", article.document
            ):
                wanted = {"은": final, "을": final, "과": final, "으로": final and final != 8}.get(
                    form, not final or (form == "로" and final == 8)
                )
                assert wanted, f"{name}{form} in {article.document}"
                checked += 1
    assert checked > 2_500


def test_headlines_and_summaries_tell_the_articles_facts():
    for article in TRAIN[:500]:
        numbers = set(re.findall(r"\d[\d,.]*\d|\d", article.document))
        for number in re.findall(r"\d[\d,.]*\d|\d", article.title):
            assert number in numbers, (article.title, article.document)
        assert article.summary != article.document


def test_the_fingerprint_follows_the_grammar(monkeypatch: pytest.MonkeyPatch):
    before = news.fingerprint()
    assert before == "cea41ab2f543f40acb9c32b89fd4516c48e9c05df14945ed32c3ad570769fd59"
    assert GRAMMAR.fingerprint() == before
    monkeypatch.setitem(PARTICLES, "이라서", "라서")
    assert GRAMMAR.fingerprint() != before
