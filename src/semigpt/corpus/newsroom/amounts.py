"""Numbers in the news, each uniform over a range and written in one way only, and what is worked out from them."""

from collections.abc import Callable, Mapping

from semigpt.corpus.newsroom.grammar import Derived, Kind

__all__ = ["AMOUNTS", "DERIVED"]


def _plain(number: int) -> str:
    return f"{number:,}"


def _year(number: int) -> str:
    return str(number)


def _tenths(number: int) -> str:
    return f"{number // 10:,}.{number % 10}"


def _hundredths(number: int) -> str:
    return f"{number // 100:,}.{number % 100:02}"


def _in_tens_of_thousands(unit: str) -> Callable[[int], str]:
    """12,300 in units of 억 is 1조 2,300, and so on: the larger unit is written when there is one."""

    def write(number: int) -> str:
        large, small = divmod(number, 10_000)
        return f"{large:,}{unit}" + (f" {small:,}" if small else "") if large else _plain(small)

    return write


def _kinds(
    write: Callable[[int], str], ranges: Mapping[str, tuple[int, int, int]]
) -> tuple[Kind, ...]:
    """Kinds of numbers: the first, the last and the step of each."""
    made = []
    for name, (first, last, step) in ranges.items():
        numbers = tuple(range(first, last + 1, step))
        made.append(Kind(name, (tuple(write(number) for number in numbers),), numbers))
    return tuple(made)


def _words(name: str, texts: list[str]) -> Kind:
    return Kind(name, (tuple(texts),))


# fmt: off
_PLAIN = {
    # Days of the month: what happened earlier, today, and what is still to come never meet.
    "past": (1, 10, 1), "day": (11, 20, 1), "later": (21, 28, 1), "month": (1, 12, 1), "quarter": (1, 4, 1),
    "clock": (1, 12, 1), "minute": (1, 59, 1), "minutes": (12, 180, 1), "hours": (2, 9, 1), "seconds": (3, 59, 1),
    "years": (2, 48, 1), "years_ago": (3, 10, 1), "months": (2, 24, 1), "weeks": (2, 20, 1), "days_long": (3, 90, 1),
    "nights": (2, 30, 1), "days_dry": (15, 70, 1), "days_early": (2, 15, 1), "hours_keep": (24, 96, 1),
    "apprentice": (3, 15, 1), "age": (23, 79, 1), "age_old": (55, 88, 1), "age_child": (2, 9, 1),
    # Money, in the unit that the frame writes after it.
    "fee": (4_900, 39_900, 1_000), "item_price": (1_000, 9_900, 100), "ticket": (8_000, 99_000, 1_000),
    "book_price": (9_000, 32_000, 500), "price": (2_000, 9_980, 20), "meal_price": (8_500, 19_500, 500),
    "dividend": (100, 3_000, 10), "share_price": (5_050, 98_900, 50), "coins": (500, 9_500, 500),
    "pyeong_price": (1_150, 4_900, 10), "gadget_price": (12, 240, 1), "damage": (350, 9_800, 10),
    "cash": (1_200, 9_900, 10), "donation": (150, 9_950, 10), "prize_money": (500, 9_000, 100),
    "profit": (105, 2_995, 1), "budget": (12, 980, 1), "investment": (120, 9_900, 10), "funding": (15, 980, 1),
    "round_money": (20, 600, 1), "total_funding": (650, 1_900, 1), "valuation": (2_000, 9_900, 10),
    "sales_small": (21, 990, 1), "loot": (3, 420, 1), "film_cost": (25, 260, 1), "salary": (2, 60, 1),
    "fee_million": (2, 90, 1), "net_buy": (320, 9_800, 1), "net_sell": (320, 9_800, 1),
    "turnover": (6, 19, 1), "market_size": (3, 180, 1),
    # People.
    "injured": (2, 19, 1), "injured_total": (120, 2_400, 1), "injured_many": (120, 3_900, 1),
    "dead_many": (4, 310, 1), "rescued": (2, 15, 1), "evacuees": (18, 420, 1), "firefighters": (35, 290, 1),
    "police_few": (4, 36, 1), "arrested": (3, 42, 1), "victims_small": (35, 980, 1), "experts": (8, 35, 1),
    "founders": (2, 9, 1), "staff": (18, 480, 1), "hires": (15, 240, 1), "developers": (22, 260, 1),
    "characters": (8, 96, 1), "fans": (30, 600, 1), "cast": (8, 64, 1), "crowd": (3_100, 29_800, 1),
    "visitors": (1_200, 9_800, 100), "visitors_small": (180, 1_200, 1), "contestants": (96, 2_400, 1),
    "per_class": (8, 24, 1), "teachers": (4, 48, 1), "pupils": (45, 960, 1), "volunteers": (24, 380, 1),
    "interviewees": (18, 240, 1), "masters": (3, 40, 1), "heat_sick": (35, 1_900, 1), "stranded": (210, 8_900, 10),
    "surveyed": (520, 9_800, 1), "protesters": (400, 9_900, 100), "koreans": (120, 9_700, 10),
    "plaintiffs": (120, 4_800, 1),
    # Things.
    "lines": (2, 12, 1), "jobs": (80, 1_900, 10), "branches": (3, 28, 1), "homes": (120, 2_450, 1),
    "supply": (1_200, 9_800, 1), "deals": (210, 6_900, 1), "ratio": (2, 148, 1), "basement": (1, 6, 1),
    "storeys": (12, 49, 1), "blocks": (2, 18, 1), "streak": (2, 9, 1), "grams": (24, 890, 1),
    "battery_hours": (8, 72, 1), "gpus": (16, 960, 8), "parameters": (7, 320, 1), "corpus": (120, 9_800, 10),
    "languages": (5, 42, 1), "sites": (11, 290, 1), "investors": (2, 12, 1), "cycles": (500, 9_900, 100),
    "trucks": (8, 64, 1), "families": (4, 96, 1), "inspected": (24, 480, 1), "boxes": (100, 2_500, 10),
    "schools": (6, 88, 1), "per_week": (2, 5, 1), "accidents": (120, 9_800, 1), "trees": (30, 900, 10),
    "empty": (12, 240, 1), "pages": (148, 720, 1), "pieces": (18, 420, 1), "performances": (12, 320, 1),
    "cast_days": (6, 48, 1), "stalls": (15, 160, 1), "parking": (120, 1_900, 10), "fireworks": (500, 9_500, 100),
    "steps": (12, 99, 1), "flooded": (3, 45, 1), "crash_cars": (4, 48, 1), "trails": (5, 60, 1),
    "frozen": (15, 380, 1), "greenhouses": (3, 96, 1), "dead": (320, 9_800, 10), "ships": (12, 96, 1),
    "ships_many": (120, 1_900, 1), "trees_down": (8, 140, 1), "pumps": (12, 180, 1), "seats": (24, 180, 1),
    "collapsed": (18, 1_400, 1), "aftershocks": (12, 240, 1), "events": (12, 44, 1),
    # Measures.
    "area": (1_200, 98_000, 100), "output": (300, 9_800, 10), "flat": (49, 114, 1), "storage": (64, 960, 32),
    "temp_low": (-30, -10, 1), "temp_high": (80, 640, 5), "nano": (5, 480, 1), "realm_size": (24, 980, 1),
    "meters": (2, 18, 1), "centimeters": (8, 96, 1), "km": (2, 14, 1), "kilos": (11, 390, 1),
    "craft_kg": (120, 2_900, 1), "quake_km": (24, 680, 1), "quake_depth": (6, 96, 1), "height": (158, 212, 1),
    "temp_a": (8, 19, 1), "temp_b": (8, 19, 1), "temp_c": (8, 19, 1), "night_hot": (25, 29, 1),
    "rain_mm": (20, 190, 5), "rain_hour": (10, 60, 5), "rain_low": (11, 88, 1), "snow": (3, 48, 1),
    "cold": (6, 24, 1), "dust": (81, 390, 1), "times": (2, 6, 1), "gust": (24, 54, 1), "pressure": (925, 985, 5),
    "typhoon_km": (180, 480, 10), "typhoon_speed": (12, 45, 1), "tons": (25, 890, 5), "paddies": (12, 680, 1),
    # Sport.
    "half_minute": (2, 44, 1), "saves": (3, 9, 1), "shots": (8, 26, 1), "streak_short": (2, 9, 1),
    "league_points": (12, 78, 1), "standing": (2, 7, 1), "innings": (5, 8, 1), "strikeouts": (4, 14, 1),
    "hits": (2, 9, 1), "runs_allowed": (1, 2, 1), "pitch_speed": (143, 159, 1), "inning": (2, 8, 1),
    "distance": (105, 140, 1), "runs_in": (2, 5, 1), "wins": (35, 78, 1), "losses": (24, 61, 1),
    "spikes": (18, 41, 1), "set_points": (14, 23, 1), "blocks_made": (3, 9, 1), "points_for": (11, 32, 1),
    "mistakes": (11, 29, 1), "games": (12, 38, 1), "titles": (2, 11, 1), "contract_years": (2, 5, 1),
    # Percentages.
    "survey": (51, 69, 1), "small_percent": (4, 29, 1), "ai_percent": (21, 68, 1), "accuracy": (71, 97, 1),
    "discount": (10, 50, 5), "fine": (2, 5, 1), "reservoir": (18, 44, 1),
}
_YEARS = {"founded": (1948, 2009, 1), "founded_it": (2010, 2019, 1), "hack_year": (2011, 2019, 1),
          "year_to": (2026, 2038, 1)}
_TENTHS = {"rise": (21, 489, 1), "growth": (31, 429, 1), "drop": (11, 249, 1), "share": (111, 489, 1),
           "beat": (2, 49, 1), "stock_move": (21, 149, 1), "thick": (41, 119, 1), "wave": (10, 65, 5),
           "fx_move": (5, 98, 1), "hot": (331, 399, 1), "magnitude": (52, 78, 1)}
_HUNDREDTHS = {"points": (401, 3_980, 1), "index": (241_000, 268_999, 1), "kosdaq": (71_000, 92_999, 1),
               "kosdaq_points": (110, 1_490, 1), "hundredths": (5, 148, 1), "era_avg": (185, 399, 1)}
_MONEY = {"sales": (3_010, 39_990, 10), "target_sales": (41_000, 88_000, 100)}
_DOLLARS = {"contract": (120, 12_900, 10), "export_total": (13_100, 98_000, 100)}  # in units of 만
_CROWDS = {"victims": (3_100, 88_000, 100),
           "units": (5_000, 98_000, 1_000), "patients": (11_000, 98_000, 100), "homes_dark": (210, 14_000, 10),
           "strikers": (2_100, 48_000, 100)}
_MILLIONS = {"audience": (105, 990, 1), "reserve": (11, 240, 1), "sold": (2, 80, 1), "donors": (210, 890, 1),
             "views": (24, 980, 1), "fx": (1_190, 1_440, 1)}
# fmt: on

AMOUNTS: tuple[Kind, ...] = (
    *_kinds(_plain, _PLAIN | _MILLIONS),
    *_kinds(_year, _YEARS),
    *_kinds(_tenths, _TENTHS),
    *_kinds(_hundredths, _HUNDREDTHS),
    *_kinds(_in_tens_of_thousands("조"), _MONEY),
    *_kinds(_in_tens_of_thousands("억"), _DOLLARS),
    *_kinds(_in_tens_of_thousands("만"), _CROWDS),
    _words("goals", [f"{won}-{lost}" for won in range(1, 6) for lost in range(won)]),
    _words("runs", [f"{won}-{lost}" for won in range(3, 14) for lost in range(1, min(won, 3))]),
    _words("sets", ["3-0", "3-1", "3-2"]),
    _words(
        "ordinal", ["두", "세", "네", "다섯", "여섯", "일곱", "여덟", "아홉", "열", "열한", "열두"]
    ),
    _words("relief_order", ["두", "세", "네", "다섯"]),
)


def _before(now: int, rise_in_tenths: int) -> int:
    """The amount that rose to `now` by the given tenths of a percent, to the nearest whole."""
    return round(now * 1000 / (1000 + rise_in_tenths))


DERIVED: dict[str, Derived] = {
    "profit_before": Derived(
        ("profit", "rise"), lambda profit, rise: _plain(_before(profit, rise))
    ),
    "price_before": Derived(
        ("price", "rise"), lambda price, rise: _plain(round(_before(price, rise), -1))
    ),
}
