"""Intervals, verdicts, and the margins below which a difference does not matter."""

import math
from typing import NamedTuple

import numpy as np
from scipy import stats

from speedkit.comparison.metrics import HIGHER, LOWER, NO_DIFFERENCE, NOT_AVAILABLE, TOO_FEW
from speedkit.support.settings import smoke

NEEDED_PAIRS = 5  # the tests check the error rates here; also the default, so that nobody stops when it looks good
LEVEL = 0.95


class Margin(NamedTuple):
    """Differences that do not matter: from ``low`` to ``high``, as ratios or in points.

    The kit's one rule for every verdict. A difference is *detected* if the interval excludes "none". It is *small* if
    the whole interval is within the margin: the text then says so. A difference that would matter is *excluded* if the
    interval ends before the margin does. ``tests/test_stats.py`` checks by simulation how often each of these is wrong.
    """

    low: float
    high: float

    def contains(self, low: float, high: float) -> bool:
        """Whether an interval is within the margin, so that any difference is small."""
        return self.low < low and high < self.high

    def excludes(self, low: float, high: float, direction: str) -> bool:
        """Whether an interval rules out a difference in this direction ("lower" or "higher") that would matter."""
        return low > self.low if direction == LOWER else high < self.high


TENTH = Margin(0.9, 1 / 0.9)  # of ratios
HALF_A_POINT = Margin(-0.5, 0.5)  # of accuracy; seeds alone differ by about as much


def margin_of(is_ratio: bool) -> Margin:
    """The margin of a ratio, or of a difference in points."""
    return TENTH if is_ratio else HALF_A_POINT


def interval(samples, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(low, mean, high) over the last axis of finite ``samples`` [..., n], n >= 2: Student's t around the mean."""
    samples = np.asarray(samples, dtype=float)
    count = samples.shape[-1]
    alike = (samples == samples[..., :1]).all(axis=-1)  # else rounding in the mean could invent a difference
    mean = np.where(alike, samples[..., 0], samples.mean(axis=-1))
    deviation = np.where(alike, 0.0, samples.std(axis=-1, ddof=1))
    reach = stats.t.ppf((1 + level) / 2, count - 1) * deviation / math.sqrt(count)
    return mean - reach, mean, mean + reach


def verdict(low: float, high: float) -> str:
    """lower, higher or no difference detected, from an interval of log ratios or of differences."""
    return LOWER if high < 0 else HIGHER if low > 0 else NO_DIFFERENCE


def beyond_chance(count: int, judged: int, level: float = LEVEL) -> bool:
    """Whether ``count`` verdicts in one direction among ``judged`` comparisons are more than chance would give.

    The exact binomial test (Clopper and Pearson 1934, "The use of confidence or fiducial limits illustrated in the case
    of the binomial"). Where there is no difference, a 95 % interval says "lower" with a probability of 2.5 %, and
    "higher" as well. If that many or more would come by chance in less than 5 % of all rooms, it is not only chance.
    That a technique wins here *and* loses there is said if both directions pass; the level of both is that of one
    (the intersection-union test: Berger 1982, "Multiparameter hypothesis testing and acceptance sampling").
    """
    return count > 0 and float(stats.binom.sf(count - 1, judged, (1 - level) / 2)) < 1 - level


SMALL = "less than half a point: nothing is claimed"


def judge_points(points, *, cut: bool = False) -> tuple[str, str]:
    """(mean with interval, verdict) of paired differences in points [n], one per pair of trainings.

    The verdict is lower, higher, no difference detected, ``SMALL``, or too few pairs to judge. Every lesson that judges
    points uses it. cut: the runs were cut short by SPEEDKIT_SMOKE, so that there is no verdict.
    """
    points = np.asarray(points, dtype=float)
    middle = float(np.mean(points)) if len(points) else math.nan
    if cut or smoke() or len(points) < NEEDED_PAIRS or not np.isfinite(points).all():
        return f"{middle:+z.2f}" if math.isfinite(middle) else NOT_AVAILABLE, TOO_FEW
    low, middle, high = (float(value) for value in interval(points))
    small = HALF_A_POINT.contains(low, high)
    return f"{middle:+z.2f} ({low:+z.2f} to {high:+z.2f})", SMALL if small else verdict(low, high)
