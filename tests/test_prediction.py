"""A prediction is committed once, kept, and scored by what was measured; nobody has to click."""

import json
import math
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

import speedkit
from speedkit.classroom.guesses import Guess, score
from speedkit.classroom.prediction import NONE_MADE, Form, Prediction, predict, score_prediction
from speedkit.comparison.metrics import CANNOT_TELL, METRICS
from speedkit.comparison.result import Comparison, RunResult
from speedkit.recipe import Recipe
from speedkit.support.settings import learner_folder

BASELINE = Recipe(seed=4)


@pytest.fixture(autouse=True)
def runs(monkeypatch, tmp_path):
    """The learner's own folder, of this test alone."""
    monkeypatch.setenv("SPEEDKIT_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def stored(runs):
    return sorted(path.name for path in (runs / "predictions").glob("*")) if runs.exists() else []


def compared(ratio=0.5, spread=0.0, pairs=5, metric="step_s", started="", points=None, **more):
    """A finished comparison of caching whose pairs scatter around a ratio, or a difference in points."""
    comparison = Comparison(BASELINE, BASELINE.but(**(more.pop("change", None) or {"cache": "ram"})), **more)
    comparison.status, comparison.started = "finished", started
    for i, off in enumerate(np.linspace(-spread, spread, pairs)):
        before = 0.8 if points is not None else 1.0
        after = before + (points + off) / 100 if points is not None else ratio * math.exp(off)
        for arm, value in (("baseline", before), ("variant", after)):
            comparison.measured.append(RunResult(i, arm, 4 + i, {metric: value}))
    return comparison


# Committing by code


@pytest.mark.parametrize(
    ("metric", "value", "direction", "size"),
    [
        ("step_s", 0.5, "lower", 0.5),
        ("step_s", 3, "higher", 3.0),
        ("step_s", 1, "same", None),
        ("step_s", np.float32(0.25), "lower", 0.25),
        ("step_s", "lower", "lower", None),
        ("reads", "higher", "higher", None),
        ("peak_memory", "same", "same", None),
        ("step_s", ("lower", 0.5), "lower", 0.5),
        ("step_s", ["higher", 2], "higher", 2.0),
        ("validation_accuracy", -1.5, "lower", -1.5),
        ("validation_accuracy", 2, "higher", 2.0),
        ("validation_accuracy", 0, "same", None),
        ("validation_accuracy", ("lower", -1), "lower", -1.0),
    ],
)
def test_what_a_value_means(metric, value, direction, size):
    guess = predict("cache", **{metric: value}).guesses[metric]
    assert (guess.technique, guess.metric, guess.direction, guess.size) == ("cache", metric, direction, size)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: predict("caching", step_s=0.5), r"technique='caching' is not allowed: give precision \| .*cache"),
        (lambda: predict("cache", steps=0.5), r"metric='steps' is not allowed: give step_s \| "),
        (lambda: predict("cache"), r"needs a metric: step_s"),
        (lambda: Prediction("cache"), r"needs a metric: step_s"),
        (lambda: predict("cache", step_s="faster"), r"step_s='faster' is not allowed: give lower \| higher \| same"),
        (lambda: predict("cache", step_s=0), "step_s='0' is not allowed.*0.5 is half of the baseline's"),
        (lambda: predict("cache", step_s=-2), "step_s='-2' is not allowed"),
        (lambda: predict("cache", step_s=1e9), "is not allowed"),
        (lambda: predict("cache", step_s=math.nan), "step_s='nan' is not allowed"),
        (lambda: predict("cache", step_s=math.inf), "step_s='inf' is not allowed"),
        (lambda: predict("cache", step_s=True), "step_s='True' is not allowed"),
        (lambda: predict("cache", step_s=[]), "is not allowed"),
        (lambda: predict("cache", step_s=("lower", 2)), "contradicts itself: 0.5 is half"),
        (lambda: predict("cache", step_s=("lower", "lower")), "step_s='lower' is not allowed.*or a number"),
        (lambda: predict("cache", validation_accuracy=("lower", 2)), "contradicts itself.*-1.5 is one and a half"),
        (lambda: predict("cache", validation_accuracy=101), "is not allowed.*-1.5 is one and a half points"),
        (lambda: predict("cache", step_s=0.5, reads="less"), "reads='less' is not allowed"),
        (lambda: predict("cache", case="../../x", step_s=0.5), "case='../../x' is not allowed: give up to 40 letters"),
        (lambda: predict("cache", case=3, step_s=0.5), "case=3 is not allowed: give up to 40 letters"),
        (lambda: Prediction("cache", "step_s").commit("reads", 0.5), "metric='reads' is not part of this prediction"),
        (lambda: Guess("cache", "step_s", "lower", 2.0, "", ""), "'lower' and × 2 contradict each other"),
    ],
)
def test_bad_input_is_one_clear_sentence_and_commits_nothing(runs, call, words):
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert not stored(runs)


def test_the_first_commitment_stays():
    first = predict("cache", step_s=0.5)
    assert not first.notes
    again = predict("cache", step_s=0.9, reads="lower")
    assert again.guesses["step_s"] == first.guesses["step_s"]
    assert again.guesses["reads"].direction == "lower"
    assert again.notes == ["time per step (mean): you committed to “lower, × 0.5” before, and that stands."]
    assert not predict("cache", step_s=0.5).notes  # the cell run again


def test_a_placeholder_commits_nothing_and_shows_what_is_kept(runs):
    open_ones = predict("cache", step_s=..., reads=None)
    assert not open_ones.guesses
    assert not stored(runs)
    assert repr(open_ones).count(NONE_MADE) == 2
    predict("cache", step_s=0.5)
    assert predict("cache", step_s=...).guesses["step_s"].size == 0.5


def test_cases_techniques_and_metrics_are_kept_apart(runs):
    predict("workers", case="2 workers", wait_s=0.5)
    predict("workers", case="4 workers", wait_s=0.25)
    predict("workers", wait_s="higher")
    predict("cache", wait_s="same")
    assert stored(runs) == [
        "cache-wait_s.json",
        "workers-wait_s-2_workers.json",
        "workers-wait_s-4_workers.json",
        "workers-wait_s.json",
    ]
    assert predict("workers", case="4 workers", wait_s=...).guesses["wait_s"].size == 0.25


def test_it_is_exported_lazily():
    assert speedkit.predict is predict
    assert speedkit.Prediction is Prediction
    assert speedkit.score_prediction is score_prediction


# Keeping


def test_it_outlives_the_kernel(runs):
    predict("cache", step_s=0.5, validation_accuracy=-1)
    script = "import speedkit; print(speedkit.Prediction('cache', 'step_s', 'validation_accuracy', 'reads'))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("time per step (mean): lower, × 0.5 (committed 20")
    assert lines[1].startswith("validation accuracy: lower, -1 points (committed 20")
    assert lines[2] == f"images read from the source while training: {NONE_MADE}"


def test_the_folder_is_beside_the_notebook(monkeypatch, tmp_path):
    monkeypatch.delenv("SPEEDKIT_RUNS")
    monkeypatch.chdir(tmp_path)
    assert learner_folder() == tmp_path / "runs"
    predict("cache", step_s=0.5)
    assert [path.name for path in (tmp_path / "runs").rglob("*.json")] == ["cache-step_s.json"]


def test_a_prediction_of_format_1_still_loads(runs):
    """``tests/data`` holds files that an earlier speedkit wrote."""
    guess = Guess.load(Path(__file__).parent / "data" / "prediction-format-1.json")
    assert (guess.technique, guess.metric, str(guess), guess.case) == ("cache", "seconds", "lower, × 0.4", "on sqlite")
    guess.path.parent.mkdir(parents=True)
    shutil.copy(Path(__file__).parent / "data" / "prediction-format-1.json", guess.path)
    assert predict("cache", case="on sqlite", seconds=...).guesses["seconds"] == guess


def good_file(runs):
    predict("cache", step_s=0.5)
    return runs / "predictions" / "cache-step_s.json"


def changed(**values):
    return lambda text: json.dumps({name: v for name, v in (json.loads(text) | values).items() if v != "gone"})


DAMAGE = {
    "truncated": lambda text: text[:-20],
    "empty": lambda text: "",
    "not JSON": lambda text: "<script>alert(1)</script>",
    "a list": lambda text: "[]",
    "deep": lambda text: "[" * 9_999,
    "huge": lambda text: text + " " * 100_000 + "x",
    "another format": changed(format=2),
    "another kind": changed(kind="comparison"),
    "missing": changed(size="gone"),
    "no case": changed(case="gone"),
    "unknown": changed(more=1),
    "technique": changed(technique="<b>"),
    "technique of a wrong type": changed(technique=["cache"]),
    "another metric": changed(metric="reads"),
    "another case": changed(case="b"),
    "direction": changed(direction="sideways"),
    "contradiction": changed(direction="higher"),
    "size as text": changed(size="0.5"),
    "size a direction": changed(size="lower"),
    "size nan": changed(size=math.nan),
    "size infinite": changed(size=1e400),
    "size true": changed(size=True),
    "size a list": changed(size=["lower", 0.5]),
    "size of thousands of digits": lambda text: text.replace("0.5", "5" * 9_000),
    "size not a number in JSON": lambda text: text.replace("0.5", "NaN"),
    "no time": changed(committed="<img src=x onerror=alert(1)>"),
    "time without zone": changed(committed="2026-01-01T00:00:00"),
    "time a number": changed(committed=5),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_one_sentence_and_nothing_is_lost(runs, damage):
    path = good_file(runs)
    damaged = damage(path.read_text(encoding="utf-8"))
    path.write_text(damaged, encoding="utf-8")
    prediction = Prediction("cache", "step_s", "reads")
    assert not prediction.guesses
    (note,) = prediction.notes
    assert str(path) in note
    assert "\n" not in note
    assert "<script>" not in prediction._repr_html_()
    assert "<img" not in prediction._repr_html_()
    assert path.read_text(encoding="utf-8") == damaged  # looking at it changes nothing
    prediction.commit("step_s", 0.25)  # and a new commitment moves it aside
    assert Prediction("cache", "step_s").guesses["step_s"].size == 0.25
    assert (path.parent / "cache-step_s.json.unreadable-1").read_text(encoding="utf-8") == damaged
    path.write_text("again", encoding="utf-8")
    predict("cache", step_s=0.75)
    assert (path.parent / "cache-step_s.json.unreadable-1").read_text(encoding="utf-8") == damaged
    assert (path.parent / "cache-step_s.json.unreadable-2").read_text(encoding="utf-8") == "again"


def test_a_file_that_is_not_text_or_not_a_file(runs):
    path = good_file(runs)
    path.write_bytes(b"\xff\xfe\x00")
    assert "cannot" not in repr(Prediction("cache", "reads"))
    (note,) = Prediction("cache", "step_s").notes
    assert "is not a prediction that this speedkit can read" in note
    path.unlink()
    path.mkdir()
    (note,) = Prediction("cache", "step_s").notes
    assert "it is not a file" in note
    assert predict("cache", step_s=0.5).guesses["step_s"].size == 0.5
    assert path.is_file()


def test_where_nothing_can_be_stored_it_is_kept_for_the_session(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SPEEDKIT_RUNS", str(tmp_path / "file"))
    prediction = predict("cache", step_s=0.5)
    assert prediction.guesses["step_s"].size == 0.5
    (note,) = prediction.notes
    assert "lasts only until the kernel ends" in note
    assert prediction.commit("step_s", 0.9).size == 0.5


def test_a_failed_write_leaves_no_file(monkeypatch, runs):
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    assert "disk full" in predict("cache", step_s=0.5).notes[0]
    assert stored(runs) == []


# The widget, without a browser


@pytest.mark.parametrize(
    ("metric", "direction", "size", "text"),
    [
        ("step_s", "lower", 4.0, "lower, × 0.25"),
        ("step_s", "higher", 4.0, "higher, × 4"),
        ("step_s", "same", None, "same"),
        ("validation_accuracy", "lower", 1.5, "lower, -1.5 points"),
        ("validation_accuracy", "higher", 1.5, "higher, +1.5 points"),
    ],
)
def test_the_form_commits_what_it_shows_and_locks(metric, direction, size, text):
    prediction = Prediction("cache", metric)
    form = prediction.forms[metric]
    assert form.button.disabled
    assert form.size.disabled
    form.direction.value = direction
    if size is not None:
        assert not form.size.disabled
        form.size.value = size
    assert not form.button.disabled
    assert f"Your prediction: {text}." in form.line.value
    assert not prediction.guesses
    form.button.click()
    assert str(prediction.guesses[metric]) == text
    assert form.line.value == f"Committed: {text}."
    assert form.direction.disabled
    assert form.size.disabled
    assert form.button.disabled
    form.direction.value = "higher" if direction != "higher" else "lower"  # as a stale tab might
    form.button.click()
    assert str(prediction.guesses[metric]) == text
    assert str(Prediction(prediction.technique, metric).guesses[metric]) == text


@pytest.mark.parametrize(
    ("metric", "typed", "text"), [("step_s", 3.25, "× 3.25"), ("validation_accuracy", 0.4, "+0.4")]
)
def test_a_size_can_be_typed_and_slid(metric, typed, text):
    form = Prediction("cache", metric).forms[metric]
    assert form.number.disabled
    form.direction.value = "higher"
    form.number.value = typed
    assert form.size.value == typed
    assert f"higher, {text}" in form.line.value
    form.size.value = 2.0
    assert form.number.value == 2.0
    assert "higher, × 2." in form.line.value or "higher, +2 points." in form.line.value


def test_a_point_of_accuracy_is_wide_enough_for_a_hand():
    """A hand sets a slider to about five pixels of its 150: that must be less than half of a size near one point."""
    slider = Prediction("cache", "validation_accuracy").forms["validation_accuracy"].size
    assert slider.base ** ((slider.max - slider.min) * 5 / 150) < 1.5


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("direction", ["lower", "higher"])
@pytest.mark.parametrize("end", ["min", "max"])
def test_every_position_of_the_slider_can_be_committed(metric, direction, end):
    prediction = Prediction("cache", metric)
    form = prediction.forms[metric]
    form.direction.value = direction
    form.size.value = form.size.base ** getattr(form.size, end)
    assert form.number.value == pytest.approx(form.size.value, rel=0.01)
    form.button.click()
    guess = prediction.guesses[metric]
    assert guess.direction == direction
    assert guess.size is not None
    assert Guess.load(guess.path) == guess


def test_nothing_is_committed_without_a_direction(runs):
    prediction = Prediction("cache", "step_s")
    prediction.forms["step_s"].button.click()
    assert not prediction.guesses
    assert not stored(runs)
    assert "Choose a direction" in prediction.forms["step_s"].line.value


def test_a_form_shows_what_was_committed_elsewhere():
    slow = Prediction("cache", "step_s")
    form = slow.forms["step_s"]
    form.direction.value = "higher"
    predict("cache", step_s=0.5)
    form.button.click()
    assert slow.guesses["step_s"].size == 0.5
    assert form.line.value.startswith("Committed: lower, × 0.5.")
    assert "you committed to “lower, × 0.5” before, and that stands" in form.line.value
    assert Prediction("cache", "step_s").forms["step_s"].button.disabled


def test_a_sentence_in_a_form_is_escaped(runs):
    path = good_file(runs)
    path.write_text(json.dumps({"format": 1, "kind": "prediction", "<b>bold</b>": 1}))
    line = Prediction("cache", "step_s").forms["step_s"].line.value
    assert "<b>" not in line


class Shown:
    def __init__(self):
        self.bundles = []

    def __call__(self, bundle, **_):
        self.bundles.append(bundle)
        return self

    def update(self, bundle, **_):
        self.bundles.append(bundle)


@pytest.fixture
def shown(monkeypatch):
    shown = Shown()
    for module in ("speedkit.classroom.prediction", "speedkit.lab.display"):
        monkeypatch.setattr(sys.modules[module], "display", shown)
    return shown


def test_shown_as_a_form_until_all_is_committed_and_as_text_then(shown):
    prediction = Prediction("cache", "step_s", "reads")
    prediction._ipython_display_()
    assert "application/vnd.jupyter.widget-view+json" in shown.bundles[0]
    assert shown.bundles[0]["text/plain"].count(NONE_MADE) == 2
    prediction.commit("step_s", 0.5)
    assert "opened again" in shown.bundles[1]["text/plain"]
    assert len(shown.bundles) == 2
    prediction.commit("reads", "lower")
    assert list(shown.bundles[2]) == ["text/plain", "text/html"]
    assert "lower, × 0.5" in shown.bundles[2]["text/html"]
    assert shown.bundles[3] == {"text/plain": ""}
    Prediction("cache", "step_s", "reads")._ipython_display_()
    assert list(shown.bundles[4]) == ["text/plain", "text/html"]


def test_a_notebook_that_nobody_clicks_in_goes_on(shown):
    prediction = Prediction("cache", "step_s")
    prediction._ipython_display_()
    table = score_prediction(prediction, compared())
    assert table.rows[0][1] == NONE_MADE
    assert table.rows[0][2] == "× 0.500"
    assert table.rows[0][-2:] == ["no score", "No prediction was made."]


# Scoring


def scored(value, comparison, metric="step_s"):
    prediction = predict("cache", **{metric: value})
    return score(prediction.guesses[metric], comparison)


WIDE = {"ratio": 1.0, "spread": 0.5}


@pytest.mark.parametrize(
    ("value", "measured", "points", "of", "words"),
    [
        (0.5, {"ratio": 0.5, "spread": 0.02}, 2, 2, "the size is inside the interval"),
        (0.5, {"ratio": 0.4, "spread": 0.02}, 2, 2, "within a factor of two"),
        (0.5, {"ratio": 0.9, "spread": 0.02}, 1, 2, "The effect was smaller than you predicted: × 0.900"),
        (0.5, {"ratio": 0.2, "spread": 0.02}, 1, 2, "The effect was larger than you predicted: × 0.200"),
        # Less than a factor of two apart as ratios, and yet no good guess:
        (0.95, {"ratio": 0.55, "spread": 0.02}, 1, 2, "larger than you predicted"),
        # A factor of two apart as logarithms, and yet no good guess:
        (0.01, {"ratio": 0.1, "spread": 0.02}, 1, 2, "smaller than you predicted"),
        ("lower", {"ratio": 0.5, "spread": 0.02}, 1, 1, "Next time, commit to a size"),
        (2.0, {"ratio": 0.5, "spread": 0.02}, 0, 2, "It went the other way here: × 0.500"),
        ("higher", {"ratio": 0.5, "spread": 0.02}, 0, 1, "other way"),
        ("same", {"ratio": 0.5, "spread": 0.02}, 0, 1, "It did change here: × 0.500"),
        ("same", {"ratio": 1.0, "spread": 0.02}, 1, 1, "The direction is right."),
        ("same", {"ratio": 0.97, "spread": 0.005}, 1, 1, "The direction is right."),  # a difference, but of no account
        ("lower", {"ratio": 0.97, "spread": 0.005}, 1, 1, "The direction is right."),
        ("same", WIDE, 0, 0, "vary too much"),
        ("lower", WIDE, 0, 0, "vary too much"),
        (0.5, WIDE, 0, 0, "vary too much"),
        ("lower", {"ratio": 1.0, "spread": 0.02}, 0, 1, "a change of a tenth in that direction is ruled out"),
        (0.5, {"ratio": 1.0, "spread": 0.02}, 0, 2, "a change of a tenth in that direction is ruled out"),
        ("higher", {"ratio": 1.0, "spread": 0.02}, 0, 1, "a change of a tenth in that direction is ruled out"),
        (0.99, {"ratio": 1.0, "spread": 0.02}, 0, 0, "vary too much"),  # it may be just so
        (0.5, {"ratio": 0.5, "pairs": 4}, 0, 0, "No score: too few pairs to judge, 4 of the 5 pairs"),
        (0.5, {"ratio": 0.5, "smoke": True}, 0, 0, "a smoke run never carries a verdict"),
        (0.5, {"ratio": 0.5, "metric": "reads"}, 0, 0, "No score: n/a, not measured here"),
        (0.5, {"ratio": math.nan}, 0, 0, "No score: n/a"),
    ],
)
def test_the_score_follows_from_what_was_measured(value, measured, points, of, words):
    result = scored(value, compared(**measured))
    assert result[:2] == (points, of)
    assert words in result.sentence


@pytest.mark.parametrize(
    ("value", "measured", "points", "of", "words"),
    [
        (2, {"points": 2, "spread": 0.2}, 2, 2, "inside the interval"),
        (2, {"points": 3, "spread": 0.2}, 2, 2, "within a factor of two"),
        (2, {"points": 7, "spread": 0.2}, 1, 2, "larger than you predicted: +7.00 points"),
        (-2, {"points": 2, "spread": 0.2}, 0, 2, "other way"),
        (0, {"points": 0.1, "spread": 0.2}, 1, 1, "is right"),
        ("same", {"points": 2, "spread": 0.2}, 0, 1, "It did change"),
        ("same", {"points": 0, "spread": 3}, 0, 0, "vary too much"),
        ("higher", {"points": 0, "spread": 0.2}, 0, 1, "a change of half a point in that direction is ruled out"),
    ],
)
def test_accuracy_is_scored_in_points(value, measured, points, of, words):
    result = scored(value, compared(metric="validation_accuracy", **measured), "validation_accuracy")
    assert result[:2] == (points, of)
    assert words in result.sentence


@pytest.mark.parametrize("change", [{"workers": 2}, {"cache": "off"}])
def test_another_technique_is_not_scored(change):
    result = scored(0.5, compared(change=change))
    assert result.of == 0
    assert "cache is 'off' in the baseline and 'off' in the variant" in result.sentence


def test_what_was_committed_after_the_comparison_began_is_not_scored():
    now = datetime.now(UTC)
    late = scored(0.5, compared(started=(now - timedelta(minutes=1)).isoformat(timespec="seconds")))
    assert late == (0, 0, "No score: the prediction was committed after the comparison had started.")
    later = compared(started=(now + timedelta(minutes=1)).isoformat(timespec="seconds"))
    assert scored(0.5, later).points == 2
    assert scored(0.5, compared(started="long ago")).points == 2  # a comparison that does not know when


def test_the_score_is_one_table_with_the_sum_of_the_points():
    comparison = compared(0.5, 0.02)
    for run in comparison.measured:
        run.values["reads"] = 100.0 if run.arm == "baseline" else 0.0
    table = score_prediction(predict("cache", step_s=0.5, reads="higher", energy_j=0.5, seconds=...), comparison)
    assert table.heading[1:] == ["predicted", "measured", "95 % interval", "verdict", "points", "feedback"]
    assert [row[0] for row in table.rows] == [METRICS[m].title for m in ("step_s", "reads", "energy_j", "seconds")]
    assert [row[5] for row in table.rows] == ["2 of 2", "0 of 1", "no score", "no score"]
    assert table.rows[0][1:5] == ["lower, × 0.5", "× 0.500", "× 0.490 to × 0.510", "lower"]
    assert table.rows[2][4] == "n/a: not measured here"
    assert table.caption.startswith("2 of 3 points.")
    assert "× 0.490 to × 0.510" in table._repr_html_()


def test_a_table_without_any_score_shows_no_sum():
    table = score_prediction(Prediction("cache", "step_s"), compared(pairs=2))
    assert table.rows[0][2:4] == ["× 0.500", "n/a"]
    assert table.rows[0][4] == "too few pairs to judge: 2 of the 5 pairs that a verdict needs"
    assert " of 0 points" not in table.caption
    assert CANNOT_TELL not in table.caption


def test_notes_come_with_the_table():
    predict("cache", step_s=0.5)
    assert "and that stands" in score_prediction(predict("cache", step_s=0.9), compared()).caption


def test_a_form_is_made_only_where_it_is_looked_at(monkeypatch):
    monkeypatch.setattr(Form, "__init__", lambda *_: pytest.fail("a form was made"))
    assert predict("cache", step_s=0.5).guesses
