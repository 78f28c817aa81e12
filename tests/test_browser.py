"""The panel as a learner meets it: in a real JupyterLab, in a real browser. What is asserted is what can be seen.

Here recipes are not cut short, but small; only the whole first notebook runs in smoke mode, on a server of its own.
"""

import json
import re
import shutil
from pathlib import Path

import frontends
import nbformat
import pytest
from in_browser import (
    BUTTONS,
    LONG,
    OUTPUTS,
    RUN_CELL,
    SETUP,
    SHORT,
    button,
    choose_next,
    end_kernels,
    ended,
    figure,
    outputs,
    status,
    training,
)
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
LESSONS = sorted(NOTEBOOKS.glob("0[1-9]*.ipynb"))
SWITCHES = ["Precision", "Early stopping", "Augmentation", "Batch norm", "Workers", "Cache"]
TASK = ["Data", "Training samples", "Epochs"]

STATUSES = "print([one._shown and one._shown.status for one in shown])"
FAIL_ONCE = """functional = importlib.import_module("speedkit.train").nn.functional
real, calls = functional.cross_entropy, []

def cross_entropy(*args, **options):
    calls.extend([1] * (type(args[0]).__name__ != "FakeTensor"))  # not while the memory of a step is counted
    if len(calls) == 6:
        raise RuntimeError("made up")
    return real(*args, **options)

functional.cross_entropy = cross_entropy"""

# What the page shows of a run: kept once a frame, while the status says that it trains, until there are four of each.
LOOK = """() => {
    const chart = document.querySelector('.sk-chart'), seen = window.speedkitSeen ??= {steps: [], titles: []};
    if (/^Step [0-9,]+ of/.test(document.querySelector('.sk-status').textContent.trim())) {
        const title = /time per step|images per second|training loss/;
        const words = [...chart.querySelectorAll('text')].map(text => text.textContent).filter(t => title.test(t));
        for (const [name, value] of [['steps', Number(chart.dataset.n)], ['titles', words.join('; ')]])
            if (!seen[name].includes(value)) seen[name].push(value);
    }
    return seen.steps.length > 3 && seen.titles.length > 3 ? seen : false;
}"""
EXECUTE = "command => { window.jupyterapp.commands.execute(command) }"  # without waiting for its end
BEGIN_CELL = RUN_CELL.replace("await ", "")


@pytest.fixture
def lesson(page, smoke_server):
    """Opens a notebook of the kit, runs its cells up to the first panel as a learner does, and gives the page."""

    def opened(path):
        shutil.copy(path, smoke_server.root)
        frontends.open_notebook(page, smoke_server, path.name)
        for i, cell in enumerate(nbformat.read(path, as_version=4).cells):
            if cell.cell_type == "code":
                page.evaluate(RUN_CELL, i)
                if "sk.Panel(" in cell.source:
                    return page
        pytest.fail(f"{path.name} has no panel")

    yield opened
    end_kernels(smoke_server)


# The flows


def test_the_first_notebook_runs_to_its_end(page, smoke_server):
    shutil.copy(NOTEBOOKS / "00_start_here.ipynb", smoke_server.root)
    frontends.open_notebook(page, smoke_server, "00_start_here.ipynb")
    frontends.run_all(page)
    assert [output for cell in outputs(page) for output in cell if output["output_type"] == "error"] == []
    panels = page.locator(".sk-panel")
    expect(panels).to_have_count(2)
    for i in range(2):
        for name in SWITCHES + TASK:
            expect(panels.nth(i).get_by_label(name, exact=True)).to_be_visible()
    expect(panels.nth(0).locator(".sk-chart")).to_have_attribute("data-n", "0")
    expect(panels.nth(1).locator(".sk-chart")).to_have_attribute("data-n", "6")
    expect(panels.nth(1)).to_contain_text("this run: ram cache")
    expect(page.get_by_text("This machine:", exact=True)).to_be_visible()
    for heading, rows in (("relative to the last row", 3), ("validation accuracy", 2)):
        table = page.locator(".jp-OutputArea table", has=page.get_by_role("columnheader", name=heading)).first
        expect(table.locator("tbody tr")).to_have_count(rows)
    expect(page.get_by_text("these numbers mean nothing").first).to_be_visible()


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_is_predicted_and_its_panel_runs(lesson, path):
    page = lesson(path)
    assert [output for cell in outputs(page) for output in cell if output["output_type"] == "error"] == []
    form = page.locator(".sk-prediction")
    commits = button(form, "Commit")
    expect(commits.first).to_be_visible()
    count = commits.count()
    expect(form.get_by_role("spinbutton", name="by ")).to_have_count(count)  # each field for a number has a name
    for i in range(count):
        expect(commits.nth(i)).to_be_disabled()
        button(form.locator(".sk-predict-direction").nth(i), "lower").click()
        commits.nth(i).click()
        if i + 1 < count:
            expect(commits.nth(i)).to_be_disabled()
            expect(form.locator(".sk-predict-line").nth(i)).to_contain_text("Committed:")
    committed = page.locator(".sk-predicted")  # takes the place of the form, and stays in the saved notebook
    expect(committed).to_have_count(count)
    assert all("lower" in text and "committed" in text for text in committed.all_text_contents())

    panel = page.locator(".sk-panel")
    expect(panel.locator(".sk-chart")).to_have_attribute("data-n", "0")
    switch = panel.locator(".sk-front select")
    if switch.count() == 0:  # the lesson is about them all
        switch = panel.get_by_label("Cache", exact=True)
    switch.select_option("bf16" if "precision" in path.name else switch.locator("option").nth(1).text_content())
    button(panel, "Run").click()
    ended(panel)
    expect(panel.locator(".sk-chart")).to_have_attribute("data-n", re.compile("[1-9]"))
    expect(panel.get_by_role("alert")).to_have_count(0)
    expect(figure(page).last).to_be_attached()


def test_numbers_move_while_it_trains_and_stop_ends_it(notebook):
    page = notebook(SETUP, LONG)
    expect(status(page)).to_contain_text("Ready")
    page.get_by_label("Augmentation").select_option("light")
    choose_next(page, "Cache")
    expect(page.get_by_label("Cache")).to_have_value("disk")
    button(page, "Run").click()
    seen = page.wait_for_function(LOOK).json_value()
    assert seen["steps"] == sorted(seen["steps"])
    assert all("waiting for data" in title and "images per second" in title for title in seen["titles"])
    expect(page.get_by_role("img", name="light augmentation + disk cache (running)")).to_be_visible()
    expect(button(page, "Run")).to_be_disabled()
    expect(page.get_by_text(re.compile(r"^\d+% of a step is waiting for data"))).to_be_visible()
    button(page, "Stop").click()
    ended(page, "Stopped")
    expect(figure(page)).to_be_attached()
    steps = int(page.locator(".sk-chart").get_attribute("data-n"))
    assert steps >= seen["steps"][-1]
    expect(status(page)).to_contain_text(f"Stopped after {steps:,} steps")
    expect(page.get_by_role("alert")).to_have_count(0)


def test_two_runs_on_the_same_axes_and_in_the_saved_file(notebook, server):
    page = notebook(SETUP, SHORT)
    button(page, "Run").click()
    ended(page)
    page.get_by_label("Batch norm").select_option("on")
    page.get_by_label("Workers").select_option("1")
    button(page, "Run").click()
    expect(page.locator(".sk-chart")).to_contain_text("this run: batch norm + 1 worker")
    ended(page)
    expect(page.locator(".sk-chart")).to_contain_text("baseline")
    for series in ("step_s", "memory", "images_per_s", "loss", "validation_accuracy"):
        expect(page.locator(f".sk-chart path[data-series={series}]")).to_have_count(2)
    expect(figure(page)).to_be_attached()
    page.wait_for_function(f"() => JSON.stringify(({OUTPUTS})()).includes('batch norm + 1 worker (finished)')")
    page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    (file,) = server.root.glob("test_two_runs*.ipynb")
    widget, __, kept = json.loads(file.read_text(encoding="utf-8"))["cells"][1]["outputs"]
    assert "live widgets: run this cell" in "".join(widget["data"]["text/plain"])
    assert "".join(kept["data"]["image/png"]).startswith("iVBORw0KGgo")
    words = "".join(kept["data"]["text/plain"])
    assert words.startswith("batch norm + 1 worker (finished): step 31 of 31")
    assert "earlier, baseline: " in words


def test_failures_are_said_in_the_panel_and_the_next_run_works(notebook):
    page = notebook(SETUP, SHORT, FAIL_ONCE)
    alert = page.get_by_role("alert")

    button(page, "Run").click()  # fails in its sixth step
    expect(alert).to_have_text("RuntimeError: made up (panel.run() in a cell shows where this happened).")
    ended(page, "Failed")
    expect(page.locator(".sk-chart")).to_have_attribute("data-n", "5")

    page.get_by_label("Epochs").fill("abc")
    button(page, "Run").click()
    expect(alert).to_have_text("Epochs: “abc” is not possible. Enter a whole number from 1 to 10,000.")
    expect(page.get_by_label("Epochs")).to_have_css("box-shadow", re.compile(r"rgb\(211, 47, 47\)"))
    expect(button(page, "Run")).to_be_enabled()
    page.get_by_label("Epochs").fill("1")

    page.get_by_label("Precision").select_option("tf32")
    button(page, "Run").click()
    expect(alert).to_contain_text("precision='tf32' needs an NVIDIA GPU")
    expect(status(page)).to_contain_text("Failed before the first step.")
    expect(button(page, "Run")).to_be_enabled()
    expect(figure(page)).to_be_attached()  # still that of the run before

    page.get_by_label("Precision").select_option("fp32")
    button(page, "Run").click()
    ended(page)
    expect(alert).to_have_count(0)
    expect(page.locator(".sk-chart")).to_have_attribute("data-n", "31")


def test_one_run_at_a_time_in_a_notebook(notebook):
    page = notebook(SETUP, LONG, LONG, STATUSES)
    first, second = (page.locator(".sk-panel").nth(i) for i in range(2))
    button(first, "Run").click()
    training(first)
    button(second, "Run").click()
    ended(first, "Stopped")
    training(second)
    page.evaluate(RUN_CELL, 3)
    expect(page.locator(".jp-OutputArea pre").last).to_have_text("['stopped', 'running']\n")
    button(second, "Stop").click()
    ended(second, "Stopped")


def test_a_cell_that_is_run_again_stops_its_run(notebook):
    page = notebook(SETUP, LONG, "shown[0]._runner and shown[0]._runner.join(20), shown[0].runs[:1]")
    button(page, "Run").click()
    training(page)
    page.evaluate(RUN_CELL, 1)
    # A new panel stands there, and says what became of the run.
    expect(status(page)).to_contain_text("The run that this cell had started before was stopped.")
    expect(page.locator(".sk-chart")).to_have_attribute("data-n", "0")
    page.evaluate(RUN_CELL, 2)
    expect(page.locator(".jp-OutputArea pre").last).to_contain_text("baseline (stopped: stopped by hand)")


def test_the_interrupt_button_stops_a_run(notebook):
    page = notebook(SETUP, LONG, "panel.run() if panel.runs else None")
    button(page, "Run").click()
    training(page)
    page.evaluate(EXECUTE, "notebook:interrupt-kernel")
    ended(page, "Stopped")
    expect(page.get_by_role("alert")).to_have_count(0)

    page.evaluate(BEGIN_CELL, 2)  # and one in a cell
    training(page)
    page.evaluate(EXECUTE, "notebook:interrupt-kernel")
    ended(page, "Stopped")
    expect(page.locator("[data-mime-type='application/vnd.jupyter.stderr']")).to_contain_text("KeyboardInterrupt")

    button(page, "Run").click()
    training(page)
    button(page, "Stop").click()
    ended(page, "Stopped")


def focused(page):
    """The name of the control that has the keyboard."""
    return page.evaluate("() => { const e = document.activeElement; return (e.labels?.[0] ?? e).textContent.trim() }")


def test_tab_moves_through_the_controls_in_order(notebook):
    page = notebook(SETUP, LONG)
    order = []
    page.get_by_label(SWITCHES[0]).focus()
    for _ in SWITCHES + TASK:
        order.append(focused(page))
        page.keyboard.press("Tab")
    assert order == SWITCHES + TASK
    assert focused(page) == "Run"


@pytest.mark.parametrize("key", ["Space", "Enter"])
def test_the_panel_works_by_keyboard_alone(notebook, key):
    """Without a pause between the keys: what was typed last must be there before Run is heard."""
    page = notebook(SETUP, LONG, "[(run.label, run.recipe.subset) for run in shown[0].runs]")
    choose_next(page, "Augmentation")
    page.get_by_label("Training samples").focus()
    page.keyboard.press("Control+a")
    page.keyboard.type("640")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert focused(page) == "Run"
    page.keyboard.press(key)
    training(page)
    expect(button(page, "Stop")).to_be_enabled()
    page.keyboard.press("Tab")
    assert focused(page) == "Stop"
    page.keyboard.press(key)
    ended(page, "Stopped")
    page.evaluate(RUN_CELL, 2)
    expect(page.locator(".jp-OutputArea pre").last).to_have_text("[('light augmentation', 640)]")


def test_every_control_has_a_name(notebook):
    page = notebook(SETUP, SHORT)
    panel = page.locator(".sk-panel")
    for name in SWITCHES + TASK[:1]:
        expect(panel.get_by_role("combobox", name=name, exact=True)).to_have_count(1)
    for name in TASK[1:]:
        expect(panel.get_by_role("textbox", name=name, exact=True)).to_have_count(1)
    for name in BUTTONS:
        expect(button(panel, name)).to_have_count(1)
    assert panel.get_by_role("combobox").count() == 7
    assert panel.get_by_role("textbox").count() == 2
    assert panel.get_by_role("button").count() == 3
    expect(panel.get_by_role("img", name=re.compile("baseline"))).to_have_count(1)
