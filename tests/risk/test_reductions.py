"""Reductions pass first, hedges stay whole, and a repeated request changes nothing."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings

from risk.book import Book
from risk.bounds import LimitSettings, usage_of
from risk.guard import GuardState
from risk.limits import apply_limits
from risk.overlay import RiskOverlay, RiskSettings
from tests.risk.test_limits import WITH_MARGIN, a_book, allowed, random_books, seeds, within

SPENT = 500.0  # dollars traded by a book of $100: no turnover is left
NET = ("delta", "gamma", "vega")


def option_books(seed, books=200, positions=12):
    """Books within limits, often at one, and requests that close, keep and turn positions."""
    rng = np.random.default_rng(seed)
    shape = (books, positions)
    book = Book(
        quantity=np.zeros(shape),
        price=rng.uniform(0.1, 50, shape),
        equity=np.full(books, 1e5),
        delta=rng.uniform(-900, 900, shape),
        gamma=rng.uniform(5, 80, shape),
        vega=rng.uniform(0.1, 1.5, shape),
        traded=np.zeros(books),
        scan=rng.normal(size=(*shape, 16)) * 20,
    )
    first = rng.uniform(-100, 100, shape)
    held = apply_limits(first, book, WITH_MARGIN).quantity
    size = 10 ** rng.uniform(-1, 2, (books, 1))
    requested = np.where(rng.random(shape) < 0.5, held * rng.choice([0, 0.5, 1], shape), 0.0)
    requested = np.where(rng.random(shape) < 0.4, rng.uniform(-1, 1, shape) * size, requested)
    traded = rng.choice([0, 1.9e5, 2.5e5], books)
    return dataclasses.replace(book, quantity=held, traded=traded), requested, rng


def shrunk(quantity, requested):
    return np.clip(requested, np.minimum(quantity, 0), np.maximum(quantity, 0))


def test_closing_passes_where_turnover_is_spent_or_a_limit_is_reached():
    spent = a_book([1.0, 0.0], 10.0, traded=SPENT)
    assert allowed([0.0, 1.5], spent).quantity.tolist() == [[0.0, 0.0]]
    at_the_limit = a_book([0.5, 0.0], 1.0, delta=[100.0, 500.0])
    np.testing.assert_allclose(allowed([0.0, 1.0], at_the_limit).quantity, [[0.0, 0.1]])


def test_one_leg_of_a_hedge_is_closed_only_as_far_as_the_limit_of_the_other_allows():
    hedged = a_book([1.0, -1.0], 10.0, delta=[300.0, 300.0], traded=SPENT)
    result = allowed([1.0, 0.0], hedged)  # a net delta of 3; 0.5 is the limit
    np.testing.assert_allclose(result.quantity, [[1.0, -5 / 6]])
    np.testing.assert_allclose(allowed([0.5, -0.5], hedged).quantity, [[0.5, -0.5]])


def test_a_hedge_is_exchanged_where_turnover_suffices_and_kept_where_it_does_not():
    held = [1.0, -1.0, 0.0]
    for traded, kept in ((0.0, [1.0, 0.0, -1.0]), (SPENT, held)):
        book = a_book(held, 10.0, delta=40.0, traded=traded)
        assert allowed([1.0, 0.0, -1.0], book).quantity.tolist() == [kept]


def test_a_position_too_large_is_cut_alone_unless_it_hedges_another():
    flat = [0.0, 0.0]
    alone = allowed([4.0, 1.0], a_book(flat, 10.0, delta=[20.0, 5.0]))
    assert alone.quantity.tolist() == [[2.0, 1.0]]
    hedge = allowed([4.0, 1.0], a_book(flat, 10.0, delta=[25.0, -100.0]))
    assert hedge.quantity.tolist() == [[2.0, 0.5]]


def test_a_reducing_guard_closes_no_leg_of_a_hedge():
    overlay = RiskOverlay(1, RiskSettings())
    overlay.open(np.ones(1, bool), 100.0)
    overlay.observe(np.array([96.5]), np.zeros(1))
    book = a_book([1.0, -1.0, 0.0], 10.0, equity=96.5, delta=40.0)
    result = overlay.apply(np.array([[1.0, 0.0, -1.0]]), book)
    assert result.state.tolist() == [GuardState.REDUCING]
    assert result.quantity.tolist() == [[1.0, -1.0, 0.0]]
    # A request that lowers the net exposure passes.
    assert overlay.apply(np.array([[0.5, -0.5, 0.0]]), book).quantity.tolist() == [[0.5, -0.5, 0.0]]


@settings(max_examples=60, deadline=None)
@given(seed=seeds)
def test_no_net_exposure_ends_above_both_the_held_and_the_requested_one(seed):
    for book, requested, rng in (option_books(seed), random_books(seed)):
        may_open = rng.random(len(requested)) < 0.7
        result = apply_limits(requested, book, WITH_MARGIN, may_open).quantity
        after, held, target = (
            usage_of(q, book, WITH_MARGIN) for q in (result, book.quantity, requested)
        )
        for rule in (*NET, "margin"):
            larger = np.maximum(held[rule], target[rule])
            rounding = 1e-10 + 1e-12 * np.maximum(held["gross"], target["gross"])
            assert (after[rule] <= larger * (1 + 1e-9) + rounding).all(), rule
        grown = np.abs(result - shrunk(book.quantity, result)).max(axis=-1)
        assert (grown[~may_open] == 0).all()


@settings(max_examples=60, deadline=None)
@given(seed=seeds)
def test_the_same_request_at_the_same_prices_changes_nothing_the_second_time(seed):
    for book, requested, rng in (option_books(seed), random_books(seed)):
        may_open = rng.random(len(requested)) < 0.7
        first = apply_limits(requested, book, WITH_MARGIN, may_open)
        then = dataclasses.replace(book, quantity=first.quantity, traded=book.traded + first.traded)
        second = apply_limits(requested, then, WITH_MARGIN, may_open)
        moved = (np.abs(second.quantity - first.quantity) * book.price).sum(axis=-1)
        assert (moved <= 1e-9 * book.equity).all()


@settings(max_examples=60, deadline=None)
@given(seed=seeds)
def test_reductions_pass_whole_unless_they_would_raise_a_net_exposure(seed):
    book, requested, _ = option_books(seed)
    spent = dataclasses.replace(book, traded=np.full(len(requested), 1e6))
    result = apply_limits(requested, spent, WITH_MARGIN).quantity
    reduced = shrunk(book.quantity, requested)
    after, held, target = (
        usage_of(q, book, WITH_MARGIN) for q in (reduced, book.quantity, requested)
    )
    unhedges = np.zeros(len(requested), bool)
    for rule in (*NET, "margin", "cash"):
        unhedges |= after[rule] > np.maximum(np.maximum(held[rule], target[rule]), 0) * (1 + 1e-9)
    fits = within(dataclasses.replace(book, quantity=reduced))
    passes = fits & ~unhedges & within(book)
    assert passes.sum() > 20
    low = np.minimum(np.abs(result), np.abs(reduced))  # not farther out than the reduced book
    np.testing.assert_allclose(np.abs(result)[passes], low[passes], atol=1e-9)


def test_rounding_beyond_a_limit_changes_the_result_by_rounding_alone():
    book = a_book([0.5, 0.0], 1.0, delta=[100.0, 500.0])
    for requested in ([0.0, 1.0], [0.5, 0.2], [0.6, 0.0]):
        inside = allowed(requested, book).quantity
        beyond = dataclasses.replace(book, quantity=book.quantity * (1 + 1e-15))
        np.testing.assert_allclose(allowed(requested, beyond).quantity, inside, rtol=1e-12)


def test_hedges_are_kept_even_where_the_limits_on_net_exposures_are_off():
    off = LimitSettings(max_delta=None, max_gamma=None, max_vega=None)
    book = a_book([1.0, -1.0, 0.0], 10.0, delta=40.0, traded=SPENT)
    assert allowed([1.0, 0.0, -1.0], book, off).quantity.tolist() == [[1.0, -1.0, 0.0]]


def test_openings_get_the_turnover_that_closings_leave():
    book = a_book([1.0, 0.0], 10.0, traded=185.0)  # $15 are left; closing takes 10 of them
    result = allowed([0.0, 1.0], book)
    np.testing.assert_allclose(result.quantity, [[0.0, 0.5]])
    assert result.traded[0] == pytest.approx(15.0)
