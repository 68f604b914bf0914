"""What the networks of all agents see and give: settings, and what they mean in an environment."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from stable_baselines3.common.vec_env import VecEnv

from agents.basis import BookName, basis_of
from agents.ppo.columns import ColumnExtractor, columns_named
from conf.errors import InputError
from conf.settings import settings
from envs.core.kernel import BookKernel
from envs.core.market import BookMarket
from envs.option_portfolio.market import OptionMarket
from envs.sb3_vec_env import KernelVecEnv

Positive = Annotated[float, Field(gt=0.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
ActivationName = Literal["relu", "tanh", "silu"]
Width = Annotated[int, Field(ge=1, le=8192)]
LogStd = Annotated[float, Field(ge=-10.0, le=2.0)]
# A single name needs no brackets.
_ALONE = BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)
Patterns = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...], _ALONE, Field(min_length=1, max_length=1024)
]
Basis = Annotated[tuple[Literal["slots", BookName], ...], _ALONE, Field(min_length=1)]
ALL_FEATURES = ("*",)


@settings
class SeenAndHeld:
    """What the networks see, and what their action layer gives amounts of."""

    # Of the observation: names of features, or patterns such as *.moneyness.
    features: Patterns = ALL_FEATURES
    # The slots themselves, or textbook books.
    basis: Basis = ("slots",)

    @model_validator(mode="after")
    def _check_basis(self) -> Self:
        repeated = len(set(self.basis)) < len(self.basis)
        if repeated or ("slots" in self.basis and len(self.basis) > 1):
            raise ValueError(f"basis has {', '.join(self.basis)}: name slots, or different books")
        return self


def seen_by(features: tuple[str, ...], env: VecEnv) -> dict[str, Any]:
    """Policy options for the feature mask; none where everything is seen."""
    if features == ALL_FEATURES:
        return {}
    names = [feature.name for feature in market_of(env, "agent.features").features]
    columns = columns_named(features, names)
    if len(columns) == len(names):
        return {}
    return {
        "features_extractor_class": ColumnExtractor,
        "features_extractor_kwargs": {"columns": columns},
    }


def held_by(basis: Basis, env: VecEnv) -> dict[str, Any]:
    """Policy options for a basis of books; none where the slots are free."""
    books: list[BookName] = [name for name in basis if name != "slots"]
    if not books:
        return {}
    market = market_of(env, "agent.basis")
    if not isinstance(market, OptionMarket):
        raise InputError(
            f"agent.basis has {books[0]}, and {market.history.name} has no options",
            "Choose agent.basis=slots",
        )
    return {"basis": basis_of(books, market.tape.slots).tolist()}


def market_of(env: VecEnv, setting: str) -> BookMarket:
    """The market of an environment of books; InputError for another one, naming the setting."""
    return book_of(env, setting).market


def book_of(env: VecEnv, setting: str) -> BookKernel:
    """The kernel of an environment of books; InputError for another one, naming the setting."""
    episodes = env.unwrapped
    if not isinstance(episodes, KernelVecEnv) or not isinstance(episodes.kernel, BookKernel):
        raise InputError(
            f"{setting} was given for a {type(episodes).__name__}, which has no market",
            "Train in a book's environment, or leave the setting at its default",
        )
    return episodes.kernel
