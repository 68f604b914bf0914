import numpy as np
import pytest

from envs.options.black_scholes import price
from risk.book import Book
from risk.bounds import LimitSettings, usage_of
from risk.margin import ScanSettings, scan_gains, scenarios

SPOT, RATE, YIELD, TAU, VOL = 100.0, 0.02, 0.01, 30 / 365, 0.2
GRID = scenarios(ScanSettings())


def value(strike, is_call, spot=SPOT, vol=VOL):
    args = np.asarray(spot, float), strike, TAU, np.asarray(vol, float), RATE, YIELD
    return price(*args, np.array(is_call))


def gains_of(contracts):
    """Scan gains (M, 16) of (strike, is_call) contracts."""
    strike = np.array([k for k, _ in contracts], float)
    is_call = np.array([c for _, c in contracts])
    now = price(SPOT, strike, TAU, VOL, RATE, YIELD, is_call)

    def reprice(spot, vol):
        return price(spot, strike[:, None], TAU, vol, RATE, YIELD, is_call[:, None])

    vol = np.full(len(strike), VOL)
    return scan_gains(reprice, np.full(len(strike), SPOT), vol, now)


def margins(quantity, gains):
    """Margins (N,) in dollars of books (N, M): those that the limits see, of an equity of $1."""
    zero, one = np.zeros_like(quantity), np.ones(len(quantity))
    scan = np.broadcast_to(gains, (*quantity.shape, 16))
    book = Book(quantity, zero, one, zero, zero, zero, traded=one, scan=scan)
    return usage_of(quantity, book, LimitSettings(max_margin=1.0))["margin"]


def margin(book):
    """Margin of one book given as {(strike, is_call): quantity}."""
    return float(margins(np.array([list(book.values())], float), gains_of(list(book)))[0])


def by_hand(book):
    """The worst of the 16 scenarios, one at a time."""
    losses = []
    for i in range(16):
        spot = SPOT * (1 + GRID.price_move[i])
        vol = VOL + GRID.vol_move[i]
        change = sum(q * (value(k, c, spot, vol) - value(k, c)) for (k, c), q in book.items())
        losses.append(-float(change) * GRID.cover[i])
    return max(0.0, *losses)


def test_the_grid_is_that_of_span():
    assert len(GRID.price_move) == 16
    moves = sorted(set(np.round(GRID.price_move[:14] / 0.08, 6)))
    assert moves == pytest.approx([-1, -2 / 3, -1 / 3, 0, 1 / 3, 2 / 3, 1])
    assert GRID.price_move[14:].tolist() == pytest.approx([0.24, -0.24])
    assert GRID.cover[14:].tolist() == [0.35, 0.35]
    assert sorted(set(GRID.vol_move[:14])) == [-0.05, 0.05]


SHORT_STRADDLE = {(100, True): -1, (100, False): -1}
VERTICAL = {(100, True): 1, (105, True): -1}
BOX = {(95, True): 1, (95, False): -1, (105, True): -1, (105, False): 1}


@pytest.mark.parametrize("book", [SHORT_STRADDLE, VERTICAL, BOX, {(90, False): -2}])
def test_margin_is_the_worst_of_the_scenarios_taken_one_by_one(book):
    assert margin(book) == pytest.approx(by_hand(book), abs=1e-12)


def test_a_short_straddle_loses_most_at_the_extreme_move_of_which_a_part_counts():
    premium = float(sum(value(100, c) for c in (True, False)))
    up, down = (float(sum(value(100, c, spot) for c in (True, False))) for spot in (124.0, 76.0))
    whole = [float(sum(value(100, c, s, 0.25) for c in (True, False))) for s in (108.0, 92.0)]
    assert margin(SHORT_STRADDLE) == pytest.approx(0.35 * (max(up, down) - premium))
    assert margin(SHORT_STRADDLE) > max(whole) - premium > 3


def test_a_vertical_can_lose_no_more_than_it_costs():
    cost = float(value(100, True) - value(105, True))
    assert 0.5 * cost < margin(VERTICAL) < cost


def test_the_margin_of_a_box_is_near_zero():
    assert margin(BOX) == pytest.approx(0, abs=1e-9)


def test_an_empty_book_needs_no_margin_and_batches_agree():
    gains = gains_of([(100, True), (100, False)])
    books = np.array([[0.0, 0.0], [-1.0, -1.0], [2.0, -3.0]])
    together = margins(books, gains)
    assert together[0] == 0
    for i in range(3):
        assert margins(books[i : i + 1], gains)[0] == together[i]


def test_long_options_can_lose_no_more_than_their_premium():
    assert margin({(100, True): 1}) <= float(value(100, True))
