"""The statistics of a comparison keep their promises, by simulation; and runs become pairs, rows and judged claims."""

import itertools
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from speedkit.comparison.metrics import (
    CANNOT_TELL,
    CLAIMS,
    DID_NOT_HOLD,
    HELD,
    HIGHER,
    LOWER,
    METRICS,
    NO_DIFFERENCE,
    NOT_AVAILABLE,
    NOT_JUDGED,
    OPPOSITE,
    TOO_FEW,
    Claim,
)
from speedkit.comparison.result import ARMS, Comparison, RunResult
from speedkit.comparison.runs import comparing, orders
from speedkit.comparison.stats import NEEDED_PAIRS, interval, verdict
from speedkit.lab.compare import compare
from speedkit.recipe import SWITCHES, Recipe
from speedkit.run_words import OTHER_PROGRAMS
from speedkit.support.errors import NotFinite
from speedkit.support.messages import Message

COMPARISONS, NOISE = 1000, 0.03
SEEDS = range(5)
DATA = Path(__file__).parent / "data"
BASELINE = Recipe(seed=40)
VARIANT = BASELINE.but(cache="ram")
RELEASE_MEMORY = sys.modules["speedkit.comparison.runs"]._release_memory
CACHING_SPEEDS_UP = Claim("cache", "Caching speeds up training.", "seconds", LOWER)


@pytest.fixture(autouse=True)
def releases(monkeypatch):
    """How often memory was released, which takes long beside all the modules of a test session; it is not done."""
    calls = []
    monkeypatch.setattr(sys.modules["speedkit.comparison.runs"], "_release_memory", lambda: calls.append(None))
    return calls


# The method, by simulation


def log_times(seed, ratio=1.0, slowed="none", count=COMPARISONS, pairs=NEEDED_PAIRS):
    """Logarithms of run times with log-normal noise: float64 [count, pairs, 2]; the variant takes ``ratio`` as long.

    slowed: "a tenth" of all runs at random, or "one" run of each comparison, takes half as long again.
    """
    generator = np.random.default_rng(seed)
    logs = generator.normal(0, NOISE, (count, pairs, 2))
    logs[..., 1] += math.log(ratio)
    if slowed == "a tenth":
        logs += math.log(1.5) * (generator.random(logs.shape) < 0.1)
    elif slowed == "one":
        logs.reshape(count, -1)[np.arange(count), generator.integers(0, 2 * pairs, count)] += math.log(1.5)
    return logs


def rates(seed, ratio=1.0, **more):
    """Shares of synthetic comparisons: verdict lower, verdict higher, interval covers the truth."""
    logs = log_times(seed, ratio, **more)
    low, __, high = interval(logs[..., 1] - logs[..., 0])
    truth = math.log(ratio)
    return (high < 0).mean(), (low > 0).mean(), ((low <= truth) & (truth <= high)).mean()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("slowed", ["none", "a tenth", "one"])
def test_without_a_difference_a_false_verdict_is_rare_also_on_a_busy_laptop(seed, slowed):
    lower, higher, covered = rates(seed, slowed=slowed)
    assert lower + higher <= 0.07
    assert covered >= 0.93


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("ratio", [0.5, 0.9, 1.1, 3.0])
@pytest.mark.parametrize("slowed", ["none", "a tenth", "one"])
def test_the_interval_covers_the_truth(seed, ratio, slowed):
    assert rates(seed, ratio, slowed=slowed)[2] >= 0.93


@pytest.mark.parametrize("seed", SEEDS)
def test_a_true_tenth_is_found(seed):
    assert rates(seed, 0.9)[0] >= 0.95
    # A tenth more is a smaller step on the logarithmic scale; its rate is nearer to the bound: count more closely.
    assert rates(seed, 1.1, count=20_000)[1] >= 0.95


def test_the_rates_are_no_luck_of_the_seeds():
    # Exactly, for normal logarithms: the power of a paired t test.
    needed = stats.t.ppf(0.975, NEEDED_PAIRS - 1)
    for ratio in (0.9, 1.1):
        shift = abs(math.log(ratio)) / (NOISE * math.sqrt(2) / math.sqrt(NEEDED_PAIRS))
        assert stats.nct.sf(needed, NEEDED_PAIRS - 1, shift) >= 0.95
    lower, higher, covered = rates(0, count=100_000)
    assert lower + higher == pytest.approx(0.05, abs=0.003)
    assert covered == pytest.approx(0.95, abs=0.003)


def test_accuracy_differences_keep_the_same_promise():
    generator = np.random.default_rng(0)
    points = generator.normal(80, 0.4, (20_000, NEEDED_PAIRS, 2))  # seeds differ by about 0.4 points
    low, _, high = interval(points[..., 1] - points[..., 0])
    assert ((low > 0) | (high < 0)).mean() <= 0.07


def test_a_claim_of_a_tenth_that_is_true_is_rarely_said_not_to_hold():
    wrong = 0
    for pairs in log_times(0, 0.9, "a tenth")[:300]:
        outcome = synthetic(seconds=np.exp(pairs)).judge(CACHING_SPEEDS_UP).outcome
        wrong += outcome in (DID_NOT_HOLD, OPPOSITE)
    assert wrong <= 0.07 * 300


def test_the_comparison_says_what_the_simulated_method_says():
    logs = log_times(7, 0.95, count=200)
    low, middle, high = interval(logs[..., 1] - logs[..., 0])
    for i, pairs in enumerate(logs):
        row = synthetic(seconds=np.exp(pairs)).row("seconds")
        assert row.verdict == verdict(low[i], high[i])
        assert (row.low, row.effect, row.high) == pytest.approx(np.exp([low[i], middle[i], high[i]]), rel=1e-9)


def test_the_interval_is_students():
    samples = np.array([0.1, 0.3, -0.2, 0.25, 0.05])
    low, mean, high = interval(samples)
    expected = stats.ttest_1samp(samples, 0).confidence_interval(0.95)
    assert (low, high) == pytest.approx(tuple(expected))
    assert mean == pytest.approx(0.1)


def test_equal_effects_have_an_interval_of_no_width():
    low, mean, high = interval(np.full(5, math.log(0.1)))
    assert low == mean == high == math.log(0.1)


def blocks(count, couples=40, spread=0.05, memory=0.7, pairs=NEEDED_PAIRS, seed=0):
    """Log ratios of couples of blocks: float64 [count, pairs, couples], each like the one before it to a part."""
    draw = np.random.default_rng(seed)
    found = draw.normal(0, spread, (count, pairs, couples))
    for i in range(1, couples):
        found[..., i] = memory * found[..., i - 1] + math.sqrt(1 - memory**2) * found[..., i]
    return found


def test_blocks_that_depend_on_each_other_do_no_harm_to_an_interval_over_pairs():
    low, __, high = interval(blocks(20_000).mean(axis=-1))
    assert ((low > 0) | (high < 0)).mean() == pytest.approx(0.05, abs=0.01)


def test_an_interval_over_all_blocks_would_be_far_too_narrow():
    low, __, high = interval(blocks(5_000).reshape(5_000, -1))
    assert ((low > 0) | (high < 0)).mean() > 0.25  # why the unit is the pair


# Rows and verdicts


def synthetic(pairs=NEEDED_PAIRS, target=None, baseline=BASELINE, variant=VARIANT, **columns):
    """A finished comparison. columns: metric -> [done pairs, 2], baseline and variant."""
    comparison = Comparison(baseline, variant, pairs, target, status="finished")
    for pair in range(max(map(len, columns.values()))):
        for i, arm in enumerate(ARMS):
            values = dict.fromkeys(METRICS, math.nan) | {
                name: float(column[pair][i]) for name, column in columns.items()
            }
            comparison.measured.append(RunResult(pair, arm, 40 + pair, values))
    return comparison


def pairs_of(*ratios, base=2.0):
    return [(base, base * ratio) for ratio in ratios]


NEAR_ONE = (0.99, 1.0, 1.01, 1.0, 0.995)
HALF = (0.5, 0.51, 0.49, 0.5, 0.505)
DOUBLE = (2.0, 2.1, 1.9, 2.0, 2.05)
WILD = (0.4, 1.9, 1.0, 2.2, 0.6)


@pytest.mark.parametrize(
    ("ratios", "expected"), [(NEAR_ONE, NO_DIFFERENCE), (HALF, LOWER), (DOUBLE, HIGHER), (WILD, NO_DIFFERENCE)]
)
def test_a_row_gives_the_geometric_mean_its_interval_and_the_verdict(ratios, expected):
    row = synthetic(seconds=pairs_of(*ratios)).row("seconds")
    assert row.verdict == expected
    assert row.effect == pytest.approx(stats.gmean(ratios))
    assert row.low < row.effect < row.high
    assert row.low * row.high == pytest.approx(row.effect**2)  # the interval belongs to the figure
    assert row.baseline == 2.0


def test_a_row_divides_and_its_figures_have_one_unit():
    figures = [(0.9, 1.2), (1.1, 0.8), (1.3, 0.7), (0.95, 1.4), (7.0, 0.02)]
    row = synthetic(seconds=figures).row("seconds")
    assert row.variant / row.baseline == pytest.approx(row.effect, rel=1e-12)
    assert row.texts()[:2] == ("1.54 s", "0.452 s")
    memory = synthetic(peak_memory=[(2**30, 2**29)] * 5).row("peak_memory")
    assert memory.texts()[:2] == ("1.0 GiB", "0.5 GiB")
    far_apart = synthetic(wait_s=[(2.0, 4e-5)] * 5).row("wait_s")
    assert far_apart.texts()[:2] == ("2 s", "40 µs")
    accuracy = synthetic(validation_accuracy=[(0.8, 0.9), (0.6, 0.61)] * 3).row("validation_accuracy")
    assert 100 * (accuracy.variant - accuracy.baseline) == pytest.approx(accuracy.effect)


def test_accuracy_is_a_difference_in_points():
    row = synthetic(validation_accuracy=[(0.80, 0.82), (0.81, 0.84), (0.80, 0.83), (0.79, 0.81), (0.80, 0.83)]).row(
        "validation_accuracy"
    )
    assert row.effect == pytest.approx(2.6)
    assert row.verdict == HIGHER


def test_equal_figures_are_no_difference():
    comparison = synthetic(step_memory=[(1e9, 1e9)] * 5, validation_accuracy=[(0.8, 0.8)] * 5)
    assert comparison.row("step_memory").verdict == NO_DIFFERENCE
    assert comparison.row("validation_accuracy").verdict == NO_DIFFERENCE


@pytest.mark.parametrize(
    ("device", "ratio", "said"),
    [
        ("cpu", 0.95, NOT_JUDGED),
        ("cpu", 1.05, NOT_JUDGED),
        ("cpu", 0.8, LOWER),
        ("cpu", 1.3, HIGHER),
        ("cuda:0", 0.95, LOWER),
    ],
)
def test_memory_of_whole_processes_is_judged_from_a_tenth_on(device, ratio, said):
    comparison = synthetic(peak_memory=[(1e9, 1e9 * ratio)] * 5)
    comparison.machine = {"device": device}
    assert comparison.row("peak_memory").verdict == said


@pytest.mark.parametrize(("variant", "said"), [(63.5e6, LOWER), (66.5e6, NO_DIFFERENCE), (66.6e6, HIGHER)])
@pytest.mark.parametrize("pairs", [1, 5])
def test_counted_memory_is_exact_and_known_after_one_pair(pairs, variant, said):
    comparison = synthetic(step_memory=[(66.5e6, variant)] * pairs, variant=BASELINE.but(precision="bf16"))
    row = comparison.row("step_memory")
    assert (row.verdict, row.low, row.high) == (said, row.effect, row.effect)
    assert row.effect == pytest.approx(variant / 66.5e6)
    assert row.texts()[3] == "exact"
    judged = comparison.judge(CLAIMS["precision"][0])
    assert judged.outcome == {LOWER: HELD, NO_DIFFERENCE: DID_NOT_HOLD, HIGHER: OPPOSITE}[said]
    assert "interval" not in judged.why


def test_a_smoke_run_or_unequal_counts_have_no_exact_verdict():
    comparison = synthetic(step_memory=[(66.5e6, 63.5e6)])
    comparison.smoke = True
    assert comparison.row("step_memory").verdict == TOO_FEW
    assert synthetic(step_memory=[(66.5e6, 63.5e6), (66.5e6, 60e6)]).row("step_memory").verdict == TOO_FEW


def test_memory_of_processes_is_judged_by_its_effect_not_by_the_end_of_its_interval():
    comparison = synthetic(peak_memory=pairs_of(0.94, 0.89, 0.95, 0.93, 0.94))
    comparison.machine = {"device": "cpu"}
    row = comparison.row("peak_memory")
    assert (row.verdict, math.isnan(row.low)) == (NOT_JUDGED, True)


def test_a_count_may_be_zero():
    row = synthetic(reads=[(4000, 0), (4000, 32), (4000, 0), (4000, 0), (4000, 0)]).row("reads")
    assert row.verdict == LOWER
    assert row.effect == pytest.approx((0.5**4 * 32.5) ** 0.2 / 4000.5)
    never = synthetic(reads=[(4000, 0)] * 5).row("reads")
    assert (never.texts(), never.verdict) == (("4,000", "0", "never", "never"), LOWER)
    exactly = synthetic(reads=[(3840, 960)] * 5).row("reads")
    assert exactly.effect == pytest.approx(0.25, rel=1e-12)  # not 960.5 / 3840.5
    assert exactly.texts()[2:] == ("× 0.250", "× 0.250")
    neither = synthetic(reads=[(0, 0)] * 5).row("reads")
    assert (neither.texts()[2], neither.verdict) == ("none in both", NO_DIFFERENCE)
    assert synthetic(reads=[(0, 8)] * 5).row("reads").texts()[2] == "only in the variant"


@pytest.mark.parametrize(
    ("share", "in_turns", "ratios", "expected"),
    [
        (0.05, False, (0.9, 0.91, 0.89, 0.9, 0.9), LOWER),
        (0.3, False, (0.9, 0.91, 0.89, 0.9, 0.9), NOT_JUDGED),  # load alone could have made a run 1 / 0.7 as long
        (0.3, False, NEAR_ONE, NOT_JUDGED),
        (0.3, False, HALF, LOWER),  # but not twice as long
        (0.3, False, DOUBLE, HIGHER),
        (0.6, False, HALF, NOT_JUDGED),
        (1.0, False, HALF, NOT_JUDGED),
        (math.nan, False, HALF, LOWER),
        (0.3, True, (0.9, 0.91, 0.89, 0.9, 0.9), LOWER),  # both runs had the same load
    ],
)
def test_a_time_that_load_could_explain_is_not_judged(share, in_turns, ratios, expected):
    comparison = synthetic(seconds=pairs_of(*ratios), reads=pairs_of(*HALF), validation_accuracy=[(0.8, 0.8)] * 5)
    comparison.in_turns = in_turns
    comparison.measured[3].others_share = share
    row = comparison.row("seconds")
    assert row.verdict == expected
    assert math.isnan(row.low) is (expected == NOT_JUDGED)
    assert comparison.row("reads").verdict == LOWER
    if expected == NOT_JUDGED:
        judged = comparison.judge(CACHING_SPEEDS_UP)
        assert (judged.outcome, "close other programs" in judged.why) == (CANNOT_TELL, True)
        assert "not judged: this machine was busy" in repr(comparison)


def test_claimed_rows_come_first_and_rows_that_nobody_knows_go():
    comparison = synthetic(seconds=pairs_of(*HALF), step_s=pairs_of(*HALF), reads=[(5, 5)] * 5)
    comparison.claims = CLAIMS["cache"]
    for text in (repr(comparison), comparison._repr_html_()):
        assert "energy of the GPU" not in text
        places = [text.index(title) for title in ("images read from", "time of the whole run", "time per step")]
        assert max(places[:2]) < places[2]
    shown = comparison._repr_html_()
    assert shown.index("<details>") < shown.index("time per step")
    comparison.claims = ()
    assert "<details>" not in comparison._repr_html_()


def test_the_disturbance_comes_before_the_figures():
    comparison = synthetic(seconds=pairs_of(*HALF))
    comparison.notes.append(Message(OTHER_PROGRAMS, share="42"))
    for text in (repr(comparison), comparison._repr_html_()):
        assert text.index("Other programs took 42%") < text.index("time of the whole run")


def test_too_few_pairs_give_no_verdict():
    for count in range(1, NEEDED_PAIRS):
        row = synthetic(seconds=pairs_of(*HALF[:count])).row("seconds")
        assert row.verdict == TOO_FEW
        assert math.isnan(row.low)
        assert row.effect == pytest.approx(stats.gmean(HALF[:count]))
    assert Comparison(BASELINE, VARIANT).row("seconds").verdict == TOO_FEW


def test_no_verdict_is_shown_before_the_planned_pairs_are_done():
    comparison = synthetic(pairs=8, seconds=pairs_of(*HALF))
    comparison.status = "running"
    assert comparison.row("seconds").verdict == TOO_FEW
    comparison.status = "stopped"
    assert comparison.row("seconds").verdict == LOWER


def test_a_smoke_run_gives_no_verdict():
    comparison = synthetic(seconds=pairs_of(*HALF))
    comparison.smoke = True
    assert comparison.row("seconds").verdict == TOO_FEW
    assert comparison.judge(CACHING_SPEEDS_UP).outcome == CANNOT_TELL
    assert "smoke" in comparison.judge(CACHING_SPEEDS_UP).why


def test_a_metric_that_is_missing_in_a_run_is_not_available():
    reached = [(3.0, 2.0), (3.0, 2.0), (3.0, math.nan), (3.0, 2.0), (math.nan, 2.0)]
    comparison = synthetic(target=0.8, target_s=reached, seconds=pairs_of(*HALF), wait_s=[(0.0, 1.0)] * 5)
    row = comparison.row("target_s")
    assert row.verdict == NOT_AVAILABLE
    assert math.isnan(row.effect)
    assert row.why == "reached in 4 and 4 of 5 runs"
    assert comparison.row("energy_j").verdict == NOT_AVAILABLE
    assert comparison.row("wait_s").verdict == NOT_AVAILABLE  # to zero there is no ratio
    assert comparison.row("seconds").verdict == LOWER


# Claims


@pytest.mark.parametrize(
    ("ratios", "outcome"), [(HALF, HELD), (NEAR_ONE, DID_NOT_HOLD), (DOUBLE, OPPOSITE), (WILD, CANNOT_TELL)]
)
def test_a_claim_is_judged_in_one_of_four_ways(ratios, outcome):
    assert synthetic(seconds=pairs_of(*ratios)).judge(CACHING_SPEEDS_UP).outcome == outcome


@pytest.mark.parametrize(
    ("points", "outcome"),
    [
        ((1.0, 1.1, 0.9, 1.0, 1.05), HELD),
        ((0.05, -0.05, 0.0, 0.1, -0.1), DID_NOT_HOLD),
        ((-1.0, -1.1, -0.9, -1.0, -1.05), OPPOSITE),
        ((0.9, -0.9, 0.0, 0.5, -0.5), CANNOT_TELL),
    ],
)
def test_a_claim_on_accuracy(points, outcome):
    accuracies = [(0.8, 0.8 + point / 100) for point in points]
    claim = Claim("batchnorm", "It stabilises.", "validation_accuracy", HIGHER)
    comparison = synthetic(validation_accuracy=accuracies, variant=BASELINE.but(batchnorm=True))
    assert comparison.judge(claim).outcome == outcome


@pytest.mark.parametrize(
    ("ratios", "outcome", "small"),
    [
        ((0.95, 0.96, 0.95, 0.96, 0.95), HELD, True),
        ((1.05, 1.04, 1.05, 1.04, 1.05), OPPOSITE, True),
        ((0.85, 0.93, 0.87, 0.92, 0.88), HELD, False),  # the interval reaches below 0.9
        (HALF, HELD, False),
    ],
)
def test_a_difference_under_a_tenth_is_called_small(ratios, outcome, small):
    judged = synthetic(seconds=pairs_of(*ratios)).judge(CACHING_SPEEDS_UP)
    assert (judged.outcome, "a small difference: less than a tenth" in str(judged)) == (outcome, small)


def test_a_claim_without_a_verdict_cannot_be_told():
    few = synthetic(seconds=pairs_of(*HALF[:4])).judge(CACHING_SPEEDS_UP)
    assert few.outcome == CANNOT_TELL
    assert "4 of the 5 pairs" in few.why
    missing = synthetic(reads=[(1, 1)] * 5).judge(CACHING_SPEEDS_UP)
    assert missing.outcome == CANNOT_TELL
    assert NOT_AVAILABLE in missing.why


def test_a_claim_on_another_technique_cannot_be_told():
    swapped = synthetic(seconds=pairs_of(*HALF), baseline=VARIANT, variant=BASELINE)
    assert swapped.judge(CACHING_SPEEDS_UP).outcome == CANNOT_TELL
    other = synthetic(seconds=pairs_of(*HALF), variant=BASELINE.but(augment="light"))
    assert other.judge(CACHING_SPEEDS_UP).outcome == CANNOT_TELL


def test_every_technique_has_claims_of_its_own():
    assert tuple(CLAIMS) == SWITCHES
    for technique, claims in CLAIMS.items():
        assert claims
        assert {claim.technique for claim in claims} == {technique}
        assert len({claim.sentence for claim in claims}) == 1


@pytest.mark.parametrize(
    ("device", "ratios", "outcome"),
    [
        ("cpu", (0.98, 0.97, 0.98, 0.97, 0.98), CANNOT_TELL),
        ("cpu", NEAR_ONE, CANNOT_TELL),
        ("cpu", HALF, HELD),
        ("cuda:0", (0.98, 0.97, 0.98, 0.97, 0.98), HELD),
        ("cuda:0", NEAR_ONE, DID_NOT_HOLD),
    ],
)
def test_the_memory_of_whole_processes_tells_nothing_of_less_than_a_tenth(device, ratios, outcome):
    comparison = synthetic(peak_memory=pairs_of(*ratios), variant=BASELINE.but(precision="bf16"))
    comparison.machine = {"device": device}
    claim = Claim("precision", "It cuts memory.", "peak_memory", LOWER)
    assert comparison.judge(claim).outcome == outcome


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"technique": "magic"}, "technique='magic' is not allowed: give precision | early_stopping"),
        ({"metric": "speed"}, "metric='speed' is not allowed: give step_s | wait_s"),
        ({"direction": "better"}, "direction='better' is not allowed: give lower | higher."),
        ({"sentence": 3}, "sentence=3 is not allowed: input should be a valid string."),
        ({"more": 1}, "Claim has no field 'more': its fields are technique, sentence, metric, direction."),
    ],
)
def test_a_wrong_claim_is_refused_with_what_is_allowed(wrong, sentence):
    right = {"technique": "cache", "sentence": "", "metric": "seconds", "direction": LOWER}
    assert Claim(**right) == Claim("cache", "", "seconds", LOWER)
    with pytest.raises(ValueError, match=next(iter(wrong))) as refusal:
        Claim(**(right | wrong))
    assert str(refusal.value).startswith(sentence)


# Making the runs


class Trainer:
    """Makes runs of two steps without training, and remembers their recipes. ``fail``: run number -> what it raises."""

    def __init__(self, fail=None, others=None):
        self.made, self.closed, self.fail, self.others = [], 0, fail or {}, others or {}

    def __call__(self, recipe, run):
        number = len(self.made)
        self.made.append(recipe)
        cached = recipe.cache == "ram"
        try:
            with run.recording():
                run.machine = {"device": "cpu"}
                run.note(Message("Note {number}.", number=number))
                run.scalars["prepare_s"] = 0.5
                for t in (1.0, 2.0, 3.0):
                    yield run.step(t=t, step_s=9.0 if t == 1 else 0.1 if cached else 0.2, wait_s=0.01 * t)
                    if number in self.fail:
                        raise self.fail[number]
                for t, accuracy in ((4.0, 0.7), (5.0, 0.8), (6.0, 0.75)):
                    yield run.epoch(t=t, validation_accuracy=accuracy)
                run.scalars |= {"peak_memory": 2e9, "host_memory": 1e9, "reads": 10.0, "energy_j": math.nan}
                run.scalars["others_share"] = self.others.get(number, 0.01)
        finally:
            self.closed += 1

    def arms(self):
        return ["variant" if recipe.cache == "ram" else "baseline" for recipe in self.made]


def quietly(*arguments, **more):
    return compare(*arguments, progress=False, **more)


def test_warm_ups_come_first_short_and_uncounted(releases):
    trainer = Trainer()
    comparison = quietly(BASELINE.but(epochs=3, test_at_end=True), VARIANT.but(epochs=3), train=trainer)
    assert trainer.arms()[:2] == ["baseline", "variant"]
    assert all(recipe.steps <= 10 and recipe.epochs == 1 for recipe in trainer.made[:2])
    assert all(recipe.steps is None and recipe.epochs == 3 for recipe in trainer.made[2:])
    assert len(comparison.measured) == 10
    assert not any(recipe.test_at_end for recipe in trainer.made)
    assert len(releases) == 2 + 5  # before each warm-up, and before each pair


def test_a_disk_cache_is_filled_before_the_first_counted_run():
    trainer = Trainer()
    comparison = quietly(BASELINE, BASELINE.but(cache="disk"), train=trainer)
    assert trainer.made[0].steps == 10
    assert trainer.made[1].steps is None
    assert any("warm" in note for note in comparison.notes)


def test_pairs_are_interleaved_with_equal_seeds():
    trainer = Trainer()
    comparison = quietly(BASELINE, VARIANT.but(seed=3), pairs=6, train=trainer)
    counted, arms = trainer.made[2:], trainer.arms()[2:]
    for pair in range(6):
        assert set(arms[2 * pair : 2 * pair + 2]) == set(ARMS)
        assert {recipe.seed for recipe in counted[2 * pair : 2 * pair + 2]} == {40 + pair}
    assert [run.arm for run in comparison.measured] == arms
    assert [run.seed for run in comparison.measured] == [40 + i // 2 for i in range(12)]


def test_the_order_within_pairs_is_random_balanced_and_repeatable():
    assert orders(5, seed=1) == orders(5, seed=1)
    drawn = [tuple(orders(4, seed)) for seed in range(200)]
    assert all(order.count(ARMS) == 2 for order in drawn)
    assert len(set(drawn)) == 6  # all the ways to place two of four
    assert {orders(5, seed).count(ARMS) for seed in range(50)} == {2, 3}


def test_figures_are_read_from_the_runs():
    comparison = quietly(BASELINE, VARIANT, target=0.75, train=Trainer())
    values = {name: comparison.values(name)[0].tolist() for name in METRICS}
    assert values["step_s"] == pytest.approx([0.2, 0.1])  # without the first
    assert values["wait_s"] == pytest.approx([0.025, 0.025])
    assert values["seconds"] == [6.5, 6.5]  # preparation included
    assert values["target_s"] == [5.5, 5.5]
    assert values["validation_accuracy"] == [0.75, 0.75]
    assert math.isnan(values["energy_j"][0])
    assert comparison.row("step_s").verdict == LOWER
    assert math.isnan(quietly(BASELINE, VARIANT, target=0.9, train=Trainer()).values("target_s")[0, 0])


def test_accuracy_is_of_the_weights_that_early_stopping_keeps():
    def trainer(recipe, run):
        yield from Trainer()(recipe, run)
        run.scalars["best_epoch"] = 1.0

    comparison = quietly(BASELINE, VARIANT, train=trainer)
    assert comparison.values("validation_accuracy")[0].tolist() == [0.8, 0.8]


def test_it_grows_run_by_run():
    seen = [
        (comparison.runs_done, len(comparison.measured), len(comparison.done), comparison.status)
        for comparison in comparing(BASELINE, VARIANT, pairs=2, train=Trainer())
    ]
    running = [(1, 0, 0), (2, 0, 0), (3, 1, 0), (4, 2, 1), (5, 3, 1)]
    assert seen == [(*state, "running") for state in running] + [(6, 4, 2, "finished")]


def test_each_step_can_be_watched():
    nows = [comparison.now for comparison in comparing(BASELINE, VARIANT, 1, train=Trainer(), each_step=True)]
    assert len(nows) == 4 * (6 + 1)
    assert nows[0] == "warm-up, baseline"
    assert nows[-1].startswith("pair 1 of 1, ")


def test_closing_keeps_the_pairs_that_are_done():
    trainer = Trainer()
    runs = comparing(BASELINE, VARIANT, 9, train=trainer, each_step=True)
    for comparison in runs:
        if comparison.runs_done == 13:  # two warm-ups, five pairs, and one run of the sixth
            break
    runs.close()
    assert len(trainer.made) == 14  # both runs of a pair are open at once
    next_one = comparing(BASELINE, VARIANT, 9, train=trainer, each_step=True)
    next(next_one)
    next_one.close()
    assert trainer.closed == len(trainer.made)
    assert comparison.status == "stopped"
    assert comparison.done == [0, 1, 2, 3, 4]
    assert comparison.row("step_s").verdict == LOWER


@pytest.mark.parametrize(("interrupted", "pairs"), [(0, 0), (1, 0), (3, 0), (4, 1), (9, 3), (11, 4)])
def test_an_interrupt_keeps_the_pairs_that_are_done(interrupted, pairs):
    trainer = Trainer({interrupted: KeyboardInterrupt()})
    comparison = quietly(BASELINE, VARIANT, train=trainer)
    assert comparison.status == "stopped"
    assert len(comparison.done) == pairs
    assert trainer.closed == len(trainer.made)
    assert interrupted < len(trainer.made) <= 2 * pairs + 4
    assert comparison.row("step_s").verdict == TOO_FEW


def test_other_errors_are_raised():
    runs = comparing(BASELINE, VARIANT, train=Trainer({4: OSError("the disk is full")}))
    comparison = next(runs)
    with pytest.raises(OSError, match="disk is full"):
        list(runs)
    assert (comparison.status, comparison.reason) == ("failed", "the disk is full")
    assert comparison.done == [0]


def test_a_loss_that_is_not_finite_leaves_that_run_without_figures():
    comparison = quietly(BASELINE, VARIANT, train=Trainer({4: NotFinite("The loss became nan at step 1.")}))
    assert comparison.status == "finished"
    assert any("The loss became nan" in note for note in comparison.notes)
    row = comparison.row("step_s")
    assert (row.verdict, row.why) == (NOT_AVAILABLE, "known in 4 of 5 pairs")


def test_memory_is_released_for_real(monkeypatch):
    released = []
    monkeypatch.setattr("gc.collect", lambda: released.append(None))
    RELEASE_MEMORY()
    assert released


def test_smoke_cuts_a_comparison_and_gives_no_verdict(monkeypatch):
    monkeypatch.setenv("SPEEDKIT_SMOKE", "1")
    trainer = Trainer()
    comparison = quietly(BASELINE, VARIANT, claims=CLAIMS["cache"], train=trainer)
    assert len(trainer.made) == 6
    assert all(recipe.steps <= 10 for recipe in trainer.made)
    assert {row.verdict for row in comparison.rows} == {TOO_FEW, NOT_AVAILABLE}
    assert {judgement.outcome for judgement in comparison.judgements} == {CANNOT_TELL}


@pytest.mark.parametrize("pairs", [0, -1, 2.5, True, "5", 10**9])
def test_a_wrong_number_of_pairs_is_refused_before_any_run(pairs):
    with pytest.raises(ValueError, match="pairs"):
        comparing(BASELINE, VARIANT, pairs)


@pytest.mark.parametrize("target", [0, -0.5, 85, math.nan, "0.8", True])
def test_a_wrong_target_is_refused_before_any_run(target):
    with pytest.raises(ValueError, match="target"):
        comparing(BASELINE, VARIANT, target=target)


def test_what_are_no_claims_and_seeds_that_run_out_are_refused_before_any_run():
    with pytest.raises(ValueError, match=r"^claims: give Claim objects, as in CLAIMS\['cache'\]\.$"):
        comparing(BASELINE, VARIANT, claims="cache")
    with pytest.raises(ValueError, match=r"^claims\.0='faster' is not allowed"):
        comparing(BASELINE, VARIANT, claims=["faster"])
    with pytest.raises(ValueError, match="seed"):
        comparing(BASELINE.but(seed=2**31 - 2), VARIANT)


def test_a_disturbed_run_is_passed_on():
    comparison = quietly(BASELINE, VARIANT, train=Trainer(others={0: 0.9, 7: 0.42}))  # run 0 is not counted
    assert comparison.others_share == 0.42
    assert "42%" in repr(comparison)
    assert "42%" in comparison._repr_html_()
    assert comparison.notes == ["Note 2."]  # one of a kind
    assert math.isnan(Comparison(BASELINE, VARIANT).others_share)


def test_other_programs_are_named_once():
    comparison = quietly(BASELINE, VARIANT, train=Trainer())
    assert repr(comparison).count("Other programs took") == 1  # how much at most, if that is known
    comparison.notes.append(Message(OTHER_PROGRAMS, share="42"))
    assert repr(comparison).count("Other programs took") == 1


def test_the_disturbance_counts_the_runs_and_names_the_worst():
    comparison = quietly(BASELINE, VARIANT, train=Trainer(others={3: 0.3, 7: 0.42}))
    said = "Other programs competed for the cores in 2 of 10 runs, for up to 42% of the processor time"
    assert comparison.disturbance.startswith(said)
    assert repr(comparison).splitlines()[1] == comparison.disturbance
    assert "Other programs took" not in repr(comparison)


@pytest.mark.parametrize(("share", "said"), [(0.5, True), (0.4, False), (math.nan, False)])
def test_a_gpu_that_waits_for_its_orders_is_a_footnote(share, said):
    def train(recipe, run):
        yield from Trainer()(recipe, run)
        run.scalars["host_bound"] = share if recipe.cache == VARIANT.cache else 0.0

    notes = [note for note in quietly(BASELINE, VARIANT, train=train).notes if "nothing queued" in note]
    assert [note.startswith("variant: The GPU") for note in notes] == [True] * said


# Keeping and showing


def text_of(comparison):
    return repr(comparison) + comparison.runs_to_frame().to_csv() + comparison.to_frame().to_csv()


def test_a_comparison_survives_saving(tmp_path):
    comparison = quietly(BASELINE, VARIANT, claims=CLAIMS["cache"], target=0.75, train=Trainer(others={5: math.nan}))
    loaded = Comparison.load(comparison.save(tmp_path / "new" / "comparison.json"))
    assert text_of(loaded) == text_of(comparison)
    assert (loaded.baseline, loaded.variant, loaded.claims) == (BASELINE, VARIANT, CLAIMS["cache"])
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["comparison.json"]


def test_an_unfinished_comparison_survives_saving(tmp_path):
    comparison = quietly(BASELINE, VARIANT, train=Trainer({5: KeyboardInterrupt()}))
    loaded = Comparison.load(comparison.save(tmp_path / "comparison.json"))
    assert loaded.done == [0]
    assert len(loaded.measured) == 3
    assert loaded.status == "stopped"


def test_a_comparison_of_format_1_still_loads(tmp_path):
    """``tests/data`` holds files that an earlier speedkit wrote."""
    comparison = Comparison.load(DATA / "comparison-format-1.json")
    assert (comparison.status, comparison.done, comparison.target) == ("finished", [0, 1, 2, 3, 4], 0.75)
    assert (comparison.variant.cache, comparison.claims) == ("ram", CLAIMS["cache"])
    assert [judged.outcome for judged in comparison.judgements] == [HELD, HELD]
    assert comparison.row("seconds").effect == pytest.approx(stats.gmean([0.5, 0.51, 0.52, 0.53, 0.54]))
    assert not comparison.in_turns
    assert comparison.row("target_s").why == "reached in 0 and 0 of 5 runs"
    assert math.isnan(comparison.row("energy_j").effect)
    assert comparison.others_share == 0.42
    assert comparison.notes[0].startswith("Other programs used 42%")
    path = comparison.save(tmp_path / "now.json")
    assert json.loads(path.read_text())["format"] == 2
    assert text_of(Comparison.load(path)) == text_of(comparison)


def test_what_is_being_made_is_not_saved(tmp_path):
    runs = comparing(BASELINE, VARIANT, train=Trainer())
    comparison = next(runs)
    assert comparison.current is not None
    path = comparison.save(tmp_path / "comparison.json")
    runs.close()
    stored = json.loads(path.read_text())
    assert not {"now", "current", "runs_done"} & stored.keys()
    path.write_text(json.dumps(stored | {"now": "<b>", "runs_done": 10**9}))
    loaded = Comparison.load(path)
    assert (loaded.now, loaded.current, loaded.runs_done) == ("", None, 0)


def test_notes_are_stored_as_messages(tmp_path):
    comparison = synthetic(seconds=pairs_of(*HALF))
    comparison.reason = Message("pair {pair} of {pairs}, {arm}: {error}", pair=2, pairs=5, arm="variant", error="why")
    comparison.notes.append(Message(OTHER_PROGRAMS, share="42"))
    loaded = Comparison.load(comparison.save(tmp_path / "comparison.json"))
    assert (loaded.notes[0].msgid, loaded.reason.values["pair"]) == (OTHER_PROGRAMS, 2)
    assert (loaded.notes, loaded.reason) == (comparison.notes, comparison.reason)


HOSTILE = {
    "another kind": lambda kept: kept.update(kind="run"),
    "another format": lambda kept: kept.update(format=99),
    "no recipe": lambda kept: kept.pop("baseline"),
    "a list for a recipe": lambda kept: kept.update(variant=[1]),
    "an unknown field": lambda kept: kept["variant"].update(colour="red"),
    "pairs that are text": lambda kept: kept.update(pairs="5"),
    "too many pairs": lambda kept: kept.update(pairs=10**12),
    "a target too high": lambda kept: kept.update(target=7),
    "a claim that is text": lambda kept: kept.update(claims=["faster"]),
    "a claim with more": lambda kept: kept["claims"][0].update(more=1),
    "a claim of a list": lambda kept: kept["claims"][0].update(metric=["seconds"]),
    "runs that are none": lambda kept: kept.update(measured={"a": 1}),
    "a run twice": lambda kept: kept["measured"].append(kept["measured"][0]),
    "a pair out of range": lambda kept: kept["measured"][0].update(pair=99),
    "a pair that is a fraction": lambda kept: kept["measured"][0].update(pair=0.5),
    "a third arm": lambda kept: kept["measured"][0].update(arm="other"),
    "an arm that is a list": lambda kept: kept["measured"][0].update(arm=["baseline"]),
    "a figure that is text": lambda kept: kept["measured"][0]["values"].update(seconds="<b>fast</b>"),
    "a figure below zero": lambda kept: kept["measured"][0]["values"].update(seconds=-1),
    "a figure without end": lambda kept: kept["measured"][0]["values"].update(seconds=math.inf),
    "a figure that is none": lambda kept: kept["measured"][0]["values"].update(seconds=math.nan),
    "a figure too large": lambda kept: kept["measured"][0]["values"].update(seconds=10**400),
    "an unknown metric": lambda kept: kept["measured"][0]["values"].update(speed=1),
    "smoke as text": lambda kept: kept.update(smoke="no"),
    "a machine that is text": lambda kept: kept.update(machine="mine"),
    "notes that are numbers": lambda kept: kept.update(notes=[1]),
    "a note that is no message": lambda kept: kept.update(notes=[{"msgid": "{a}", "values": {"b": 1}}]),
    "an unknown part": lambda kept: kept.update(turbo=1),
    "a share below zero": lambda kept: kept["measured"][0].update(others_share=-1),
    "a list of a hundred thousand faults": lambda kept: kept.update(measured=[{}] * 100_000),
}


@pytest.mark.parametrize("damage", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_file_gives_one_clear_error(tmp_path, damage):
    path = quietly(BASELINE, VARIANT, claims=CLAIMS["cache"], train=Trainer()).save(tmp_path / "comparison.json")
    kept = json.loads(path.read_text())
    damage(kept)
    path.write_text(json.dumps(kept))
    with pytest.raises(ValueError, match=r"comparison\.json is not a comparison that this speedkit can read: "):
        Comparison.load(path)


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"format": 1}'])
def test_a_file_that_is_something_else_gives_one_clear_error(tmp_path, content):
    path = tmp_path / "other.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"other\.json is not a comparison"):
        Comparison.load(path)


def test_html_is_escaped():
    sentence = "<script>alert(1)</script>"
    comparison = quietly(BASELINE, VARIANT, claims=Claim("cache", sentence, "seconds", LOWER), train=Trainer())
    comparison.notes.append("<img src=x>")
    comparison.reason = "<b>why</b>"
    shown = comparison._repr_html_()
    assert not any(raw in shown for raw in ("<script", "<img", "<b>why"))
    assert "&lt;script&gt;" in shown


def test_it_can_be_shown_at_any_time():
    for comparison in comparing(BASELINE, VARIANT, 1, CLAIMS["cache"], train=Trainer(), each_step=True):
        assert "cache off → ram" in repr(comparison)
        assert "<table>" in comparison._repr_html_()
        assert len(comparison.to_frame()) == len(METRICS) - 1  # on a CPU there is one memory of the processes
        assert len(comparison.runs_to_frame()) == len(comparison.measured)


def test_progress_is_shown(capsys):
    compare(BASELINE, VARIANT, 1, train=Trainer())
    assert "4/4" in capsys.readouterr().out


def test_it_needs_nothing_of_a_notebook():
    code = (
        "import sys, speedkit.comparison.runs as c; from speedkit.recipe import Recipe;"
        "gone = {'ipywidgets', 'IPython', 'matplotlib'} & set(sys.modules); assert not gone, gone"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize(
    "comparison",
    [
        Comparison(BASELINE, VARIANT),
        synthetic(seconds=pairs_of(*HALF)),
        synthetic(seconds=pairs_of(1.0)),
        synthetic(seconds=pairs_of(*WILD), reads=[(4000, 0)] * 5, validation_accuracy=[(0.8, 0.81)] * 5),
        synthetic(validation_accuracy=[(0.8, 0.8)] * 5),
    ],
    ids=["empty", "one metric", "one pair", "far apart", "no ratios"],
)
def test_a_figure_of_the_pairs(comparison, tmp_path):
    from speedkit.lab.comparison_figure import figure

    drawn = figure(comparison).figure
    drawn.savefig(tmp_path / "pairs.png")
    dots = sum(len(line.get_xdata()) for ax in drawn.axes for line in ax.lines if line.get_marker() == "o")
    shown = [metric for metric in METRICS if metric != "reads"]  # all of them are counts of zero
    assert dots == sum(np.isfinite(comparison.effects(metric)).sum() for metric in shown)


@pytest.mark.parametrize("ratios", [HALF, NEAR_ONE, DOUBLE, WILD, (0.55, 1.2), (0.79, 1.21), (0.01, 100.0)])
def test_the_labels_of_the_figure_do_not_touch(ratios):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from speedkit.lab.comparison_figure import figure

    drawn = figure(synthetic(seconds=pairs_of(*ratios))).figure
    canvas = FigureCanvasAgg(drawn)
    canvas.draw()
    shown = [label for label in drawn.axes[0].get_xticklabels() if label.get_text()]
    boxes = [label.get_window_extent(canvas.get_renderer()) for label in shown]
    assert len(boxes) >= 3
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))
