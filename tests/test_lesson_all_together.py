"""The last lesson: ceilings by Amdahl's law, only what pays is kept, and a table that says where figures come from."""

import math
import re

import pytest

import speedkit as sk
from speedkit import hardware
from speedkit.classroom import saved
from speedkit.classroom.saved import SavedComparisons, save_result, saved_comparisons
from speedkit.comparison.metrics import CLAIMS, METRICS
from speedkit.comparison.result import Comparison, RunResult
from speedkit.lessons.all_together import lesson
from speedkit.recipe import Recipe
from speedkit.run import Run


@pytest.fixture(autouse=True)
def own_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("SPEEDKIT_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def run_of(recipe=None, wait_s=0.03, compute_s=0.01, steps=4, **figures):
    """A run whose steps take the given times; the first one takes ten times as long."""
    run = Run(recipe or Recipe())
    for i in range(steps):
        slow = 10 if i == 0 else 1
        run.step(wait_s=slow * wait_s, compute_s=slow * compute_s, step_s=slow * (wait_s + compute_s), t=i)
    run.scalars |= figures
    return run


def compared(baseline, variant, *, pairs=5, claims=(), scatter=0.0, machine=None, **effects):
    """A comparison with the same ``effects`` (metric -> factor, or points) in every pair, plus or minus ``scatter``."""
    comparison = Comparison(baseline, variant, pairs=pairs, claims=claims, status="finished")
    comparison.machine = machine or hardware.machine("cpu").to_dict()
    for pair in range(pairs):
        before = {name: 0.5 if metric.unit == "share" else 8.0 for name, metric in METRICS.items()}
        after = dict(before)
        for name, effect in effects.items():
            wobble = scatter * (-1) ** pair
            after[name] = before[name] * (effect + wobble) if METRICS[name].is_ratio else before[name] + effect / 100
        comparison.measured += [RunResult(pair, "baseline", pair, before), RunResult(pair, "variant", pair, after)]
    return comparison


def cell(table, row, heading):
    return table.rows[row][table.heading.index(heading)]


# Ceilings


@pytest.mark.parametrize(
    ("waiting", "factors", "share"),
    [
        (0.5, (1, 1), 1),
        (0.75, (math.inf, 1), 1 / 4),
        (0.75, (1, math.inf), 3 / 4),
        (0.75, (1, 2), 0.875),
        (0.0, (1, math.inf), 0),
    ],
)
def test_the_relative_time_is_amdahls(waiting, factors, share):
    assert lesson.relative_time(waiting, *factors) == pytest.approx(share)


def test_the_ceilings_of_a_run_that_waits_for_three_quarters_of_a_step():
    table = lesson.ceilings(run_of())
    assert [row[1:] for row in table.rows] == [
        ["40 ms", "× 1.00"],
        ["25 ms", "× 0.62"],
        ["10 ms", "× 0.25"],
        ["35 ms", "× 0.88"],
        ["30 ms", "× 0.75"],
    ]
    assert "75.0% of a step is waiting" in table.caption


def test_the_ceilings_of_a_gpu_that_waits_for_its_orders_and_of_a_disturbed_run_say_so():
    table = lesson.ceilings(run_of(host_bound=0.9, others_share=0.4))
    assert "a cheaper format does not" in table.caption
    assert table.warning.startswith("⚠")
    quiet = lesson.ceilings(run_of())
    assert "cheaper format" not in quiet.caption
    assert not quiet.warning


def test_a_disturbed_trial_is_marked_in_every_table_of_it():
    first = tried(cache=run_of(wait_s=0.0, others_share=0.4), channels_last=run_of(compute_s=0.006))
    second = tried(channels_last=run_of())
    for table in (first.table(), lesson.before_and_after(first, second)):
        assert [row[0] for row in table.rows if "⚠" in row[0]] == [f"cache{' device' * (len(table.heading) > 3)} ⚠"]
        assert table.warning
    race = lesson.Race(0.9, {"yours": racer([0.91], 8), "newcomer": racer([0.95], 30, others_share=0.4)})
    for table in (race.table(), race.bill(1)):
        assert [row[0] for row in table.rows[:2]] == ["yours", "newcomer ⚠"]
        assert table.warning


def test_a_decision_and_the_summary_say_what_was_disturbed():
    busy = cache_comparison(seconds=0.5, reads=0.1)
    assert "⚠" not in repr(lesson.decide(busy, "seconds"))
    for run in busy.measured:
        run.others_share = 0.4
    assert repr(lesson.decide(busy, "seconds")).endswith("⚠ Other programs competed for the cores.")
    table = lesson.summary(SavedComparisons({}, []), busy)
    assert {row[-1] for row in table.rows if row[0] == "cache"} == {"this notebook ⚠"}
    assert table.warning.startswith("⚠")


def test_without_waiting_nothing_is_left_of_a_step_that_does_not_compute():
    table = lesson.ceilings(run_of(wait_s=0.0))
    assert cell(table, 2, "relative time") == "× 1.00"
    assert cell(table, 4, "relative time") == "× 0.00"


def test_before_the_second_step_nothing_is_known():
    table = lesson.ceilings(run_of(steps=1))
    assert [row[1:] for row in table.rows] == [["n/a", "n/a"]] * 5


# Trials


def test_the_options_are_a_table():
    recipe = Recipe()
    changes = {"cache": {"cache": "device"}, "channels_last": {"channels_last": True}}
    changes |= {"both": {"batchnorm": True, "workers": 2}}
    assert lesson.table_of_options(recipe, changes).rows == [
        ["cache", "off", "device"],
        ["channels_last", "off", "on"],
        ["both", "off, 0", "on, 2"],
    ]


def tried(recipe=None, **runs):
    recipe = recipe or Recipe()
    changes = {"cache": {"cache": "device"}, "channels_last": {"channels_last": True}, "workers": {"workers": 1}}
    changes = {name: changes[name] for name in runs}
    return lesson.Trials(recipe, changes, {lesson.AS_IT_IS: run_of(), **runs})


def test_trials_are_sorted_by_the_time_of_their_steps_and_the_best_is_on_top():
    found = tried(channels_last=run_of(compute_s=0.006), cache=run_of(wait_s=0.0), workers=run_of(wait_s=0.05))
    table = found.table()
    assert [row[0] for row in table.rows] == ["cache device", "channels_last on", "as it is", "workers 1"]
    assert [row[2] for row in table.rows] == ["× 0.25", "× 0.90", "× 1.00", "× 1.50"]
    assert cell(table, 0, "waiting share") == "0.0%"
    assert cell(table, 0, "time of 4 steps") == "40 ms"
    assert (cell(table, 2, "waiting per step"), cell(table, 2, "computing per step")) == ("30 ms", "10 ms")
    assert found.switch == "cache"
    assert found.best == Recipe(cache="device")
    assert found.claims == CLAIMS["cache"]
    assert "One run each" in table.caption
    assert tried(channels_last=run_of()).claims == ()


def test_as_it_is_is_not_an_option_even_if_it_is_fastest():
    assert tried(workers=run_of(wait_s=0.05)).switch == "workers"
    with pytest.raises(ValueError, match="No option was left"):
        _ = tried().best


def test_real_trials_leave_out_what_would_change_nothing(quick, no_children):
    options = lesson.options(quick)
    assert list(options) == ["cache", "workers", "precision", "channels_last"]
    found = lesson.trials(quick.but(cache="device", channels_last=True), options, progress=False)
    assert list(found.runs) == ["as it is", "precision"]
    assert [run.count for run in found.runs.values()] == [8, 8]
    assert found.runs["precision"].recipe.precision == options["precision"]["precision"]
    assert "on top of: device cache" in repr(found)


def test_what_was_decided_on_is_not_tried_again(quick, monkeypatch):
    """Whether it was kept or dropped: neither is left, even if the dropped one would come out on top."""
    monkeypatch.setattr(lesson, "fit", run_of)
    options = {"cache": {"cache": "ram"}, "precision": {"precision": "bf16"}, "channels_last": {"channels_last": True}}
    one = lesson.decide(compared(quick, quick.but(cache="ram"), step_s=0.5))
    two = lesson.decide(compared(one.recipe, one.recipe.but(precision="bf16"), step_s=1.5))
    assert (one.changes, two.changes) == ({"cache": "ram"}, {"precision": "bf16"})
    assert (one.kept, two.kept) == (True, False)
    found = lesson.trials(two.recipe, options, decided=(one, two), progress=False)
    assert list(found.runs) == ["as it is", "channels_last"]
    assert found.switch == "channels_last"
    dropped = lesson.decide(compared(quick, quick.but(cache="ram"), pairs=4, step_s=0.5))
    assert list(lesson.trials(quick, options, decided=(dropped,), progress=False).changes) == [
        "precision",
        "channels_last",
    ]


def test_of_several_rounds_the_shortest_step_counts_and_their_order_alternates(quick, monkeypatch):
    made, lengths = [], iter([0.02, 0.03, 0.01, 0.04])

    def fit(recipe):
        made.append(recipe.channels_last)
        return run_of(recipe, wait_s=0.0, compute_s=next(lengths))

    monkeypatch.setattr(lesson, "fit", fit)
    found = lesson.trials(quick, {"channels_last": {"channels_last": True}}, rounds=2, progress=False)
    assert made == [False, True, True, False]
    assert (found.step_s("as it is"), found.step_s("channels_last")) == (0.02, 0.01)
    assert "The fastest of 2 runs each" in repr(found)


def test_the_same_change_before_and_after():
    first = tried(cache=run_of(wait_s=0.0), channels_last=run_of(compute_s=0.006))
    second = lesson.Trials(
        first.best,
        {"channels_last": {"channels_last": True}},
        {lesson.AS_IT_IS: run_of(wait_s=0.0), "channels_last": run_of(wait_s=0.0, compute_s=0.005)},
    )
    table = lesson.before_and_after(first, second)
    assert table.rows == [["cache", "× 0.25", "not tried again"], ["channels_last", "× 0.90", "× 0.50"]]
    assert table.heading[1:] == ["on top of: baseline", "on top of: device cache"]


# Decisions


@pytest.mark.parametrize(
    ("metric", "effects", "kept", "words"),
    [
        ("step_s", {"step_s": 0.5}, True, r"cache device: kept\..*lower \(× 0.500"),
        ("step_s", {"step_s": 1.5}, False, r"dropped\..*higher"),
        ("step_s", {"step_s": 1.0, "scatter": 0.3}, False, r"dropped\..*no difference detected"),
        ("step_s", {"step_s": math.nan}, False, r"dropped\..*n/a"),
        ("validation_accuracy", {"validation_accuracy": 2.0}, True, r"kept.*\+2.00 points"),
        ("validation_accuracy", {"validation_accuracy": 0.3}, False, r"dropped.*higher \(\+0.30"),
        ("validation_accuracy", {"validation_accuracy": -2.0}, False, "dropped.*lower"),
    ],
)
def test_only_what_pays_is_kept(metric, effects, kept, words):
    base = Recipe()
    comparison = compared(base, base.but(cache="device"), **effects)
    decision = lesson.decide(comparison, metric)
    assert decision.kept is kept
    assert decision.recipe == (comparison.variant if kept else base)
    assert len(repr(decision).splitlines()) == 1
    assert re.search(words, repr(decision))


def test_too_few_pairs_decide_nothing():
    base = Recipe()
    decision = lesson.decide(compared(base, base.but(cache="device"), pairs=4, step_s=0.1))
    assert decision.recipe == base
    assert repr(decision).startswith("cache device: dropped. Not judged: ")
    assert "4 of the 5 pairs" in repr(decision)


def test_the_figure_shows_waiting_and_computing_of_every_stage():
    base = Recipe()
    one = compared(base, base.but(cache="device"), step_s=0.5, wait_s=0.125)
    two = compared(one.variant, one.variant.but(precision="bf16"), step_s=1.5, wait_s=1.0)
    two.measured = [run.model_copy(update={"others_share": 0.4}) for run in two.measured]
    picture = lesson.bottleneck(one, two)
    axes = picture.figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "1. cache device: before",
        "after: kept",
        "2. precision bf16 ⚠: before",
        "after: dropped",
    ]
    assert axes.get_xlabel().endswith("⚠: other programs competed for the cores)")
    widths = [round(bar.get_width()) for bar in axes.patches]
    # Milliseconds: waiting, then computing. A couple is of one comparison: the second begins with its own baseline.
    assert widths == [8000, 0, 1000, 3000, 8000, 0, 8000, 4000]
    pale = [bar.get_alpha() < 1 for bar in axes.patches]
    assert pale == [False] * 6 + [True, True]  # the dropped change
    heights = [bar.get_y() for bar in axes.patches[::2]]
    assert heights == sorted(heights, reverse=True)
    legend = axes.figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["waiting for data", "computing"]
    assert {patch.get_alpha() for patch in legend.get_patches()} == {1.0}
    assert picture.png.startswith(b"\x89PNG")


# The race


def racer(accuracies, seconds, test=None, **figures):
    run = run_of(**figures)
    for i, accuracy in enumerate(accuracies, 1):
        run.epoch(t=seconds * i / len(accuracies), validation_accuracy=accuracy)
    run.scalars["prepare_s"] = 1.0
    if test:
        run.scalars["test_accuracy"] = test
    return run


def test_the_time_to_the_target_counts_the_preparation_and_says_who_did_not_reach_it():
    race = lesson.Race(0.9, {"your recipe": racer([0.91], 8, test=0.9), "newcomer": racer([0.8, 0.89], 30)})
    assert race.time("your recipe") == 9
    assert [row[1] for row in race.table().rows] == ["9 s", "not reached in 31 s"]
    assert [row[-1] for row in race.table().rows] == ["90.0%", "n/a"]
    ends = [line.get_xdata().tolist() for line in race.figure().figure.axes[0].lines if line.get_marker() == "o"]
    assert ends == [[9], [16, 31]]


def test_the_bill_says_more_than_where_a_run_was_stopped():
    race = lesson.Race(0.9, {"yours": racer([0.91], 8), "newcomer": racer([0.8], 35)})
    bill = race.bill(price_per_hour=2, runs=3600)
    assert [row[1:3] for row in bill.rows] == [
        ["9", "18"],
        ["more than 36", "more than 72"],
        ["more than 27", "more than 54"],
    ]
    assert [row[3] for row in bill.rows] == ["n/a"] * 3


def test_the_bill_has_two_digits_and_the_saving_is_of_the_exact_figures():
    """8,460 and 12,400 hours: 3,940 are saved, where the rounded figures would give 3,500."""
    race = lesson.Race(0.9, {"yours": racer([0.91], 7.46), "newcomer": racer([0.95], 11.4)})
    rows = race.bill(price_per_hour=2, runs=3_600_000).rows
    assert [row[1] for row in rows] == ["8,500", "12,000", "3,900"]
    assert [row[2] for row in rows] == ["17,000", "25,000", "7,900"]


def test_the_bill_takes_energy_from_the_gpus_meter():
    race = lesson.Race(0.9, {"yours": racer([0.91], 8, energy_j=1000), "newcomer": racer([0.95], 35, energy_j=4600)})
    assert [row[3] for row in race.bill(1, runs=3600).rows] == ["1", "4.6", "3.6"]


def test_nothing_is_saved_by_a_recipe_that_does_not_reach_the_target():
    race = lesson.Race(0.9, {"yours": racer([0.8], 8), "newcomer": racer([0.8], 35)})
    assert race.bill(1, runs=3600).rows[2] == ["saved", "n/a", "n/a", "n/a"]


@pytest.mark.parametrize(("price", "runs"), [(-1, 10), (math.nan, 10), (1, 0)])
def test_a_bill_needs_a_price_and_a_number_of_runs(price, runs):
    race = lesson.Race(0.9, {"yours": racer([0.91], 8), "newcomer": racer([0.8], 35)})
    with pytest.raises(ValueError, match="price must be 0 or more"):
        race.bill(price, runs)


def test_a_race_is_run_on_a_panel_and_ends_the_newcomer(quick):
    """With no time left at all the newcomer is stopped long before its epochs are over."""
    panel = sk.Panel(quick)
    slow, yours = quick.but(epochs=10_000, optimizer="adam"), quick.but(cache="device", test_at_end=True)
    race = lesson.race(panel, slow, yours, target=0.9, times=1e-6)
    first, newcomer = race.runs.values()
    assert (first.status, newcomer.status) == ("finished", "stopped")
    assert newcomer.recipe == slow
    assert 1 <= newcomer.count < 40_000
    assert "times the time of your recipe" in newcomer.reason
    assert 0 <= first.scalars["test_accuracy"] <= 1
    assert "test_accuracy" not in newcomer.scalars
    assert panel.runs == [first, newcomer]


def test_a_newcomer_that_finishes_in_time_is_not_stopped(quick):
    race = lesson.race(sk.Panel(quick), quick, quick.but(cache="device"), target=0.001, times=1000)
    assert [run.status for run in race.runs.values()] == ["finished", "finished"]
    assert all(math.isfinite(race.time(name)) for name in race.runs)


# Saved comparisons


def cache_comparison(**options):
    base = Recipe(device="cpu")
    made = compared(base, base.but(cache="ram"), claims=CLAIMS["cache"], **options)
    for run in made.measured:
        run.others_share = 0.01  # as in a real one; with nan, no two would be equal
    return made


def test_a_saved_comparison_comes_back_and_the_newest_counts(own_folder):
    assert saved_comparisons() == SavedComparisons({}, [])
    first = cache_comparison(seconds=0.5)
    assert save_result(first) is first
    second = sk.save_result(cache_comparison(seconds=0.25))
    assert saved_comparisons() == SavedComparisons({"cache": second}, [])
    assert [path.name for path in (own_folder / "comparisons").iterdir()] == ["cache.json"]


def test_a_comparison_without_a_verdict_is_not_saved(own_folder):
    few = cache_comparison(pairs=4)
    cut = cache_comparison()
    cut.smoke = True
    assert save_result(few) is few
    assert save_result(cut) is cut
    assert not own_folder.exists()


def test_a_comparison_without_a_claim_is_about_nothing():
    with pytest.raises(ValueError, match="first claim"):
        save_result(compared(Recipe(), Recipe(cache="ram")))


def test_if_nothing_can_be_written_the_comparison_says_so(own_folder):
    own_folder.write_text("a file where the folder should be")
    (note,) = save_result(cache_comparison()).notes
    assert str(own_folder) in note


@pytest.mark.parametrize("content", ["", "{}", '{"format": 1, "kind": "prediction"}'])
def test_a_damaged_file_is_named_and_does_not_stop_the_others(content):
    sound = save_result(cache_comparison())
    path = saved.path("precision")
    path.write_text(content)
    found = saved_comparisons()
    assert found.comparisons == {"cache": sound}
    assert len(found.notes) == 1
    assert "precision" in found.notes[0]
    assert found.notes[0] in lesson.summary(found).caption


# The article's table


def rows_of(table, technique):
    return [row for row in table.rows if row[0] == technique]


def test_the_table_holds_every_claim_and_says_what_was_not_measured():
    table = lesson.summary(SavedComparisons({}, []))
    assert len(table.rows) == sum(map(len, CLAIMS.values()))
    assert {row[3] for row in table.rows} == {"not measured here yet"}
    for technique, claims in CLAIMS.items():
        assert [row[1] for row in rows_of(table, technique)] == [claims[0].sentence] + [""] * (len(claims) - 1)
        assert len({claim.sentence for claim in claims}) == 1
    page = table._repr_html_()
    for technique, name in lesson.LESSONS.items():
        assert f"<a href='{name}.ipynb'>{technique}</a>" in page
    assert set(lesson.LESSONS) == set(CLAIMS)


def test_a_lessons_comparison_counts_before_one_of_this_notebook():
    of_lesson, of_here = cache_comparison(seconds=0.5, reads=0.1), cache_comparison(seconds=2.0, reads=0.1)
    table = lesson.summary(SavedComparisons({"cache": of_lesson}, []), of_here)
    assert [row[3:] for row in rows_of(table, "cache")][1] == [
        "× 0.500 (× 0.500)",
        "held here",
        "its lesson",
    ]
    table = lesson.summary(SavedComparisons({}, []), of_here)
    assert rows_of(table, "cache")[1][3:] == ["× 2.000 (× 2.000)", "the opposite", "this notebook"]


def test_a_comparison_that_can_tell_counts_before_one_that_cannot():
    base = Recipe(device="cpu")
    variant = base.but(batchnorm=True)
    vague = compared(base, variant, claims=CLAIMS["batchnorm"], target_s=math.nan)
    clear = compared(base, variant, claims=CLAIMS["batchnorm"], target_s=0.5)
    row = rows_of(lesson.summary(SavedComparisons({"batchnorm": vague}, []), clear), "batchnorm")[1]
    assert row[4:] == ["held here", "this notebook"]
    row = rows_of(lesson.summary(SavedComparisons({"batchnorm": vague}, [])), "batchnorm")[1]
    assert row[4:] == ["cannot tell", "its lesson"]


def test_another_machines_comparison_is_not_shown_as_measured_here():
    other = hardware.machine("cpu").to_dict() | {"name": "<b>Deep Thought</b>"}
    table = lesson.summary(SavedComparisons({"cache": cache_comparison(machine=other)}, []))
    assert rows_of(table, "cache")[0][3] == "not measured here yet"
    assert "another machine" in table.caption
    assert "&lt;b&gt;Deep Thought" in table._repr_html_()


def test_a_comparison_says_nothing_about_a_technique_that_it_does_not_change():
    table = lesson.summary(SavedComparisons({}, []), cache_comparison(step_s=0.1))
    assert {row[3] for row in rows_of(table, "workers")} == {"not measured here yet"}
