"""The panel and the thread that trains behind it, without a browser, and in a kernel without a front end."""

import gc
import os
import subprocess
import sys
import threading
import time
import weakref

import nbformat
import pytest
import torch
from frontends import notebook_of
from nbclient import NotebookClient

from speedkit.lab import panel as panel_module
from speedkit.lab import runner as runner_module
from speedkit.lab.on_axes import EARLIER
from speedkit.lab.panel import Panel
from speedkit.lab.runner import explain, stop_all
from speedkit.recipe import SWITCHES, Recipe
from speedkit.run import Run
from speedkit.support import errors
from speedkit.support.errors import NotFinite
from speedkit.support.units import seconds

OTHERS = [name for name in Recipe.model_fields if name not in SWITCHES]
CHANGED = Recipe(  # no field at its default
    precision="bf16",
    early_stopping=7,
    augment="heavy",
    batchnorm=True,
    workers=3,
    cache="disk",
    data="folder:/my pictures",
    subset=300,
    image_size=32,
    stored_size=64,
    model="wide",
    epochs=3,
    steps=17,
    batch_size=50,
    optimizer="adam",
    learning_rate=0.0025,
    schedule="one_cycle",
    weight_decay=0.5,
    seed=12,
    device="cpu",
    min_delta=0.1,
    shift=3,
    cache_images=99,
    prefetch=5,
    pin_memory=False,
    start_method="spawn",
    channels_last=True,
    allow_slow=True,
    test_at_end=True,
)


@pytest.fixture(autouse=True)
def nothing_goes_on():
    """Every test leaves the kernel without a run, and no thread of ours behind."""
    yield
    stop_all()
    wait_for(lambda: not chart_threads(), "the chart's thread ended")


@pytest.fixture
def panel(quick):
    return Panel(quick)


@pytest.fixture
def endless(quick):
    """A recipe whose run ends only when it is stopped."""
    return quick.but(epochs=10_000)


def chart_threads():
    return [thread for thread in threading.enumerate() if thread.name == "speedkit chart"]


def training_threads():
    return [thread for thread in threading.enumerate() if thread.name == "speedkit run"]


def wait_for(condition, what):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"waited a minute, and it never came true: {what}"
        time.sleep(0.005)


def trains(panel, steps=3):
    """Waits until the panel's run has made some steps."""
    wait_for(lambda: panel._shown is not None and panel._shown.count >= steps, f"{steps} steps")


def ends(panel):
    panel._runner.join(60)
    assert not panel._runner.alive


def alert(panel):
    return panel.problem.value


# The controls


def test_a_panel_says_what_its_recipe_says(quick):
    assert Panel().read() == Recipe()
    assert Panel(quick).read() == quick
    assert list(Panel().controls) == [*SWITCHES, "data", "subset", "epochs"]


def test_every_field_can_have_a_control():
    for recipe in (Recipe(), CHANGED):
        panel = Panel(recipe, settings=OTHERS)
        assert set(panel.controls) == set(Recipe.model_fields)
        assert panel.read() == recipe


def test_what_has_no_control_stays_as_it_is():
    panel = Panel(CHANGED, settings=())
    assert list(panel.controls) == list(SWITCHES)
    assert panel.read() == CHANGED


@pytest.mark.parametrize(
    ("name", "shown", "value"),
    [
        ("precision", "bf16", "bf16"),
        ("early_stopping", 3, 3),
        ("early_stopping", 0, None),
        ("augment", "heavy", "heavy"),
        ("batchnorm", True, True),
        ("workers", 2, 2),
        ("cache", "device", "device"),
        ("data", "sqlite", "sqlite"),
        ("subset", "all", None),
        ("subset", " 500 ", 500),
        ("epochs", "7", 7),
    ],
)
def test_a_control_becomes_a_field(name, shown, value):
    panel = Panel(Recipe(early_stopping=1, subset=100))
    panel.controls[name].value = shown
    assert panel.read() == Recipe(early_stopping=1, subset=100).but(**{name: value})


def test_values_outside_the_usual_ones_are_offered_in_words():
    controls = Panel(CHANGED).controls
    assert controls["early_stopping"].label == "patience 7"
    assert [label for label, _ in controls["early_stopping"].options][:2] == ["off", "patience 1"]
    assert controls["workers"].label == "3"
    assert controls["data"].label == "folder:/my pictures"
    assert controls["batchnorm"].label == "on"
    assert Panel(settings=("image_size", "subset")).controls["image_size"].value == "none"
    assert Panel().controls["subset"].value == "all"


def test_the_lesson_s_switch_is_marked():
    controls = Panel(front="cache").controls
    assert [name for name, control in controls.items() if "sk-front" in control._dom_classes] == ["cache"]


@pytest.mark.parametrize("wrong", [{"front": "caching"}, {"settings": ("rate",)}, {"settings": ("cache",)}])
def test_names_that_there_are_not_are_refused(wrong):
    with pytest.raises(ValueError, match=r"is not a switch: choose|is not allowed: besides the switches"):
        Panel(**wrong)


@pytest.mark.parametrize("text", ["abc", "", "1.5", "-1", "0"])
def test_a_wrong_text_is_said_and_nothing_runs(panel, text):
    panel.controls["epochs"].value = text
    panel.start()
    assert "role='alert'" in alert(panel)
    assert f"Epochs: “{text}” is not possible. Enter a whole number from 1 to 10,000." in alert(panel)
    assert "sk-wrong" in panel.controls["epochs"]._dom_classes
    assert panel._runner is None
    assert not panel.run_button.disabled
    with pytest.raises(ValueError, match="Epochs: "):
        panel.run()
    panel.controls["epochs"].value = "1"
    panel.start()
    ends(panel)
    assert alert(panel) == ""
    assert "sk-wrong" not in panel.controls["epochs"]._dom_classes
    assert panel.runs[0].status == "finished"


def test_fewer_images_than_a_batch_are_refused_in_the_panel_s_words(panel):
    panel.controls["subset"].value = "10"
    panel.start()
    batch = panel.recipe.batch_size
    assert (
        f"Training samples: “10” is not possible. Enter a whole number from {batch} to 10,000,000, or “all”."
        in alert(panel)
    )
    assert "sk-wrong" in panel.controls["subset"]._dom_classes
    assert panel._runner is None


def test_texts_are_escaped(panel):
    panel.controls["epochs"].value = "<b>"
    panel.start()
    assert "&lt;b&gt;" in alert(panel)
    assert "<b>" not in alert(panel)


def test_no_note_label_or_name_of_a_machine_becomes_html(panel, monkeypatch):
    evil = "<img src=x onerror='alert(1)'>\"&"
    monkeypatch.setattr(Run, "label", evil)
    monkeypatch.setattr(Run, "where_time_goes", lambda run: evil)
    monkeypatch.setattr(panel._other_work, "look", lambda: [evil])
    run = panel.run(steps=2)
    run.note(evil)
    panel._draw()
    panel._other_work.look = lambda: [evil]
    panel._show_other_work()
    panel._show_status(evil)
    for shown in (panel.where, panel.picture, panel.other_work, panel.status):
        assert "&lt;img src=x" in shown.value
        assert "<img" not in shown.value


# run(): in the cell


def test_run_trains_draws_and_gives_the_run(panel, quick):
    run = panel.run()
    assert (run.status, run.count, run.recipe) == ("finished", 8, quick)
    assert panel.runs == [run]
    assert 'data-n="8"' in panel.picture.value
    assert run.where_time_goes() in panel.where.value
    assert "Finished after 8 steps" in panel.status.value
    assert (panel.bar.value, panel.bar.bar_style) == (1.0, "success")
    assert panel._keepsake["image/png"].startswith(b"\x89PNG")
    assert "baseline (finished): step 8" in panel._keepsake["text/plain"]
    assert (panel.run_button.disabled, panel.stop_button.disabled) == (False, True)


def test_run_sets_the_controls(panel, quick):
    changes = {"cache": "ram", "early_stopping": 6, "subset": 48, "epochs": 1, "learning_rate": 0.01}
    assert panel.run(**changes).recipe == quick.but(**changes)
    assert panel.controls["cache"].value == "ram"
    assert panel.controls["early_stopping"].label == "patience 6"
    assert panel.controls["epochs"].value == "1"
    assert panel.run(early_stopping=None, subset=None, steps=1).recipe.early_stopping is None
    assert panel.controls["early_stopping"].label == "off"
    assert panel.controls["subset"].value == "all"


def test_a_wrong_switch_leaves_the_controls_alone(panel, quick):
    with pytest.raises(ValueError, match="cache='hdd'"):
        panel.run(epochs=5, cache="hdd")
    with pytest.raises(ValueError, match="did you mean epochs"):
        panel.run(epoch=5)
    assert panel.read() == quick
    assert panel.runs == []


def test_run_raises_what_training_raises(panel, fail_after):
    fail_after(3)
    with pytest.raises(RuntimeError, match="made up"):
        panel.run()
    (failed,) = panel.runs
    assert (failed.status, failed.count) == ("failed", 3)
    assert "RuntimeError: made up" in alert(panel)
    assert "Failed after 3 steps" in panel.status.value
    assert not panel.run_button.disabled


def test_run_raises_where_the_loss_is_not_finite(panel):
    with pytest.raises(NotFinite):
        panel.run(learning_rate=100.0, weight_decay=10.0, epochs=40)
    assert panel.runs[0].reason in alert(panel)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine can do it")
def test_what_this_machine_cannot_do_is_said_and_the_run_before_stays(panel):
    before = panel.run()
    picture, kept = panel.picture.value, panel._keepsake
    with pytest.raises(errors.CannotRun, match="tf32"):
        panel.run(precision="tf32")
    assert "precision=&#39;tf32&#39; needs an NVIDIA GPU" in alert(panel)
    assert "Failed before the first step." in panel.status.value
    assert panel.runs == [before]
    assert panel.picture.value == picture
    assert panel._keepsake == kept
    assert panel.run(precision="fp32").status == "finished"
    assert alert(panel) == ""


def test_a_run_without_a_step_is_an_error(panel, monkeypatch):
    monkeypatch.setattr(runner_module, "train", lambda recipe, run: (record for record in ()))
    with pytest.raises(RuntimeError, match="without a single step"):
        panel.run()


def test_smoke_cuts_the_run_and_says_so(quick, monkeypatch):
    monkeypatch.setenv("SPEEDKIT_SMOKE", "1")
    run = Panel(quick.but(epochs=50)).run()
    assert run.smoke
    assert run.count == 6


# start() and stop(): in the background


def test_a_run_in_the_background_ends_by_itself(panel):
    panel.start()
    assert panel.run_button.disabled
    ends(panel)
    assert panel.runs[0].status == "finished"
    assert 'data-n="8"' in panel.picture.value
    assert "image/png" in panel._keepsake
    assert not panel.run_button.disabled


def test_stop_ends_a_run_and_keeps_it(endless):
    panel = Panel(endless)
    panel.start()
    trains(panel)
    assert (panel.run_button.disabled, panel.stop_button.disabled) == (True, False)
    panel.stop_button.click()
    ends(panel)
    (run,) = panel.runs
    assert run.status == "stopped"
    assert f'data-n="{run.count}"' in panel.picture.value
    assert f"Stopped after {run.count:,} steps" in panel.status.value
    assert (panel.run_button.disabled, panel.stop_button.disabled) == (False, True)
    assert (panel.bar.bar_style, alert(panel)) == ("warning", "")


def test_the_chart_moves_while_it_trains(endless):
    panel = Panel(endless)
    seen = []
    panel.picture.observe(lambda change: seen.append(panel._shown.status), "value")
    panel.start()
    wait_for(lambda: seen.count("running") >= 4, "four frames of a run that goes on")
    wait_for(lambda: "Step " in panel.status.value, "the steps are counted")  # now and then it evaluates
    assert 0 < panel.bar.value < 1


def test_a_frame_that_costs_much_makes_frames_rare_but_not_the_first_with_a_step(endless, monkeypatch):
    monkeypatch.setattr(panel_module, "SHARE", 1e-6)
    panel = Panel(endless)
    frames, draw = [], panel._draw

    def drawn():
        frames.append(panel._shown.count)
        draw()

    monkeypatch.setattr(panel, "_draw", drawn)
    panel.start()
    wait_for(lambda: any(frames), "a frame with a step")
    time.sleep(6 * panel_module.FRAME)
    assert len([count for count in frames if count]) <= 2  # two, where the first step fell into a frame


def test_stop_without_a_run_does_nothing(panel):
    panel.stop()
    panel.run()
    status = panel.status.value
    panel.stop()
    assert panel.status.value == status


def test_a_control_that_is_flipped_meanwhile_does_not_reach_the_run(endless):
    panel = Panel(endless)
    panel.start()
    trains(panel)
    panel.controls["cache"].value = "ram"
    panel.controls["epochs"].value = "abc"
    trains(panel, panel._shown.count + 3)
    panel.stop()
    ends(panel)
    assert panel.runs[0].recipe == endless
    assert panel.runs[0].status == "stopped"


def test_the_threads_of_a_run_touch_no_control(endless, monkeypatch):
    readers = set()
    original = panel_module.widgets.Dropdown.value
    panel = Panel(endless)

    class Watched:
        def __get__(self, widget, owner=None):
            if widget is not panel.on_axes.baseline:  # what to compare with is listed when a run has ended
                readers.add(threading.current_thread())
            return original.__get__(widget, owner)

        def __set__(self, widget, value):
            original.__set__(widget, value)

    monkeypatch.setattr(panel_module.widgets.Dropdown, "value", Watched())
    panel.start()
    trains(panel, 20)
    panel.stop()
    ends(panel)
    assert readers == {threading.main_thread()}


def test_whenever_a_control_or_run_sends_all_of_them_do_run_last(panel, monkeypatch):
    sent, original = [], panel_module.widgets.Widget.send_state

    def send_state(widget, key=None):
        sent.append(widget)
        original(widget, key)

    monkeypatch.setattr(panel_module.widgets.Widget, "send_state", send_state)
    together = [*panel.controls.values(), panel.run_button]
    panel.controls["epochs"].value = "1"  # as it was; and now another value
    panel.controls["epochs"].value = "2"
    assert sent[-len(together) :] == together
    sent.clear()
    panel.controls["epochs"].value = "1"
    panel.run()
    of_them = [widget for widget in sent if widget in together]
    assert of_them[-len(together) :] == together  # at the end of the run
    assert len(of_them) >= 3 * len(together)  # when the value was set, at the beginning and at the end


def test_a_new_run_of_the_same_panel_ends_the_old_one(endless):
    panel = Panel(endless)
    panel.start()
    trains(panel)
    panel.start()
    trains(panel)
    panel.stop()
    ends(panel)
    assert [run.status for run in panel.runs] == ["stopped", "stopped"]


def test_one_run_at_a_time_in_all_panels(endless, quick):
    first, second, third = Panel(endless), Panel(endless), Panel(quick)
    first.start()
    trains(first)
    second.start()
    assert first.runs[0].status == "stopped"
    assert not first.run_button.disabled
    trains(second)
    assert third.run().status == "finished"
    assert second.runs[0].status == "stopped"


def test_a_click_beside_a_running_cell_ends_its_run(endless, quick):
    """JupyterLab may hear a button in another thread, while a cell runs in the main one."""
    first, second = Panel(endless), Panel(quick)

    def click():
        trains(first)
        second.start()

    clicking = threading.Thread(target=click)
    clicking.start()
    run = first.run()
    clicking.join()
    ends(second)
    assert run.status == "stopped"
    assert second.runs[0].status == "finished"


def test_a_failure_is_shown_and_the_next_run_works(panel, fail_after):
    fail_after(3)
    panel.start()
    ends(panel)
    assert "role='alert'" in alert(panel)
    assert "RuntimeError: made up" in alert(panel)
    assert not panel.run_button.disabled
    panel.start()
    ends(panel)
    assert [run.status for run in panel.runs] == ["failed", "finished"]
    assert alert(panel) == ""


def test_missing_images_are_said_and_the_next_run_works(quick):
    panel = Panel(quick.but(data="folder:/no/such/place"))
    panel.start()
    ends(panel)
    assert "/no/such/place" in alert(panel)
    panel.controls["data"].value = "fashion-mnist"
    panel.start()
    ends(panel)
    assert [run.status for run in panel.runs] == ["finished"]
    assert alert(panel) == ""


# Earlier runs


def test_earlier_runs_stay_on_the_axes_up_to_a_number(panel):
    panel.recipe = panel.recipe.but(steps=2)
    for _ in range(EARLIER + 2):
        panel.run()
    assert len(panel.runs) == EARLIER + 2
    assert panel._keepsake["text/plain"].count("earlier, ") == EARLIER
    # the first one stays: it is compared with
    assert panel.on_axes.earlier(panel._shown) == [panel.runs[0], *panel.runs[2:-1]]


def test_both_runs_are_in_the_legend(panel):
    panel.run(steps=2)
    panel.run(cache="ram", steps=2)
    assert "> this run: ram cache<" in panel.picture.value
    assert "> baseline<" in panel.picture.value


def test_forget_keeps_the_run_that_is_shown(panel):
    panel.run(steps=2)
    last = panel.run(cache="ram", steps=2)
    panel.clear_button.click()
    assert panel.runs == [last]
    assert "> this run: ram cache<" in panel.picture.value
    assert "> baseline<" not in panel.picture.value
    assert "baseline" not in panel._keepsake["text/plain"]  # nor in what the notebook keeps


def test_forget_during_a_run_leaves_it_alone(endless):
    panel = Panel(endless)
    panel.run(cache="ram", steps=2)
    panel.controls["cache"].value = "off"
    panel.start()
    trains(panel)
    panel.forget()
    assert panel.runs == []
    assert ">ram cache<" not in panel.picture.value
    panel.stop()
    ends(panel)
    assert [run.status for run in panel.runs] == ["stopped"]


# Failures, memory, threads


class Tensor:
    """Stands for what the frame of a failing step holds."""


@pytest.fixture
def failing_frame(loop, monkeypatch):
    """Makes the loss fail in a frame that holds an object, with another error on the way; gives its weak reference."""
    held = []

    def cross_entropy(*_):
        tensor = Tensor()
        held.append(weakref.ref(tensor))
        try:
            raise KeyError("the first error")
        except KeyError:
            raise RuntimeError("made up")  # noqa: B904

    monkeypatch.setattr(loop.nn.functional, "cross_entropy", cross_entropy)
    return held


def test_a_failed_run_in_the_background_lets_go_of_its_tensors(panel, failing_frame):
    panel.start()
    ends(panel)
    wait_for(lambda: not chart_threads(), "the chart's thread ended")
    gc.collect()
    assert failing_frame[0]() is None


def test_an_exception_that_is_kept_lets_go_of_its_tensors(panel, failing_frame):
    with pytest.raises(RuntimeError, match="made up") as caught:
        panel.run()
    gc.collect()
    assert failing_frame[0]() is None
    assert caught.traceback[-1].name == "cross_entropy"


def test_all_background_runs_are_made_in_one_thread_and_the_charts_end_with_its_run(panel):
    trained_in = set()
    for _ in range(3):
        panel.start()
        assert len(chart_threads()) == len(training_threads()) == 1
        trained_in.update(training_threads())
        ends(panel)
        wait_for(lambda: not chart_threads(), "the chart's thread ended")
    assert len(trained_in) == 1


def test_a_failure_of_the_panel_itself_does_not_block_the_next_run(panel, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(panel, "_watch", lambda runner, record: 1 / 0 if record else panel._finish(runner))
        panel.start()
        ends(panel)
    assert "ZeroDivisionError: division by zero" in alert(panel)
    assert panel.run().status == "finished"


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
def test_a_panel_that_cannot_draw_the_end_is_heard_of_and_the_next_run_goes_on(panel, monkeypatch, capfd, error):
    def raises(*__):
        raise error("made up")

    with monkeypatch.context() as patch:
        patch.setattr(panel_module.chart, "png", raises)
        panel.start()
        ends(panel)
    panel.start()
    ends(panel)
    assert f"{error.__name__}: made up" in capfd.readouterr().err
    assert panel.runs[-1].status == "finished"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("a sentence."), "a sentence."),
        (NotFinite("the loss is nan."), "the loss is nan."),
        (RuntimeError("made up"), "RuntimeError: made up (panel.run() in a cell shows where this happened)."),
        (KeyError("x"), "KeyError: 'x' (panel.run() in a cell shows where this happened)."),
        (OSError(), "OSError (panel.run() in a cell shows where this happened)."),
        (RuntimeError("CUDA error: x\nmore\nlines"), "RuntimeError: CUDA error: x (panel.run()"),
        (
            RuntimeError(
                "Caught it in worker 0.\nOriginal Traceback (most recent call last):\n  a\nRuntimeError: deep"
            ),
            "RuntimeError: deep (panel.run()",
        ),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB. GPU 0 has"),
            "CUDA out of memory: lower the batch size or the image size, or take a smaller network.",
        ),
        (MemoryError(), "MemoryError: lower the batch size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "lower the batch size"),
    ],
)
def test_errors_in_one_sentence_with_what_to_do(error, words):
    said = explain(error)
    assert words in said
    assert said.endswith(".")
    assert "\n" not in said


# In a real kernel


PANEL = """import speedkit as sk
panel = sk.Panel(sk.Recipe(subset=128, batch_size=32, epochs=1, device="cpu"))
panel"""
SABOTAGE = """import importlib
functional = importlib.import_module("speedkit.train").nn.functional

def cross_entropy(*_):
    raise RuntimeError("made up")

functional.cross_entropy = cross_entropy"""


def test_outputs_of_a_kernel_keep_the_last_run(generated, tmp_path):
    """The widget, and below it the figure and the words of the last run; from a cell, its own figure stays there."""
    made = notebook_of(
        PANEL,
        "panel",
        "panel.start()\npanel._runner.join()",
        "run = panel.run(cache='ram')",
        SABOTAGE,
        "panel.start()\npanel._runner.join()\nassert 'made up' in panel.problem.value",
    )
    NotebookClient(made, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    first, again, by_hand, from_cell, *others = made.cells
    assert [cell.outputs for cell in (by_hand, *others)] == [[]] * (1 + len(others))
    (figure,) = from_cell.outputs
    assert figure.data["image/png"].strip().startswith("iVBORw0KGgo")
    assert figure.data["text/plain"].startswith("ram cache (finished): step 4 of 4")
    for cell in (first, again):
        widget, opened_again, figure = cell.outputs
        assert opened_again.data == {"text/plain": "In a notebook that was opened again, run this cell first."}
        assert set(widget.data) == {"application/vnd.jupyter.widget-view+json", "text/plain"}
        assert "live widgets: run this cell" in widget.data["text/plain"]
        assert figure.data["image/png"].strip().startswith("iVBORw0KGgo")
        assert figure.data["text/plain"].startswith("ram cache (finished): step 4 of 4")
        assert "earlier, baseline: " in figure.data["text/plain"]


def test_a_failing_cell_shows_where_and_keeps_no_tensor(generated, tmp_path):
    """IPython keeps the last traceback: what its frames held must be gone all the same."""
    hold = SABOTAGE.replace("raise", "tensor = set()\n    refs.append(weakref.ref(tensor))\n    raise")
    made = notebook_of(
        PANEL,
        f"import gc, sys, weakref\nrefs = []\n{hold}",
        "panel.run()",
        "gc.collect()\nassert sys.last_value.args == ('made up',)",
        "assert refs and not any(ref() is not None for ref in refs)",
    )
    made.cells[2].metadata["tags"] = ["raises-exception"]
    NotebookClient(made, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    chart, error = made.cells[2].outputs
    assert chart.data == {"text/html": "", "text/plain": ""}  # no step was measured
    assert (error.ename, error.evalue) == ("RuntimeError", "made up")
    assert "train.py" in "".join(error.traceback)


def test_a_failing_training_makes_nbmake_red(generated, tmp_path):
    nbformat.write(notebook_of(PANEL, "panel.run()"), tmp_path / "sound.ipynb")
    nbformat.write(notebook_of(PANEL, SABOTAGE, "panel.run()"), tmp_path / "sabotaged.ipynb")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbmake", "-rA", "-p", "no:cacheprovider", "--rootdir=.", "."],
        cwd=tmp_path,
        env=os.environ | {"SPEEDKIT_SMOKE": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "made up" in done.stdout
    assert done.returncode == 1


class Shell:
    """A shell in which the cell called "a" runs."""

    kernel = None

    def get_parent(self):
        return {"metadata": {"cellId": "a"}}


def test_a_panel_s_cell_run_again_says_that_its_run_was_stopped(quick, monkeypatch):
    monkeypatch.setattr(runner_module, "get_ipython", Shell)
    said = "The run that this cell had started before was stopped."
    first, second, third = Panel(quick), Panel(quick.but(epochs=10_000)), Panel(quick)
    first._ipython_display_()
    second._ipython_display_()
    assert said not in second.status.value  # nothing was running
    second.start()
    wait_for(lambda: second._shown.count, "the first step")
    third._ipython_display_()
    assert said in third.status.value
    wait_for(lambda: second.runs, "the end of the old run")
    assert second.runs[0].status == "stopped"


def test_the_runs_stand_in_a_table_against_the_first_or_the_one_that_was_chosen(panel):
    panel.recipe = panel.recipe.but(steps=4)
    first, second = panel.run(), panel.run(batchnorm=True)
    assert panel.on_axes.choices.layout.display == "grid"
    assert [label for label, __ in panel.on_axes.baseline.options] == ["baseline", "batch norm"]
    one, other = first.mean("step_s"), second.mean("step_s")
    assert f"{seconds(other)} (× {other / one:.2f})" in panel.table.value
    assert f"{seconds(one)}<" in panel.table.value
    assert "compared with baseline" in panel.table.value
    panel.on_axes.baseline.index = 1
    assert f"{seconds(one)} (× {one / other:.2f})" in panel.table.value
    assert f"{seconds(other)}<" in panel.table.value
    assert "compared with batch norm" in panel.table.value
    panel.forget()
    assert [label for label, __ in panel.on_axes.baseline.options] == ["batch norm"]
    assert "(×" not in panel.table.value


def test_a_run_is_hidden_and_shown_again_by_its_button(panel):
    first, second, third = (panel.run(**{"steps": 2, "cache": cache}) for cache in ("off", "ram", "off"))
    assert [button.description for button in panel.on_axes.buttons.children] == [
        "baseline",
        "ram cache",
        "baseline (2)",
    ]
    before = panel.picture.value
    panel.on_axes.buttons.children[1].value = False
    assert panel.on_axes.earlier(third) == [first]
    assert "ram cache" not in panel.picture.value
    assert "ram cache" not in panel._keepsake["text/plain"]  # what the notebook keeps is what is on the screen
    panel.on_axes.buttons.children[1].value = True
    assert panel.picture.value == before
    panel.on_axes.buttons.children[0].value = False
    assert panel.on_axes.earlier(third) == [second]
    panel.forget()
    assert [button.description for button in panel.on_axes.buttons.children] == ["baseline"]
    assert panel.on_axes.buttons.layout.display == "none"


def test_what_is_kept_follows_the_axis(panel):
    panel.run(steps=5)
    in_steps = panel._keepsake["image/png"]
    panel.on_axes.axis.value = "seconds"
    assert panel._keepsake["image/png"] != in_steps
    panel.on_axes.axis.value = "steps"
    assert panel._keepsake["image/png"] == in_steps


def test_along_seconds_a_faster_run_arrives_sooner(panel):
    panel.recipe = panel.recipe.but(steps=20)
    panel.run()
    steps = panel.picture.value
    panel.on_axes.axis.value = "seconds"
    assert ">seconds<" in panel.picture.value
    assert ">seconds<" not in steps
    panel.on_axes.axis.value = "steps"
    assert panel.picture.value == steps
