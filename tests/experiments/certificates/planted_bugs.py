"""Bugs that more than one certificate has to find."""


def with_double_interest(monkeypatch):
    from envs.allocation import market as panel_market
    from envs.hedging import market as hedging_market
    from envs.option_portfolio import market as option_market

    for module in (option_market, panel_market, hedging_market):
        right = module.cash_returns
        monkeypatch.setattr(module, "cash_returns", lambda h, f=right: (1.0 + f(h)) ** 2 - 1.0)
