"""Numbers in the news: uniform over a range, each written in one way only.

`amounts.toml` holds the ranges: first, last and, if it is not 1, step. The table a range stands in
says how its numbers are written.
"""

from collections.abc import Callable, Mapping

from semigpt.corpus.news.facts import Computed, Group, Kind
from semigpt.corpus.news.tables import Table

__all__ = ["COMPUTED", "amount_kinds", "amounts"]


def _plain(number: int) -> str:
    return f"{number:,}"


def _tenths(number: int) -> str:
    return f"{number // 10:,}.{number % 10}"


def _hundredths(number: int) -> str:
    return f"{number // 100:,}.{number % 100:02}"


def _ten_thousands(unit: str) -> Callable[[int], str]:
    """12,300 is 1조 2,300 where the unit is 조. Without a whole unit, only the rest is written."""

    def write(number: int) -> str:
        large, small = divmod(number, 10_000)
        if not large:
            return _plain(small)
        return f"{large:,}{unit}" + (f" {small:,}" if small else "")

    return write


_WRITERS: Mapping[str, Callable[[int], str]] = {
    "plain": _plain,
    "year": str,
    "tenths": _tenths,
    "hundredths": _hundredths,
    "조": _ten_thousands("조"),
    "억": _ten_thousands("억"),
    "만": _ten_thousands("만"),
}


def amount_kinds(table: Table) -> dict[str, Kind]:
    """The kinds of `amounts.toml`, in its order. Raises `CorpusError` for a broken one."""
    table.allow(*_WRITERS, "words")
    kinds: dict[str, Kind] = {}
    for style in table.values:
        ranges = table.table(style)
        for name in ranges.values:
            if name in kinds:
                raise ranges.error(name, "a kind of fact of this name stands in another table")
            kinds[name] = _kind(name, style, ranges)
    return kinds


def _kind(name: str, style: str, ranges: Table) -> Kind:
    if style == "words":
        return Kind(name, (Group((ranges.words(name),)),))
    return Kind(name, (amounts(ranges, name, style),))


def amounts(table: Table, key: str, style: str = "plain") -> Group:
    """The numbers of a range under `key`, written in a style. Raises `CorpusError` for a broken
    range.
    """
    match table.elements(key, int):
        case [first, last] if first <= last:
            numbers = tuple(range(first, last + 1))
        case [first, last, step] if first <= last and step > 0:
            numbers = tuple(range(first, last + 1, step))
        case other:
            raise table.error(key, f"{other} has to be [first, last] or [first, last, step]")
    return Group((tuple(map(_WRITERS[style], numbers)),), numbers)


def _before(now: int, rise_in_tenths: int) -> int:
    """The amount that rose to `now` by a percentage in tenths, to the nearest whole."""
    return round(now * 1000 / (1000 + rise_in_tenths))


COMPUTED: Mapping[str, Computed] = {
    "profit_before": Computed(
        ("profit", "rise"), lambda profit, rise: _plain(_before(profit, rise))
    ),
    "price_before": Computed(
        ("produce.price", "rise"), lambda price, rise: _plain(round(_before(price, rise), -1))
    ),
}
