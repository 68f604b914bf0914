import numpy as np

from envs.options.chain import ChainSettings, list_contracts, slots
from tests.markets import weekdays


def test_twenty_slots_in_the_documented_order():
    names = [slot.name for slot in slots(ChainSettings())]
    assert len(names) == 20
    assert names[:2] == ["30D_Call_0.90", "30D_Call_0.95"]
    assert names[5] == "30D_Put_0.90"
    assert names[19] == "60D_Put_1.10"


def test_contracts_live_until_they_expire():
    dates = weekdays(300)
    listings = list_contracts(ChainSettings(), dates)
    for g, days in enumerate((30, 60)):
        column = listings.days_to_expiry[:, g]
        assert days <= column[0] <= days + 4
        for t in range(1, len(dates)):
            elapsed = (dates[t] - dates[t - 1]).astype(int)
            assert listings.aged_days[t, g] == max(column[t - 1] - elapsed, 0)
            if listings.rolled[t, g]:
                assert listings.aged_days[t, g] == 0
                assert listings.expired[t, g]
                assert column[t] >= days
                assert listings.listed_at[t, g] == t
            else:
                assert column[t] == column[t - 1] - elapsed > 0


def test_every_expiry_is_a_day_of_business_so_one_clock_rules():
    dates = weekdays(500)
    listings = list_contracts(ChainSettings(), dates)
    for t in np.nonzero(listings.rolled[:, 0])[0]:
        # On a calendar of weekdays the contract settles exactly on its expiry.
        assert listings.days_to_expiry[t - 1, 0] == (dates[t] - dates[t - 1]).astype(int)


def test_settles_at_the_first_session_after_a_holiday():
    dates = weekdays(40)
    listings = list_contracts(ChainSettings(maturities_days=(30,)), dates)
    expiry = int(np.argmax(listings.rolled[:, 0]))
    without = np.delete(dates, expiry)
    later = list_contracts(ChainSettings(maturities_days=(30,)), without)
    assert int(np.argmax(later.rolled[:, 0])) == expiry
    assert later.expired[expiry, 0]
    assert without[expiry] > dates[expiry]


def test_daily_roll_keeps_the_maturity_constant():
    dates = weekdays(20)
    listings = list_contracts(ChainSettings(roll="daily"), dates)
    assert (listings.days_to_expiry == [30, 60]).all()
    assert listings.rolled[1:].all()
    assert not listings.rolled[0].any()
    assert not listings.expired.any()
    friday = int(np.argmax(np.is_busday(dates, weekmask="Fri")))
    assert listings.aged_days[friday + 1].tolist() == [27, 57]


def test_the_calendar_uses_no_later_date():
    dates = weekdays(200)
    whole = list_contracts(ChainSettings(), dates)
    part = list_contracts(ChainSettings(), dates[:77])
    for name in ("listed_at", "days_to_expiry", "aged_days", "rolled", "expired"):
        np.testing.assert_array_equal(getattr(whole, name)[:77], getattr(part, name))


def test_listed_expiries_are_fridays_and_farther_out_third_fridays():
    """Good Friday of 2019 was the third Friday of April: those contracts ended the day before."""
    dates = weekdays(200, "2019-02-15")
    listings = list_contracts(ChainSettings(expiries="listed"), dates)
    for t, day in enumerate(dates):
        weekly, monthly = listings.expiry[t]
        assert (np.is_busday(weekly, weekmask="Fri")) or str(weekly) == "2019-04-18"
        third = np.busday_offset(monthly.astype("datetime64[M]"), 2, "forward", weekmask="Fri")
        assert monthly == third or str(monthly) == "2019-04-18"
        if listings.listed_at[t, 0] == t:
            assert abs((weekly - day).astype(int) - 30) <= 4
        if listings.listed_at[t, 1] == t:
            assert abs((monthly - day).astype(int) - 60) <= 18
    assert "2019-04-18" in listings.expiry[:, 1].astype(str)


def test_strikes_lie_on_the_grid_nearest_to_the_moneyness():
    chain = ChainSettings(strike_step=5.0)
    assert chain.strikes(np.array([[1002.4, 1002.6, 1.0]])).tolist() == [[1000.0, 1005.0, 5.0]]
    assert ChainSettings().strikes(np.array([1002.4])).tolist() == [1002.4]
