"""The bundled news makes sense: what drawn articles say, read by patterns, against the tables."""

import re
from collections.abc import Iterable, Iterator
from functools import cache

import pytest

from semigpt.corpus import news
from semigpt.corpus.news.facts import Group, Kind
from semigpt.corpus.news.load import bundled

ARTICLES = list(news.rows("train", articles=1_000, seed=11))
KINDS = bundled().grammar.kinds
NUMBER = r"\d[\d,]*(?:\.\d+)?"

# Who is in charge of what, beside the tables.
MINISTRIES = {
    "물가": {"농림축산식품부"},
    "부동산": {"국토교통부"},
    "투자": {"산업통상자원부"},
    "수출": {"산업통상자원부"},
    "인공지능": {"과학기술정보통신부"},
    "연구": {"과학기술정보통신부"},
    "보안": {"개인정보보호위원회"},
    "교육": {"교육부"},
    "건강": {"보건복지부"},
    "태풍": {"행정안전부"},
    "문화재": {"국가유산청"},
}
EVERY_MINISTRY = {name for names in MINISTRIES.values() for name in names} | {
    *("기획재정부", "해양수산부", "중소벤처기업부", "문화체육관광부", "산림청", "특허청"),
}


def texts(kind: Kind) -> tuple[str, ...]:
    return tuple(map(kind.text, range(kind.size)))


def groups(name: str) -> Iterator[tuple[str, Group]]:
    """Every member of a kind with its group."""
    for group in KINDS[name].groups:
        for member in range(group.size):
            yield group.text(member), group


def known(group: Group, attribute: str) -> tuple[str, ...]:
    return texts(group.attributes[attribute])


def any_of(words: Iterable[str]) -> str:
    """A pattern of words, the longest first."""
    return "(?:" + "|".join(map(re.escape, sorted(set(words), key=len, reverse=True))) + ")"


def value(number: str) -> float:
    return float(number.replace(",", ""))


def found(pattern: str, story: str | None = None) -> list[tuple[news.Article, re.Match[str]]]:
    """What a pattern finds in the sentences of the articles, which is something."""
    hits = [
        (article, hit)
        for article in ARTICLES
        if story is None or stories()[article.link] == story
        for line in (article.title, *re.split(r"(?<=\.)\s", article.document))
        for hit in re.finditer(pattern, line)
    ]
    assert hits, f"nothing is said of {pattern[:60]}"
    return hits


@cache
def stories() -> dict[str, str]:
    """The story of each article by its link."""
    return {article.link: news.parse(article.document).story for article in ARTICLES}


# --- sport


def test_the_margin_of_an_event_is_in_its_unit():
    """A javelin is not won by seconds."""
    events = dict(groups("athletics"))
    name = any_of(events)
    for article, hit in found(rf"({NUMBER})(초|㎝|m|점) (?:차|앞|줄|단|높|늘|넘|경|끌)", "육상"):
        named = re.findall(name, hit.string) or re.findall(name, article.document)
        assert hit[2] in known(events[named[0]], "unit"), hit.string
        margins = events[named[0]].attributes["margin"]
        assert hit[1] in texts(margins), hit.string
    for _, hit in found(rf"기록을 {NUMBER}(초|㎝|m|점) ([가-힣]+며)"):
        assert (hit[1] == "초") == (hit[2] in {"앞당기며", "줄이며", "단축하며"}), hit.string


def test_a_contest_has_its_own_holds_and_scores():
    contests = dict(groups("contest"))
    moves = {move: group for _, group in groups("contest") for move in known(group, "move")}
    for article, hit in found(any_of(moves), "투기·양궁"):
        contest = re.search(any_of(contests), article.document)
        assert contest is not None
        assert hit[0] in known(contests[contest[0]], "move"), article.document
    for article, hit in found(r"(\d+-\d+)로 (?:꺾|누르|물리|이기)", "투기·양궁"):
        contest = re.search(any_of(contests), article.document)
        assert contest is not None
        assert hit[1] in known(contests[contest[0]], "score"), article.document


def test_a_season_is_counted_as_its_league_counts():
    leagues = dict(groups("league"))
    for article, hit in found(rf"지난 시즌 ({NUMBER})경기에 나서 ({NUMBER})(골|홈런|점)", "이적"):
        league = re.search(any_of(leagues), article.document)
        assert league is not None
        for place, attribute in enumerate(("games", "points", "unit"), 1):
            assert hit[place] in known(leagues[league[0]], attribute), hit.string


def test_a_winner_has_more_than_a_loser():
    for story in ("축구", "야구", "배구"):
        for _, hit in found(r"(?<!\d)(\d+)-(\d+)(?!\d)", story):
            assert int(hit[1]) > int(hit[2]), hit.string
    for _, hit in found(r"(\d+)연승을 달리며 승점 (\d+)"):
        assert int(hit[2]) >= 3 * int(hit[1]), hit.string


# --- companies, ministries, money


def test_a_company_makes_what_its_branch_makes():
    company = re.compile(any_of(text for text, _ in groups("company")))
    by_name = dict(groups("company"))
    makers = {
        good: [g for g in KINDS["company"].groups if good in known(g, "goods")]
        for _, group in groups("company")
        for good in known(group, "goods")
    }
    pattern = (
        rf"({any_of(makers)})(?:이|가|을|를)? "
        r"(?:공장|생산 기지|매출|판매|부문|사업|주문|수요|수출액|업체|공급|수출)"
    )
    for story in ("실적", "투자", "수출", "증시"):
        for article, hit in found(pattern, story):
            named = {by_name[name] for name in company.findall(article.document)}
            assert named & set(makers[hit[1]]), (hit.string, article.document)
    for article, hit in found(
        rf"해마다 ({any_of(makers)}) ({NUMBER})([만억]? ?[대개장톤상자척점]+)을"
    ):
        (maker,) = {by_name[name] for name in company.findall(article.document)}
        assert hit[2] in known(maker, "output"), hit.string
        assert hit[3] in known(maker, "unit"), hit.string


def test_a_ministry_speaks_of_its_own_subject():
    told = {story: any_of(EVERY_MINISTRY) for story in MINISTRIES}
    for story, pattern in told.items():
        for _, hit in found(pattern, story):
            assert hit[0] in MINISTRIES[story], (story, hit.string)
    policies = {
        policy: {known(g, "ministry")[0] for g in KINDS["topic"].groups if policy in _policies(g)}
        for group in KINDS["topic"].groups
        for policy in _policies(group)
    }
    for _, hit in found(rf"({any_of(EVERY_MINISTRY)})[^.]*?({any_of(policies)})"):
        assert hit[1] in policies[hit[2]], hit.string


def _policies(group: Group) -> tuple[str, ...]:
    return known(group, "policy") if "policy" in group.attributes else ()


def test_prices_are_of_the_thing_and_rise_where_they_are_said_to():
    crops = dict(groups("produce"))
    pattern = (
        rf"({any_of(crops)}) ([^ ]+ ?[^ ]*)의 (?:평균|도매|소매) 가격은 ({NUMBER})원.*?({NUMBER})원"
    )
    for article, hit in found(pattern, "물가"):
        assert hit[2] in known(crops[hit[1]], "unit"), hit.string
        assert hit[3] in known(crops[hit[1]], "price"), hit.string
        rise = re.search(rf"({NUMBER})%", article.document)
        assert rise is not None
        now, before = value(hit[3]), value(hit[4])
        assert now > before, hit.string
        assert 100 * (now / before - 1) == pytest.approx(value(rise[1]), abs=0.6), hit.string


def test_profits_grow_by_what_is_said():
    for article, hit in found(rf"(?<![\d.])({NUMBER})% .*?({NUMBER})억 원(?:이었다|에)", "실적"):
        profit = re.search(rf"영업이익[^\d]*({NUMBER})억", article.document)
        assert profit is not None
        grown = 100 * (value(profit[1]) / value(hit[2]) - 1)
        assert grown == pytest.approx(value(hit[1]), abs=0.6), article.document
        sales = re.search(rf"매출[은도] (?:(\d)조 )?({NUMBER})억", article.document)
        if sales:
            assert value(profit[1]) < 0.25 * (10_000 * int(sales[1] or 0) + value(sales[2]))


def test_devices_weigh_and_cost_what_such_devices_do():
    devices = {
        text: group
        for kind in ("gadget", "robot", "health_gadget", "media_gadget")
        for text, group in groups(kind)
    }
    for pattern, attribute in (
        (rf"무게는 ({NUMBER})g", "grams"),
        (rf"(?:두께는|두꺼운 곳은) ({NUMBER})㎜", "thick"),
        (rf"(?:값은|가격은) ({NUMBER})만 원", "price"),
        (rf"공개…({NUMBER})만 원대", "price"),
        (rf"충전하면 ({NUMBER})시간", "hours"),
    ):
        for article, hit in found(pattern, "신제품"):
            device = re.search(any_of(devices), article.document)
            assert device is not None
            assert hit[1] in known(devices[device[0]], attribute), (device[0], hit.string)


# --- things and their places


def test_animals_weigh_what_they_weigh_and_come_from_where_they_live():
    animals = dict(groups("animal"))
    for _, hit in found(rf"무게 ({NUMBER})㎏인 이 ({any_of(animals)})[은는] (.*?)에서"):
        assert hit[1] in known(animals[hit[2]], "kilos"), hit.string
        assert hit[3] in known(animals[hit[2]], "home"), hit.string


def test_finds_belong_to_their_age():
    ages = dict(groups("dynasty"))
    relics = {relic for _, group in groups("dynasty") for relic in known(group, "relic")}
    for _, hit in found(rf"({any_of(ages)}) ({any_of(relics)})", "문화재"):
        assert hit[2] in known(ages[hit[1]], "relic"), hit.string


def test_the_seen_mountains_are_those_of_the_province():
    places = {f"{known(g, 'province')[0]} {known(g, 'name')[0]}": g for _, g in groups("place")}
    pattern = r"멀리 ([가-힣]+)[과와] ([가-힣]+?)[이가] (?:한눈|내려)"
    for article, hit in found(pattern, "지역"):
        place = re.search(any_of(places), article.document)
        assert place is not None
        assert hit[1] in known(places[place[0]], "mountain"), article.document
        assert hit[2] in known(places[place[0]], "river"), article.document


def test_heads_of_government_have_the_title_of_their_country():
    countries = dict(groups("country"))
    for _, hit in found(rf"({any_of(countries)}) (대통령|총리)[은는]", "정상회담"):
        assert hit[2] in known(countries[hit[1]], "head"), hit.string


def test_habits_food_and_wards_belong_to_the_illness():
    ill = dict(groups("illness"))
    wards = {ward for _, group in groups("illness") for ward in known(group, "ward")}
    for article, hit in found(rf"({any_of(wards)}) 교수", "건강"):
        named = re.search(rf"({any_of(ill)})(?:에 걸릴|[을를] (?:막|예방))", article.document)
        assert named is not None
        assert hit[1] in known(ill[named[1]], "ward"), article.document
    habits = {habit for _, group in groups("illness") for habit in known(group, "habit")}
    for article, hit in found(rf"({any_of(habits)})[을를] 한 주에", "건강"):
        named = re.search(rf"({any_of(ill)})에 걸릴", hit.string)
        assert named is not None
        assert hit[1] in known(ill[named[1]], "habit"), article.document


# --- counters, ages, dates, idioms


def test_things_are_counted_by_their_own_counters():
    for _, hit in found(rf"([가-힣]+) {NUMBER}그루"):
        assert hit[1] in texts(KINDS["tree"]), hit.string
    for _, hit in found(rf"([가-힣]+) {NUMBER}마리"):
        assert hit[1] in texts(KINDS["livestock"]), hit.string
    for _, hit in found(rf"([가-힣]+) {NUMBER}척"):
        assert hit[1] in {"배", "여객선"} | _ships(), hit.string
    for _, hit in found(rf"([가-힣]+) {NUMBER}대(?! )"):
        assert not hit[1].endswith(("명", "마리")), hit.string
    for article in ARTICLES:
        assert not re.search(r"\d달", article.document), "months are counted in 개월"


def _ships() -> set[str]:
    return {
        good
        for _, g in groups("company")
        if known(g, "unit") == ("척",)
        for good in known(g, "goods")
    }


def test_people_are_older_than_their_work():
    pattern = r"(\d+)년(?:째| 동안) [^.]*? 씨\((\d+)\)"
    for article, hit in [*found(pattern, "나눔"), *found(pattern, "사람")]:
        assert int(hit[2]) - int(hit[1]) >= 15, article.document


def test_dates_agree_with_the_season():
    months = {"1분기": {4, 5}, "2분기": {7, 8}, "3분기": {10, 11}, "4분기": {1, 2}}
    for article, hit in found(r"(\d분기)[^.]* (\d+)월 \d+일", "실적"):
        assert int(hit[2]) in months[hit[1]], hit.string
        assert int(article.date[5:7]) == int(hit[2])
    for kind, story in (("spring_flower", "계절"), ("harvest", "축제")):
        things = dict(groups(kind))
        for article, hit in found(rf"({any_of(things)}).*? (\d+)월 \d+일", story):
            assert hit[2] in known(things[hit[1]], "month"), hit.string
            assert int(article.date[5:7]) == int(hit[2])


@pytest.mark.parametrize(
    "slip",
    [
        "발길을 했다",
        "종종걸음을 했다",
        "여행을 내디뎠다",
        "앞날을 가를",
        "를 주의하라고",
        "당국은 오는",
    ],
)
def test_no_idiom_is_bent(slip: str):
    for article in ARTICLES:
        assert slip not in article.document


def test_idioms_stand_in_their_frames():
    for _, hit in found(r"종종걸음을 (\w+)"):
        assert hit[1] == "쳤다"
    for _, hit in found(r"나들이객 \S+명의 발길이 (\w+)"):
        assert hit[1] in {"이어졌다", "몰렸다"}


def test_numbers_of_a_title_are_those_of_the_article():
    for article in ARTICLES:
        said = set(re.findall(NUMBER, article.document))
        for number in re.findall(NUMBER, article.title):
            assert number in said, (article.title, article.document)


def test_people_do_not_all_say_the_same():
    """At least three of four quotations in the training split differ from all before them."""
    said = [
        quotation
        for article in news.rows("train")
        for quotation in re.findall("“([^”]*)”", article.document)
    ]
    assert len(said) > 4_500
    assert len(set(said)) > 0.75 * len(said)
