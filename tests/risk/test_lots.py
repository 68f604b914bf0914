import dataclasses

import numpy as np
from hypothesis import given, settings

from risk.bounds import usage_of
from risk.limits import apply_limits
from risk.lots import whole_lots
from risk.overlay import RiskOverlay, RiskSettings
from tests.risk.test_limits import CAPS, LIMITS, WITH_MARGIN, a_book, seeds
from tests.risk.test_reductions import option_books


@settings(max_examples=60, deadline=None)
@given(seed=seeds)
def test_whole_lots_keep_every_limit_and_grow_nothing(seed):
    book, requested, rng = option_books(seed)
    lot = float(rng.choice([1.0, 5.0, 100.0]))
    held = whole_lots(
        book.quantity, dataclasses.replace(book, quantity=0 * requested), WITH_MARGIN, lot
    )
    book = dataclasses.replace(book, quantity=held)
    allowed = apply_limits(requested, book, WITH_MARGIN).quantity
    lots = whole_lots(allowed, book, WITH_MARGIN, lot)
    np.testing.assert_allclose(lots, np.round(lots / lot) * lot)
    for rule, usage in usage_of(lots, book, WITH_MARGIN).items():
        assert (usage <= CAPS[rule] * (1 + 1e-9)).all(), rule
    rounding = 1e-6
    assert (lots <= np.maximum(np.maximum(allowed, held), 0) + rounding).all()
    assert (lots >= np.minimum(np.minimum(allowed, held), 0) - rounding).all()


def test_a_trade_is_rounded_down_whichever_way_it_goes():
    book = a_book([3.0, -3.0, 0.0], 1.0)
    lots = whole_lots(np.array([[4.7, -1.2, 2.0 - 1e-12]]), book, LIMITS, 1.0)
    assert lots.tolist() == [[4.0, -2.0, 2.0]]


def test_the_position_is_rounded_down_where_rounding_the_trade_down_breaks_a_limit():
    book = a_book([2.0, 0.0], 1.0, delta=[30.0, 1.0])  # delta 0.6, of which 0.5 is allowed
    assert whole_lots(np.array([[1.6, 0.0]]), book, LIMITS, 1.0).tolist() == [[1.0, 0.0]]


def test_an_overlay_of_whole_lots_closes_a_halted_book():
    overlay = RiskOverlay(2, RiskSettings(), lot=1.0)
    overlay.open(np.ones(2, bool), 100.0)
    overlay.kill(np.array([True, False]))
    result = overlay.apply(np.full((2, 2), 1.7), a_book(np.ones((2, 2)), 1.0))
    assert result.quantity.tolist() == [[0.0, 0.0], [1.0, 1.0]]
    assert overlay.recent_trades[:, -1].tolist() == [2.0, 0.0]
