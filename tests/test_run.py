"""A run keeps what was measured, also on disk, and can be read while it is written."""

import html
import json
import math
import os
import threading
from array import array
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speedkit.recipe import Recipe
from speedkit.run import EPOCH_COLUMNS, STEP_COLUMNS, Run
from speedkit.run_file import FORMAT
from speedkit.support import files, units
from speedkit.support.messages import Message

DATA = Path(__file__).parent / "data"


def filled(steps=4, epochs=1, wait_s=0.01, compute_s=0.03, **changes):
    """A run of equal steps, as the loop would have left it."""
    run = Run(Recipe(batch_size=8, **changes))
    for n in range(steps):
        step_s = wait_s + compute_s
        run.step(
            epoch=0,
            t=(n + 1) * step_s,
            wait_s=wait_s,
            compute_s=compute_s,
            step_s=step_s,
            memory=2**20,
            loss=1 / (n + 1),
            reads=8 * n,
        )
    for n in range(epochs):
        run.epoch(
            steps=steps,
            t=steps * 0.04 + n + 1,
            train_s=1.0,
            evaluate_s=0.5,
            reads=0,
            train_loss=0.5,
            train_accuracy=0.75,
            validation_loss=0.25 - n,
            validation_accuracy=0.5,
        )
    run.machine, run.total_steps, run.status = {"device": "cpu", "cores": 2, "bf16": None}, 4, "finished"
    run.scalars = {"prepare_s": 0.5, "peak_memory": float(2**20), "energy_j": math.nan}
    return run


# Recording


def test_a_new_run_is_empty_and_knows_nothing_yet():
    run = Run(Recipe())
    assert run.status == "new"
    assert (run.count, run.seconds) == (0, 0.0)
    assert datetime.fromisoformat(run.started).tzinfo
    for name in (*STEP_COLUMNS, "images_per_s"):
        assert run.column(name).shape == (0,)
    for name in EPOCH_COLUMNS:
        assert run.epoch_column(name).shape == (0,)
    assert all(math.isnan(value) for value in (run.waiting_share, run.median("loss"), run.last("validation_loss")))
    assert math.isnan(run.mean("images_per_s"))
    assert "n/a" in repr(run)


def test_what_is_not_given_is_nan():
    run = Run(Recipe())
    assert run.step(loss=1.0).n == 0
    assert run.step(t=2.0).n == 1
    assert run.epoch(train_loss=3.0).n == 0
    assert run.column("loss")[0] == 1
    assert math.isnan(run.column("loss")[1])
    assert math.isnan(run.last("validation_loss"))
    assert {len(run.column(name)) for name in STEP_COLUMNS} == {2}


def test_a_column_is_a_copy():
    run = filled()
    column = run.column("loss")
    run.steps["loss"][0] = 99.0
    run.step(loss=5.0)
    assert column.tolist() == [1, 1 / 2, 1 / 3, 1 / 4]
    with pytest.raises(KeyError):
        run.column("nothing")


def test_means_medians_and_the_waiting_share_leave_the_first_step_out():
    run = Run(Recipe(batch_size=8))
    for wait_s, step_s in [(100.0, 1000.0), (1.0, 4.0), (1.0, 2.0), (1.0, 2.0), (math.nan, math.nan)]:
        run.step(wait_s=wait_s, step_s=step_s)
    assert run.median("step_s") == 2
    assert run.median("images_per_s") == 4
    assert (run.mean("step_s"), run.mean("wait_s"), run.mean("images_per_s")) == (8 / 3, 1, 3)
    assert run.waiting_share == 3 / 8


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (None, "finished", ""),
        (GeneratorExit, "stopped", "stopped by hand"),
        (KeyboardInterrupt, "stopped", "stopped by hand"),
        (ValueError("out of paper"), "failed", "out of paper"),
        (MemoryError(), "failed", "MemoryError"),
    ],
)
def test_the_status_is_true_however_the_run_ends(error, status, reason):
    run = Run(Recipe())
    if error is None:
        with run.recording():
            assert run.status == "running"
    else:
        with pytest.raises(type(error) if isinstance(error, Exception) else error), run.recording():
            raise error
    assert (run.status, run.reason) == (status, reason)


def test_a_note_is_kept_once():
    run = Run(Recipe())
    for _ in range(2):
        run.note("Close the browser.")
    assert run.notes == ["Close the browser."]


def test_a_smoke_run_says_so_and_keeps_its_recipe_until_it_is_trained(monkeypatch):
    monkeypatch.setenv("SPEEDKIT_SMOKE", "1")
    run = Run(Recipe())
    assert run.smoke
    assert run.recipe == Recipe()
    assert "SPEEDKIT_SMOKE" in repr(run)
    monkeypatch.delenv("SPEEDKIT_SMOKE")
    assert not Run(Recipe()).smoke
    assert "SPEEDKIT_SMOKE" not in repr(filled())


def timed(wait, compute, read=math.nan, augment=math.nan, cores=2, device="cpu", **changes):
    """A run of twenty steps with these seconds per step."""
    run = filled(20, wait_s=wait, compute_s=compute, **changes)
    run.machine = {"cores": cores, "device": device}
    run.steps["read_s"], run.steps["augment_s"] = array("d", [read] * 20), array("d", [augment] * 20)
    return run


SPLIT = "{}% of a step is waiting for data ({}% reading, {}% augmenting), {}% computing."
WHOLE = "{}% of a step is waiting for data, {}% computing."
CHEAPER = "A cheaper step can save at most {}%."
NOTHING_LEFT = "Smaller images or lighter augmentation can still shorten the waiting."
FILLED = "The cache is filled in the first epoch: later ones have less to read."


@pytest.mark.parametrize(
    ("run", "said"),
    [
        # Amdahl: a technique can save no more than the whole of its part.
        (
            timed(3, 1, read=2, augment=1),
            [SPLIT.format(75, 50, 25, 25), "A cache can save at most 50%, workers at most 75%.", CHEAPER.format(25)],
        ),
        (timed(13, 87), [WHOLE.format(13, 87), "A cache or workers can save at most 13%.", CHEAPER.format(87)]),
        (timed(1, 99, read=1, augment=0), [WHOLE.format(1, 99), CHEAPER.format(99)]),
        # What is on already is not advised again.
        (
            timed(3, 1, read=0, augment=3, cache="ram"),
            [SPLIT.format(75, 0, 75, 25), "Workers can save at most 75%.", CHEAPER.format(25)],
        ),
        (
            timed(3, 1, read=3, augment=0, workers=1),
            [SPLIT.format(75, 75, 0, 25), "A cache can save at most 75%.", CHEAPER.format(25)],
        ),
        (
            timed(3, 1, read=1, augment=2, workers=1, cache="ram", cores=8),
            [SPLIT.format(75, 25, 50, 25), "More workers can save at most 75%.", FILLED, CHEAPER.format(25)],
        ),
        (
            timed(1, 1, read=0, augment=1, cache="device"),
            [SPLIT.format(50, 0, 50, 50), NOTHING_LEFT, CHEAPER.format(50)],
        ),
        (
            timed(3, 1, read=3, augment=0, cache="disk", cores=1),
            [SPLIT.format(75, 75, 0, 25), FILLED, CHEAPER.format(25)],
        ),
        # A full cache is not read from the source: what is left is to hand the images over.
        (
            timed(1, 3, read=0, augment=0, cache="ram"),
            [WHOLE.format(25, 75), "Workers can save at most 25%.", CHEAPER.format(75)],
        ),
        # Two workers prepare two batches in 4 s each. Without the reading these take 2 s, and nobody waits any more.
        (
            timed(1, 3, read=2, augment=2, workers=2, cores=8),
            [SPLIT.format(25, 12, 12, 75), "A cache or more workers can save at most 25%.", CHEAPER.format(75)],
        ),
        # Three of eight seconds are read by two workers at a time: that is 1.5 s for each batch, of 2 s of waiting.
        (
            timed(2, 2, read=3, augment=5, workers=2, cores=8),
            [
                SPLIT.format(50, 19, 31, 50),
                "A cache can save at most 38%, more workers at most 50%.",
                CHEAPER.format(50),
            ],
        ),
        # No core is free for a worker; nothing is read that a cache could keep.
        (
            timed(3, 1, read=0, augment=3, cores=1),
            [SPLIT.format(75, 0, 75, 25), "No core is free for workers.", NOTHING_LEFT, CHEAPER.format(25)],
        ),
        # A GPU leaves all cores to workers.
        (
            timed(3, 1, read=0, augment=3, cores=1, device="cuda:0"),
            [SPLIT.format(75, 0, 75, 25), "Workers can save at most 75%.", CHEAPER.format(25)],
        ),
    ],
)
def test_what_is_said_about_the_time_is_what_can_be_saved(run, said):
    assert run.where_time_goes() == " ".join(said)


def test_a_step_that_only_waits_is_not_told_to_compute_less():
    assert "cheaper" not in timed(99, 1, read=99, augment=0).where_time_goes()


@pytest.mark.parametrize("steps", [1, 19])
def test_where_the_time_goes_is_not_known_from_a_few_steps(steps):
    assert filled(steps=steps).where_time_goes() == "Where the time goes is known from step 20 on."


@pytest.mark.parametrize(("share", "said"), [(0.5, True), (0.49, False), (math.nan, False)])
def test_a_gpu_that_waits_for_its_orders_is_not_called_busy(share, said):
    run = timed(0, 1, device="cuda:0")
    run.scalars["host_bound"] = share
    sentence = run.where_time_goes()
    assert ("the processor orders work more slowly than the GPU does it" in sentence) is said
    assert ("A cheaper step" in sentence) is not said
    assert sentence.startswith("0% of a step is waiting for data")


def test_other_programs_leave_no_core_free_for_workers():
    run = timed(3, 1, read=2, augment=1, cores=8)
    run.scalars["others_share"] = 0.4
    assert "A cache can save at most 50%. A cheaper" in run.where_time_goes()


@pytest.mark.parametrize(
    ("epochs", "best", "said"),
    [
        (3, 1, "Early stopping ended the run after epoch 3 of 9, and kept the weights of epoch 2."),
        (9, 8, "Early stopping did not end the run; it kept the weights of epoch 9."),
        (9, math.nan, ""),
    ],
)
def test_early_stopping_says_what_it_did(epochs, best, said):
    run = filled(20, epochs=epochs, early_stopping=1)
    run.recipe = run.recipe.but(epochs=9)
    run.status, run.scalars["best_epoch"], run.total_steps = "finished", best, 60
    assert run.where_time_goes().endswith(said or CHEAPER.format(75))
    run.count = 10  # too few to say where the time goes, but not what early stopping did
    assert run.where_time_goes().endswith(said or "from step 20 on.")


def test_seconds_end_with_the_last_step_or_evaluation():
    assert filled(steps=4, epochs=1).seconds == pytest.approx(4 * 0.04 + 1)
    assert filled(steps=4, epochs=0).seconds == pytest.approx(4 * 0.04)


# Reading while another thread writes


def test_reading_while_another_thread_appends_never_fails(tmp_path):
    run, done, problems = Run(Recipe()), threading.Event(), []
    run.step(), run.step(wait_s=1.0, step_s=2.0), run.epoch()

    def read():
        try:
            while not done.is_set():
                assert all(len(run.column(name)) >= 2 for name in (*STEP_COLUMNS, "images_per_s"))
                assert len(run.to_frame()) >= 2
                assert len(run.epochs_to_frame()) >= 1
                assert run.waiting_share == 0.5
                run.median("loss"), run.last("t"), repr(run), run._repr_html_()
                assert Run.load(run.save(tmp_path / "run.json")).count >= 2
        except BaseException as problem:
            problems.append(problem)

    found = os.sys.getswitchinterval()
    os.sys.setswitchinterval(1e-6)  # change threads as often as possible
    try:
        readers = [threading.Thread(target=read)]
        for reader in readers:
            reader.start()
        for n in range(20_000):
            run.step(wait_s=1.0, step_s=2.0, loss=0.5, t=n)
            if n % 10 == 0:
                run.epoch(t=n)
            if problems:
                break
    finally:
        os.sys.setswitchinterval(found)
        done.set()
        for reader in readers:
            reader.join()
    assert problems == []


def test_a_step_between_the_reading_of_two_columns_does_no_harm(tmp_path, monkeypatch):
    run, column, epoch_column = filled(steps=3, epochs=1), Run.column, Run.epoch_column

    def slow_column(self, name):  # after each look at a column, the training thread adds a row
        found = column(self, name)
        run.step(wait_s=0.01, step_s=0.04, t=0.0)
        return found

    def slow_epoch_column(self, name):
        found = epoch_column(self, name)
        run.epoch(t=0.0)
        return found

    monkeypatch.setattr(Run, "column", slow_column)
    monkeypatch.setattr(Run, "epoch_column", slow_epoch_column)
    assert run.waiting_share == pytest.approx(0.25)
    assert len(run.to_frame()) >= 3
    assert len(run.epochs_to_frame()) >= 1
    path = run.save(tmp_path / "run.json")
    monkeypatch.undo()
    assert Run.load(path).count >= 3


def test_a_half_written_row_is_not_seen():
    run = filled(steps=2, epochs=1)
    for columns in (run.steps, run.epochs):  # as another thread finds them in the middle of an append
        for name in list(columns)[:3]:
            columns[name].append(9.0)
    assert {len(run.column(name)) for name in STEP_COLUMNS} == {2}
    assert {len(run.epoch_column(name)) for name in EPOCH_COLUMNS} == {1}
    assert run.waiting_share == pytest.approx(0.25)
    assert len(run.to_frame()) == 2
    assert len(run.epochs_to_frame()) == 1


# Keeping


def assert_equal(a, b):
    assert (a.recipe, a.machine, a.status, a.reason, a.started) == (b.recipe, b.machine, b.status, b.reason, b.started)
    assert (a.notes, a.smoke, a.total_steps, a.count) == (b.notes, b.smoke, b.total_steps, b.count)
    for name in STEP_COLUMNS:
        np.testing.assert_array_equal(a.column(name), b.column(name))
    for name in EPOCH_COLUMNS:
        np.testing.assert_array_equal(a.epoch_column(name), b.epoch_column(name))
    np.testing.assert_equal(a.scalars, b.scalars)


def test_a_run_comes_back_from_disk_as_it_was(tmp_path):
    run = filled(precision="bf16", workers=1)
    run.step(loss=math.nan, t=math.inf)
    run.notes, run.reason = ['A note with "quotes" and ümlauts.', "half a character: \ud800"], "why"
    run.note(Message("The loss became {value} at step {step}.", value=math.nan, step=7))
    path = run.save(tmp_path / "new" / "folder" / "run.json")
    kept = json.loads(path.read_text())
    assert kept["format"] == FORMAT
    assert kept["steps"]["loss"][-1] is None
    run.steps["t"][-1] = math.nan  # JSON has no infinity either
    loaded = Run.load(path)
    assert_equal(loaded, run)
    assert loaded.notes[-1].msgid == "The loss became {value} at step {step}."
    assert loaded.notes[-1].values == {"value": "nan", "step": 7}


def test_a_run_of_format_1_still_loads(tmp_path):
    """``tests/data`` holds files that an earlier speedkit wrote."""
    run = Run.load(DATA / "run-format-1.json")
    assert run.recipe == Recipe(data="sqlite", subset=960, early_stopping=2, learning_rate=0.1, device="cpu")
    assert (run.status, run.reason, run.count, run.total_steps) == ("stopped", "stopped by hand", 3, 30)
    assert run.notes == [
        "Other programs used 42% of this machine's cores during the run: close them and run again before you trust "
        "its times."
    ]
    np.testing.assert_equal(run.scalars, {"prepare_s": 0.5, "peak_memory": 2.0**20, "energy_j": math.nan})
    np.testing.assert_array_equal(run.column("loss"), [1, math.nan, 1 / 3])
    assert run.column("reads").tolist() == [0, 64, 128]
    assert run.last("validation_accuracy") == 0.5
    assert run.machine["name"] == "Core i7"
    path = run.save(tmp_path / "now.json")
    assert json.loads(path.read_text())["format"] == FORMAT
    assert_equal(Run.load(path), run)


def test_an_empty_run_comes_back_too(tmp_path):
    run = Run(Recipe())
    assert_equal(Run.load(run.save(tmp_path / "run.json")), run)


@given(st.lists(st.floats(allow_infinity=False), max_size=5))
def test_every_number_comes_back_exactly(tmp_path_factory, values):
    run = Run(Recipe())
    for value in values:
        run.step(loss=value)
    path = tmp_path_factory.mktemp("runs") / "run.json"
    np.testing.assert_array_equal(Run.load(run.save(path)).column("loss"), values)


def test_frames_hold_the_columns():
    run = filled(steps=3, epochs=2)
    frame = run.to_frame()
    assert list(frame) == [*STEP_COLUMNS, "images_per_s"]
    assert frame["loss"].tolist() == [1, 1 / 2, 1 / 3]
    assert frame["images_per_s"].tolist() == pytest.approx([8 / 0.04] * 3)
    assert list(run.epochs_to_frame()) == list(EPOCH_COLUMNS)
    assert len(run.epochs_to_frame()) == 2


def changed(path, *keys, to):
    """Replaces one value of a saved run."""
    kept = json.loads(path.read_text())
    place = kept
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = to
    path.write_text(json.dumps(kept))


DIGITS = {"plural": "{n}" * 100_000, "n": 10**4000}
GIGABYTES = {"plural": "{n:>9999999999}", "n": 2}


def laughs(depth):
    """A message that holds itself ten times, and so on: short in the file, without end on the page."""
    inner = laughs(depth - 1) if depth else "ha " * 10
    return {"msgid": "{a}" * 10, "values": {"a": inner}}


HARMS = {
    "empty": lambda path: path.write_text(""),
    "cut off": lambda path: path.write_text(path.read_text()[:-20]),
    "not JSON": lambda path: path.write_text("a run, it says"),
    "not text": lambda path: path.write_bytes(b"\xff\xfe\x00" + os.urandom(50)),
    "a list": lambda path: path.write_text("[]"),
    "null": lambda path: path.write_text("null"),
    "nothing in it": lambda path: path.write_text("{}"),
    "too deep": lambda path: path.write_text("[" * 100_000),
    "another format": lambda path: changed(path, "format", to=FORMAT + 1),
    "recipe of an unknown field": lambda path: changed(path, "recipe", "turbo", to=1),
    "recipe of a wrong value": lambda path: changed(path, "recipe", "workers", to="two"),
    "recipe no table": lambda path: changed(path, "recipe", to="baseline"),
    "machine no table": lambda path: changed(path, "machine", to=[]),
    "status a number": lambda path: changed(path, "status", to=3),
    "smoke a number": lambda path: changed(path, "smoke", to=1),
    "notes a text": lambda path: changed(path, "notes", to="abc"),
    "notes of numbers": lambda path: changed(path, "notes", to=[1]),
    "total_steps a text": lambda path: changed(path, "total_steps", to="12"),
    "total_steps a fraction": lambda path: changed(path, "total_steps", to=1.5),
    "total_steps true": lambda path: changed(path, "total_steps", to=True),
    "scalars a list": lambda path: changed(path, "scalars", to=[1]),
    "scalar a text": lambda path: changed(path, "scalars", "prepare_s", to="1"),
    "an unknown field": lambda path: changed(path, "turbo", to=1),
    "another kind": lambda path: changed(path, "kind", to="comparison"),
    "format as text": lambda path: changed(path, "format", to=str(FORMAT)),
    "a note that is no message": lambda path: changed(path, "notes", to=[{"msgid": "{a}", "values": {"b": 1}}]),
    "a note of many notes": lambda path: changed(path, "notes", to=[laughs(9)]),
    "a plural of many digits": lambda path: changed(path, "notes", to=[{"msgid": "", "values": {}, **DIGITS}]),
    "a plural of gigabytes": lambda path: changed(path, "reason", to={"msgid": "", "values": {}, **GIGABYTES}),
    "a note with more": lambda path: changed(path, "notes", to=[{"msgid": "a", "values": {}, "html": "<b>"}]),
    "a reason that is a list": lambda path: changed(path, "reason", to=["a"]),
    "a constant in a column": lambda path: changed(path, "steps", "loss", 0, to=math.inf),
    "steps a list": lambda path: changed(path, "steps", to=[]),
    "a column missing": lambda path: changed(path, "steps", to={name: [] for name in STEP_COLUMNS[1:]}),
    "columns of different lengths": lambda path: changed(path, "steps", "loss", to=[1.0]),
    "epochs of different lengths": lambda path: changed(path, "epochs", "t", to=[]),
    "a bool in a column": lambda path: changed(path, "steps", "loss", 0, to=True),
    "a text in a column": lambda path: changed(path, "steps", "loss", 0, to="1.0"),
    "a list in a column": lambda path: changed(path, "steps", "loss", 0, to=[1.0]),
    "a column that is a text": lambda path: changed(path, "steps", "loss", to="1234"),
    "a number beyond floats": lambda path: changed(path, "steps", "loss", 0, to=10**400),
    "a number of too many digits": lambda path: path.write_text('{"format": ' + "1" * 5000 + "}"),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_file_that_is_no_run_is_refused_by_name(tmp_path, harm):
    path = filled().save(tmp_path / "my run.json")
    HARMS[harm](path)
    with pytest.raises(ValueError, match="is not a run that this speedkit can read") as refusal:
        Run.load(path)
    assert str(refusal.value).startswith(str(path))


def test_a_missing_file_is_an_oserror(tmp_path):
    with pytest.raises(FileNotFoundError):
        Run.load(tmp_path / "none.json")


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = filled().save(tmp_path / "run.json")
    before = path.read_bytes()

    def fails(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="disk full"):
        filled(steps=1).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_as_text_keeps_the_old_file_too(tmp_path):
    path = tmp_path / "a"
    files.write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        files.write_atomically(path, "\ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


# Showing


def test_html_is_escaped():
    run = filled()
    run.status, run.reason = "failed", "<script>alert('no')</script>"
    run.note("<b>bold</b> & more")
    shown = run._repr_html_()
    assert "<script>" not in shown
    assert "<b>bold" not in shown
    assert html.escape("<b>bold</b> & more") in shown


def test_the_summary_says_what_was_measured_in_units():
    run = filled()
    assert run.summary()["run"] == "baseline (finished)"
    assert run.summary()["time per step"] == "10 ms waiting for data + 30 ms computing (means)"
    assert run.summary()["throughput"] == "200 images/s"
    assert run.summary()["peak memory of the processes"] == "1.0 MiB"
    assert run.summary()["accuracy"] == "validation 50.0%, training 75.0%"
    assert "energy" not in run.summary()
    run.scalars |= {"test_accuracy": 0.875, "energy_j": 12.4}
    assert run.summary()["accuracy"].endswith("test 87.5%")
    assert run.summary()["energy"] == "12 J on the GPU"
    for device in ("cuda:0", "mps"):
        run.machine = {"device": device}
        assert run.summary()["peak memory on the device"] == "1.0 MiB"
        assert not run.memory_is_of_processes
    run.machine = {}
    assert run.memory_is_of_processes


def test_a_run_shows_itself_as_a_table():
    run = filled()
    run.note("Close the browser.")
    lines = repr(run).splitlines()
    assert [line.split("  ")[0] for line in lines] == [*run.summary(), "Close the browser."]
    assert lines[0].endswith("  baseline (finished)")
    assert "<table>" in run._repr_html_()
    assert run._repr_html_().endswith("<p>Close the browser.</p>")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0000482, "48.2 µs"),
        (0.0009996, "1 ms"),
        (0.00321, "3.21 ms"),
        (0.9999, "1 s"),
        (0.5, "500 ms"),
        (1, "1 s"),
        (12.34, "12.3 s"),
        (99.9, "99.9 s"),
        (99.99, "100 s"),
        (125, "2 min 5 s"),
        (119.7, "2 min 0 s"),
        (3600, "60 min 0 s"),
        (0, "0 ms"),
        (None, "n/a"),
        (math.nan, "n/a"),
        (math.inf, "n/a"),
    ],
)
def test_seconds_in_words(value, words):
    assert units.seconds(value) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (2**20, "1.0 MiB"), (2**31, "2.0 GiB"), (None, "n/a")],
)
def test_bytes_in_words(value, words):
    assert units.size(value) == words


def test_shares_and_numbers_in_words():
    assert (units.percent(0.1234), units.percent(math.nan)) == ("12.3%", "n/a")
    assert (units.number(12345.6), units.number(None)) == ("12,346", "n/a")
