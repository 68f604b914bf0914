"""What it costs to trade an option."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from conf.settings import settings
from conf.types import FloatArray

BPS = 1e-4
NonNegative = Annotated[float, Field(ge=0.0)]


@settings
class FlatCosts:
    """A fixed share of the dollars traded."""

    kind: Literal["flat"] = "flat"
    rate_bps: NonNegative = 5.0

    @property
    def share(self) -> float:
        """Dollars of cost per dollar traded."""
        return self.rate_bps * BPS

    def times(self, factor: float) -> FlatCosts:
        """The same, `factor` times as dear."""
        return replace(self, rate_bps=factor * self.rate_bps)

    def per_unit(
        self, premium: FloatArray, spot: FloatArray, intrinsic: FloatArray, index_vol: FloatArray
    ) -> FloatArray:
        """Dollars of cost per unit traded, shaped like `premium`."""
        return self.share * premium

    def impact(self, trade_units: FloatArray, premium: FloatArray) -> FloatArray | None:
        """Extra dollars for size: none here."""
        return None


@settings
class RealisticCosts:
    """Half the quoted spread, slippage, and impact of large orders.

    The half-spread was read off S&P 500 option quotes of spring 2019, when VIX stood near 15:
    at and out of the money max(floor, scale * (premium / pivot) ** exponent), all in basis points
    of spot; in the money a share of the premium. It widens in proportion to VIX above 15.
    """

    kind: Literal["realistic"] = "realistic"
    spread_floor_bps: NonNegative = 0.2  # of spot
    spread_scale_bps: NonNegative = 0.85  # of spot
    spread_pivot_bps: Annotated[float, Field(gt=0.0)] = 145.0  # of spot
    spread_exponent: NonNegative = 0.4
    in_the_money_share: NonNegative = 0.007  # of premium
    calm_vol: Annotated[float, Field(gt=0.0)] = 0.15  # annual; spreads widen above it
    slippage_bps: NonNegative = 2.0  # of premium
    impact_bps: NonNegative = 3.0  # of the premium beyond the threshold
    impact_threshold_units: NonNegative = 1000.0
    multiplier: NonNegative = 1.0  # scales everything, for sensitivity runs

    def times(self, factor: float) -> RealisticCosts:
        """The same, `factor` times as dear."""
        return replace(self, multiplier=factor * self.multiplier)

    def per_unit(
        self, premium: FloatArray, spot: FloatArray, intrinsic: FloatArray, index_vol: FloatArray
    ) -> FloatArray:
        """Dollars of cost per unit traded, shaped like `premium` (all arguments broadcast)."""
        premium_bps = premium / (spot * BPS)
        outside = np.maximum(
            self.spread_floor_bps,
            self.spread_scale_bps * (premium_bps / self.spread_pivot_bps) ** self.spread_exponent,
        )
        half_spread = np.where(
            intrinsic > 0, self.in_the_money_share * premium, outside * BPS * spot
        )
        stress = np.maximum(1.0, index_vol / self.calm_vol)
        slippage = self.slippage_bps * BPS * premium
        return self.multiplier * (half_spread * stress + slippage)

    def impact(self, trade_units: FloatArray, premium: FloatArray) -> FloatArray | None:
        """Extra dollars for the part of each order beyond the threshold, (N,); None for none."""
        size = np.abs(trade_units)
        if size.max() <= self.impact_threshold_units:
            return None
        beyond = np.maximum(size - self.impact_threshold_units, 0.0)
        dollars: FloatArray = (beyond * premium).sum(axis=-1)
        return self.multiplier * self.impact_bps * BPS * dollars


@settings
class SpreadCosts:
    """Half of a spread quoted in dollars, whatever the price, and a share of the dollars traded.

    An index future's spread is one tick nearly always: by default that of the E-mini S&P 500, .25
    index points, and two dollars of fees a contract of fifty times the index.
    """

    kind: Literal["spread"] = "spread"
    half_spread_usd: NonNegative = 0.125  # a unit; of an index: points
    rate_bps: NonNegative = 0.2

    def times(self, factor: float) -> SpreadCosts:
        """The same, `factor` times as dear."""
        spread, rate = factor * self.half_spread_usd, factor * self.rate_bps
        return replace(self, half_spread_usd=spread, rate_bps=rate)

    def per_unit(
        self, premium: FloatArray, spot: FloatArray, intrinsic: FloatArray, index_vol: FloatArray
    ) -> FloatArray:
        """Dollars of cost per unit traded, shaped like `premium`."""
        return self.half_spread_usd + self.rate_bps * BPS * premium

    def impact(self, trade_units: FloatArray, premium: FloatArray) -> FloatArray | None:
        """Extra dollars for size: none here."""
        return None


AnyCosts = FlatCosts | RealisticCosts | SpreadCosts
CostSettings = Annotated[AnyCosts, Field(discriminator="kind")]
