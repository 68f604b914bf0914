"""Price a chain: the smile of 15 October 2008, what it costs, and back again."""

from pathlib import Path

import numpy as np

from envs import Sp500Data, VixSurface, implied_volatility, load_market, price_and_greeks
from experiments.reporting.charts import Chart, Line, Mark, Panel
from experiments.reporting.matplotlib_backend import chart_png
from experiments.reporting.style import OTHERS

# A session of the embedded S&P 500: 9 % lower than the evening before.
history = load_market(Sp500Data(), embargo_days=0).history
t = int(np.searchsorted(history.dates, np.datetime64("2008-10-15")))
spot, rate = history.close[0, t], history.rate[t]
dividend_yield = history.dividend_yield[t]
print(f"{history.dates[t]}: index {spot:.2f}, estimated VIX {100 * history.implied_vol[0, t]:.1f}")

# The surface follows the index and its slow average: what drives it is known at each close.
surface = VixSurface()
drivers = surface.drivers(history.implied_vol)[0, t]
strikes = spot * np.linspace(0.70, 1.30, 121)
days = np.array([[7.0], [30.0], [91.0], [365.0]])
tau_years = days / 365.0
forward = spot * np.exp((rate - dividend_yield) * tau_years)
vols = surface.vol(drivers, np.log(strikes / forward), tau_years)

# One call prices all of it: arguments broadcast, here maturities against strikes.
is_call = strikes >= forward
contract = spot, strikes, tau_years, vols, rate, dividend_yield, is_call
chain = price_and_greeks(*contract)

# From prices back to volatilities; out of the money no digit is lost.
back = implied_volatility(chain.price, spot, strikes, tau_years, rate, dividend_yield, is_call)
print(f"{chain.price.size} prices, volatility off by {np.abs(back - vols).max():.0e} at most")

print("30 days  volatility    price    delta   vega a point   theta a day")
for k in range(40, 101, 10):
    kind = f"{'call' if is_call[1, k] else 'put':4} {strikes[k] / spot:.2f} {vols[1, k]:9.1%}"
    value, delta, _, theta, vega, _ = (greek[1, k] for greek in chain)
    print(f"{kind} {value:9.2f} {delta:8.2f} {vega / 100:13.3f} {theta / 365:13.3f}")

x, at_the_money = 100.0 * strikes / spot, Mark("x", 100.0)
smiles, prices = (
    tuple(
        Line(f"{int(day)} days", x, row, colour)
        for day, row, colour in zip(days[:, 0], rows, OTHERS, strict=False)
    )
    for rows in (100.0 * vols, 100.0 * chain.price / spot)
)
chart = Chart(
    "chain",
    "A chain after a crash",
    (
        Panel("implied volatility", smiles, "percent", marks=(at_the_money,)),
        Panel("price out of the money, over spot", prices, "percent", marks=(at_the_money,)),
    ),
    subtitle=f"S&P 500 options on {history.dates[t]}: short ones fear most, and more below.",
    x_label="strike over spot",
    x_unit="percent",
    height=470,
)
Path("01_price_a_chain.png").write_bytes(chart_png(chart))
