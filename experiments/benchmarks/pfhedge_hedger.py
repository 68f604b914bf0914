"""The hedging problem of the benchmark, learned by pfhedge: run by itself, with nothing of ours.

The no-transaction band of its documentation (S. Imaki, K. Imajo, K. Ito, K. Minami and
K. Nakagawa, No-transaction band network, 2021), but for the objective, mean + 1.5 SD, and the last
sale, which pfhedge does not charge for. Prints what `hedging.Learnt` holds as JSON.
"""

import json
import sys
import time
from typing import Any

import torch
from pfhedge.instruments import BrownianStock, EuropeanOption
from pfhedge.nn import BlackScholes, Clamp, HedgeLoss, Hedger, MultiLayerPerceptron
from torch import Tensor
from torch.nn.functional import leaky_relu

SESSIONS, YEAR, VOL_ANNUAL, DRIFT, COST, MULTIPLE = 20, 250, 0.2, 0.05, 0.01, 1.5


class Band(torch.nn.Module):
    """Holds what it held, clamped between two edges around delta."""

    def __init__(self, option: Any) -> None:
        super().__init__()
        self.delta = BlackScholes(option)
        self.widths = MultiLayerPerceptron(out_features=2)
        self.clamp = Clamp()

    def forward(self, seen: Tensor) -> Tensor:
        """Holding (..., 1) from the features of delta and what was held."""
        delta, widths = self.delta(seen[..., :-1]), leaky_relu(self.widths(seen[..., :-1]))
        held: Tensor = self.clamp(
            seen[..., [-1]], delta - widths[..., [0]], delta + widths[..., [1]]
        )
        return held


class MeanDeviation(HedgeLoss):  # type: ignore[misc]
    """Mean + 1.5 SD of what a liability costs."""

    def forward(self, earned: Tensor, target: Any = 0.0) -> Tensor:
        """Of the portfolio and the payoff, (N,)."""
        cost = target - earned
        objective: Tensor = cost.mean(0) + MULTIPLE * cost.std(0)
        return objective


class LastSale(Hedger):  # type: ignore[misc]
    """Pays for the last sale too."""

    def compute_portfolio(self, derivative: Any, hedge: Any = None) -> Any:
        """What the shares earned, (N,)."""
        earned: Tensor = super().compute_portfolio(derivative, hedge)
        shares: Tensor = self.prev_output[:, 0, 0]  # the last output of the model
        spot: Tensor = derivative.ul().spot
        return earned - COST * shares.abs() * spot[:, -1]


def main() -> None:
    """Learn, and print how it went."""
    request = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    torch.manual_seed(0)
    stock = BrownianStock(sigma=VOL_ANNUAL, mu=DRIFT, cost=COST, dt=1 / YEAR)
    option = EuropeanOption(stock, maturity=SESSIONS / YEAR)
    option.simulate(n_paths=2)
    model = Band(option)
    hedger = LastSale(model, [*model.delta.inputs(), "prev_hedge"], MeanDeviation())
    at_sale = (torch.tensor(x) for x in (0.0, SESSIONS / YEAR, VOL_ANNUAL))
    price = float(BlackScholes(option).price(*at_sale))
    hedger.compute_portfolio(option)  # gives the lazy layers their sizes
    optimizer = torch.optim.Adam(model.parameters())

    def objective(paths: int) -> float:
        loss = hedger.compute_loss(option, n_paths=paths, enable_grad=False)
        return 100.0 * (float(loss) / price - 1.0)

    spent, due, reached = 0.0, request["first_look"], None
    for _ in range(request["epochs"]):
        begin = time.process_time()
        settings = {"n_epochs": 1, "verbose": False, "validation": False}
        hedger.fit(option, n_paths=request["paths_an_epoch"], optimizer=optimizer, **settings)
        spent += time.process_time() - begin
        if reached is None and spent >= due:
            due = spent * request["looks_apart"]
            if objective(request["looked_at"]) <= request["target"]:
                reached = spent
    result = {"reached": reached, "spent": spent, "objective": objective(request["paths"])}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
