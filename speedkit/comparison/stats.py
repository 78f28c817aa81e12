"""Intervals, verdicts, and the margins below which a difference does not matter."""

import math

import numpy as np
from scipy import stats

from speedkit.comparison.metrics import HIGHER, LOWER, NO_DIFFERENCE

NEEDED_PAIRS = 5  # where the error rates are checked; also the default, so that no one can stop when it looks good
LEVEL = 0.95
MATERIAL_RATIO = 0.9  # a claim "did not hold" once the interval excludes an effect of this size, else "cannot tell"
MATERIAL_POINTS = 0.5  # the same for accuracy; seeds alone differ by about as much


# Statistics


def interval(samples, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(low, median, high) over the last axis of finite ``samples`` [..., n], n >= 2: Student's t around the mean.

    From nine samples on, very skewed ones can have their median outside: the interval is then widened to hold it.
    """
    samples = np.asarray(samples, dtype=float)
    count = samples.shape[-1]
    mean, median = samples.mean(axis=-1), np.median(samples, axis=-1)
    reach = stats.t.ppf((1 + level) / 2, count - 1) * samples.std(axis=-1, ddof=1) / math.sqrt(count)
    alike = (samples == samples[..., :1]).all(axis=-1)  # else rounding in the mean could make a difference of nothing
    low, high = np.where(alike, median, mean - reach), np.where(alike, median, mean + reach)
    return np.minimum(low, median), median, np.maximum(high, median)


def verdict(low: float, high: float) -> str:
    """lower, higher or no difference detected, from an interval of log ratios or of differences."""
    return LOWER if high < 0 else HIGHER if low > 0 else NO_DIFFERENCE
