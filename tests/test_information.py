"""Information in its units."""

import math

import pytest

from semigpt.errors import CorpusError
from semigpt.evaluation.information import Information, bits


def test_units_of_a_fair_choice_among_eight() -> None:
    told = Information(nats=10 * math.log(8), tokens=10, characters=6, bytes=15)
    assert told.as_dict() == {
        "loss_nats_per_token": pytest.approx(math.log(8)),
        "perplexity": pytest.approx(8),
        "bits_per_character": pytest.approx(5),
        "bits_per_byte": pytest.approx(2),
        "tokens": 10,
        "characters": 6,
        "bytes": 15,
    }
    assert bits(math.log(2)) == 1


def test_a_hopeless_loss_has_infinite_perplexity_and_an_empty_text_no_measure() -> None:
    assert Information(1e6, 1, 1, 1).perplexity == math.inf
    assert Information(math.inf, 1, 1, 1).perplexity == math.inf
    with pytest.raises(CorpusError, match="at least one character"):
        Information(0.0, 0, 0, 0)


def test_information_shows_bits_per_character_first() -> None:
    found = Information(nats=10 * math.log(8), tokens=10, characters=6, bytes=15)
    assert repr(found) == (
        "<Information: 5.0000 bits per character, 2.0794 nats per token; 6 characters, 10 tokens>"
    )
    html = found._repr_html_()
    assert html.index("bits per character") < html.index("bits per byte") < html.index("perplexity")
    assert "5.0000" in html
