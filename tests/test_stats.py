"""The one rule of every verdict: what is detected, what is small, what is excluded, and how often that is wrong."""

import math

import numpy as np
import pytest

from speedkit.comparison.metrics import HIGHER, LOWER, NO_DIFFERENCE, TOO_FEW
from speedkit.comparison.stats import (
    HALF_A_POINT,
    NEEDED_PAIRS,
    SMALL,
    TENTH,
    Margin,
    beyond_chance,
    interval,
    judge_points,
    margin_of,
    verdict,
)

TRIALS = 4000
SPREADS = (0.05, 0.3, 1.0)  # of the differences of pairs, in points; seeds alone give about 0.4


def simulated(true, spread, pairs, draw):
    """Differences in points of simulated comparisons: float64 [TRIALS, pairs]."""
    return draw.normal(true, spread, (TRIALS, pairs))


def at_most(share):
    """A share and four standard errors of its estimate: a rate that is kept fails this once in 30,000 runs."""
    return share + 4 * math.sqrt(share * (1 - share) / TRIALS)


# What the words mean


@pytest.mark.parametrize(
    ("points", "words", "outcome"),
    [
        ([2.0, 2.1, 1.9, 2.0, 2.0], "+2.00 (+1.91 to +2.09)", HIGHER),
        ([-2.0, -2.1, -1.9, -2.0, -2.0], "-2.00 (-2.09 to -1.91)", LOWER),
        ([0.2, 0.21, 0.19, 0.2, 0.2], "+0.20 (+0.19 to +0.21)", SMALL),  # detected, and too small to claim anything
        ([0.1, -0.1, 0.0, 0.1, -0.1], "+0.00 (-0.12 to +0.12)", SMALL),
        ([3.0, -3.0, 0.0, 2.0, -2.0], "+0.00 (-3.17 to +3.17)", NO_DIFFERENCE),
        ([0.45, 0.55, 0.5, 0.4, 0.6], "+0.50 (+0.40 to +0.60)", HIGHER),  # half a point is not excluded
    ],
)
def test_points_are_judged_by_their_interval_and_little_ones_claim_nothing(points, words, outcome):
    assert judge_points(points) == (words, outcome)


def test_the_words_of_the_example_are_students_interval():
    """By hand: mean 2, standard deviation 0.0707, t(0.975, 4) = 2.776: 2.776 x 0.0707 / sqrt(5) = 0.088."""
    low, middle, high = interval([2.0, 2.1, 1.9, 2.0, 2.0])
    assert (low, middle, high) == pytest.approx((2 - 0.0878, 2.0, 2 + 0.0878), abs=1e-4)


@pytest.mark.parametrize("count", range(NEEDED_PAIRS))
def test_too_few_pairs_are_not_judged(count):
    assert judge_points([-3.0] * count)[1] == TOO_FEW


def test_a_cut_run_or_one_without_a_figure_is_not_judged(monkeypatch):
    assert judge_points([-3.0] * 9, cut=True) == ("-3.00", TOO_FEW)
    assert judge_points([-3.0] * 8 + [math.nan])[1] == TOO_FEW
    monkeypatch.setenv("SPEEDKIT_SMOKE", "1")
    assert judge_points([-3.0] * 9) == ("-3.00", TOO_FEW)


def test_nothing_at_all_is_said_as_such():
    assert judge_points([]) == ("n/a", TOO_FEW)


def test_a_tenth_is_as_far_on_both_sides():
    assert math.log(TENTH.low) == pytest.approx(-math.log(TENTH.high))
    assert (margin_of(True), margin_of(False)) == (TENTH, HALF_A_POINT)


@pytest.mark.parametrize(
    ("low", "high", "contains", "no_lower", "no_higher"),
    [
        (-0.4, 0.4, True, True, True),
        (-0.6, 0.4, False, False, True),
        (-0.4, 0.6, False, True, False),
        (-0.6, 0.6, False, False, False),
        (0.6, 0.9, False, True, False),
        (-0.5, 0.5, False, False, False),  # half a point itself would matter
    ],
)
def test_a_margin_contains_and_excludes(low, high, contains, no_lower, no_higher):
    margin = Margin(-0.5, 0.5)
    assert margin.contains(low, high) == contains
    assert margin.excludes(low, high, LOWER) == no_lower
    assert margin.excludes(low, high, HIGHER) == no_higher


# How often it is wrong: two equal recipes, a difference just under and just over half a point


@pytest.mark.parametrize("pairs", [5, 8])
@pytest.mark.parametrize("spread", SPREADS)
def test_two_equal_recipes_are_called_different_in_at_most_one_of_twenty(spread, pairs):
    low, _, high = interval(simulated(0.0, spread, pairs, np.random.default_rng(1)))
    claimed = [verdict(*ends) for ends in zip(low, high, strict=True) if not HALF_A_POINT.contains(*ends)]
    assert sum(each != NO_DIFFERENCE for each in claimed) / TRIALS <= at_most(0.05)


@pytest.mark.parametrize("pairs", [5, 8])
@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("true", [0.5, 0.6])
def test_a_difference_that_matters_is_called_small_or_excluded_in_at_most_one_of_forty(true, spread, pairs):
    low, _, high = interval(simulated(true, spread, pairs, np.random.default_rng(2)))
    ends = list(zip(low, high, strict=True))
    assert sum(HALF_A_POINT.contains(*each) for each in ends) / TRIALS <= at_most(0.025)
    assert sum(HALF_A_POINT.excludes(*each, HIGHER) for each in ends) / TRIALS <= at_most(0.025)


@pytest.mark.parametrize("spread", SPREADS)
def test_the_wrong_direction_is_hardly_ever_claimed(spread):
    low, _, high = interval(simulated(0.2, spread, 5, np.random.default_rng(3)))
    wrong = sum(verdict(*ends) == LOWER for ends in zip(low, high, strict=True))
    assert wrong / TRIALS <= at_most(0.025)


def test_what_it_is_for_is_found():
    """Two points with a spread of half a point, as augmentation gives on few images: in nine comparisons of ten."""
    low, _, high = interval(simulated(2.0, 0.5, 5, np.random.default_rng(4)))
    found = [verdict(*ends) == HIGHER and not HALF_A_POINT.contains(*ends) for ends in zip(low, high, strict=True)]
    assert np.mean(found) > 0.9


@pytest.mark.parametrize("true", [TENTH.low, TENTH.high])
def test_a_tenth_is_excluded_in_at_most_one_of_forty_where_there_is_one(true):
    draw = np.random.default_rng(5)
    low, _, high = interval(math.log(true) + draw.normal(0, 0.05, (TRIALS, 5)))
    direction = LOWER if true < 1 else HIGHER
    ends = zip(np.exp(low), np.exp(high), strict=True)
    assert sum(TENTH.excludes(*each, direction) for each in ends) / TRIALS <= at_most(0.025)


@pytest.mark.parametrize(
    ("count", "judged", "beyond"), [(0, 5, False), (1, 2, True), (1, 3, False), (2, 14, True), (2, 15, False)]
)
def test_verdicts_in_one_direction_are_counted_against_chance(count, judged, beyond):
    """By hand: 1 - 0.975**2 = 0.049 and 1 - 0.975**3 = 0.073; for two or more of n, another n * 0.025 * 0.975**(n - 1)
    is taken off."""
    assert beyond_chance(count, judged) is beyond
