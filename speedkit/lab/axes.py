"""Scales and ticks, for every chart."""

import math
from typing import NamedTuple

import numpy as np

from speedkit.support.messages import grouped


class Scale(NamedTuple):
    """Where an axis begins and ends, and its ticks: value -> text."""

    low: float
    high: float
    ticks: dict[float, str]

    def share(self, values: np.ndarray) -> np.ndarray:
        """Where values are, from 0 at the low end to 1 at the high end; values beyond an end are moved to it."""
        return (np.clip(values, self.low, self.high) - self.low) / (self.high - self.low)


def scale(low: float, high: float, unit: str = "") -> Scale:
    """A scale from ``low`` to ``high``, or a little further, with ticks at multiples of 1, 2 or 5 x 10^k.

    The highest tick names the unit.
    """
    step = nice_step((high - low) / 4)
    ticks = [step * i for i in range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)]
    words = [tick_text(tick, step) for tick in ticks]
    words[-1] += f" {unit}" if unit.isalpha() else unit
    return Scale(ticks[0], ticks[-1], dict(zip(ticks, words, strict=True)))


def nice_step(least: float) -> float:
    """The smallest of 1, 2 and 5 x 10^k that is at least ``least``."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * (1 - 1e-9))


def tick_text(value, step):
    if value == 0:
        return "0"
    if abs(value) >= 1e7 or step < 1e-4:
        return f"{value:g}"
    return grouped(f"{value:,.{max(0, -math.floor(math.log10(step) + 1e-9))}f}")


# Ticks of a logarithmic axis, coarse to fine: the first of these sets with four ticks in view is used.
TICKS = (
    (0.001, 0.01, 0.1, 1, 10, 100, 1000),
    (0.1, 0.2, 0.5, 1, 2, 5, 10),
    (0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.25, 1.5, 2, 2.5, 3),
    (0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.3, 1.4, 1.6, 1.8, 2),
    (0.8, 0.85, 0.9, 0.95, 1, 1.05, 1.1, 1.15, 1.2),
)
APART = 0.11  # of the axis, at least, between two ticks: closer, and their labels would touch


def ratio_ticks(left: float, right: float) -> list[float]:
    """Ratios whose logarithms are between ``left`` and ``right``, to mark on a logarithmic axis."""
    for ratios in TICKS:
        inside = [ratio for ratio in ratios if left <= math.log(ratio) <= right]
        if len(inside) >= 4:
            return _apart(inside, APART * (right - left))
    return np.exp(np.linspace(left, right, 7)[1:-1]).tolist()


def _apart(ratios, gap):
    """The ratios that are at least ``gap`` apart, chosen outwards from the one nearest to 1."""
    chosen = []
    for ratio in sorted(ratios, key=lambda ratio: abs(math.log(ratio))):
        if all(abs(math.log(ratio / other)) >= gap for other in chosen):
            chosen.append(ratio)
    return sorted(chosen)
