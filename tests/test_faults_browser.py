"""What a classroom does to the panel with mouse, keyboard and browser; and the panel in other front ends."""

import contextlib
import re
import subprocess
import sys
import urllib.request

import frontends
import nbformat
import pytest
from axe_playwright_python.sync_playwright import Axe
from in_browser import (
    LONG,
    RUN_CELL,
    SETUP,
    SHORT,
    button,
    end_kernels,
    ended,
    figure,
    new_page,
    started_server,
    status,
    training,
)
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

RUNS = "print([(run.status, run.recipe.batchnorm, run.recipe.cache) for run in shown[0].runs])"
MAKING = """panel = sk.Panel(sk.Recipe(model="mlp", data="jpeg", subset=3000, epochs=1, device="cpu"))
shown.append(panel)
panel"""


def printed(page, cell):
    """What a cell that prints shows when it is run."""
    page.evaluate(RUN_CELL, cell)
    return page.locator(".jp-OutputArea pre").last


# Clicks


def test_run_clicked_twice_is_one_run(notebook):
    page = notebook(SETUP, LONG, RUNS)
    button(page, "Run").dblclick()
    training(page)
    button(page, "Stop").click()
    ended(page, "Stopped")
    expect(printed(page, 2)).to_have_text("[('stopped', False, 'off')]\n")


def test_stop_clicked_twice_stops_once_and_the_next_run_works(notebook):
    page = notebook(SETUP, LONG, RUNS)
    button(page, "Run").click()
    training(page)
    button(page, "Stop").dblclick()
    ended(page, "Stopped")
    button(page, "Run").click()
    training(page)
    button(page, "Stop").click()
    ended(page, "Stopped")
    expect(printed(page, 2)).to_have_text("[('stopped', False, 'off'), ('stopped', False, 'off')]\n")


def test_stop_before_the_first_step(notebook):
    page = notebook(SETUP, MAKING)
    button(page, "Run").click()
    expect(status(page)).to_contain_text("JPEG files written, once")
    button(page, "Stop").click()
    expect(status(page)).to_contain_text("Stopped before the first step.")
    page.get_by_label("Data", exact=True).select_option("fashion-mnist")
    button(page, "Run").click()
    ended(page)
    expect(page.get_by_role("alert")).to_have_count(0)


def test_switches_flipped_in_mid_run_count_from_the_next_run_on(notebook):
    page = notebook(SETUP, LONG, RUNS)
    button(page, "Run").click()
    training(page)
    page.get_by_label("Batch norm").select_option("on")
    page.get_by_label("Cache").select_option("ram")
    button(page, "Stop").click()
    ended(page, "Stopped")
    button(page, "Run").click()
    training(page)
    button(page, "Stop").click()
    ended(page, "Stopped")
    expect(printed(page, 2)).to_have_text("[('stopped', False, 'off'), ('stopped', True, 'ram')]\n")


# The tab is closed and opened again in mid-run


def test_a_tab_that_is_opened_again_shows_the_run_that_went_on(notebook, server):
    page = notebook(SETUP, LONG, RUNS)
    button(page, "Run").click()
    training(page)
    page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    before = int(page.locator(".sk-chart").get_attribute("data-n"))
    name = page.url.split("/")[-1].split("?")[0]
    page.goto("about:blank")
    page.goto(f"{server.url}/lab/tree/{name}?token={frontends.TOKEN}&reset")
    training(page)
    page.wait_for_function(f"() => Number(document.querySelector('.sk-chart')?.dataset.n) > {before}")
    button(page, "Stop").click()
    ended(page, "Stopped")
    expect(printed(page, 2)).to_have_text("[('stopped', False, 'off')]\n")


# For everybody: what a screen reader and the eye need


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_axe_finds_no_serious_violation(notebook, theme):
    page = notebook(SETUP, LONG)
    page.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", theme)
    page.wait_for_function("name => document.body.dataset.jpThemeName === name", arg=theme)
    button(page, "Run").click()
    training(page)
    found = Axe().run(page, context=".sk-panel").response["violations"]
    button(page, "Stop").click()
    ended(page, "Stopped")
    found += Axe().run(page, context=".sk-panel").response["violations"]
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    assert serious == [], [(each["id"], [node["html"][:200] for node in each["nodes"]]) for each in serious]


def test_the_chart_has_a_twin_in_words(notebook):
    page = notebook(SETUP, SHORT)
    button(page, "Run").click()
    ended(page)
    words = page.locator(".sk-chart").get_attribute("aria-label")
    for figure_of in ("waiting for data", "images per second", "memory", "loss", "validation accuracy"):
        assert figure_of in words.lower()


# Other front ends


@pytest.fixture
def tolerant_page(browser):
    """A page that may show errors in its console: these front ends log some of their own, with or without a panel."""
    with contextlib.closing(new_page(browser)) as page:
        yield page


@pytest.fixture(scope="module")
def classic(browser, tmp_path_factory):
    yield from started_server(tmp_path_factory.mktemp("classic"), frontend="notebook", SPEEDKIT_SMOKE="0")


def test_the_panel_works_in_notebook_7(tolerant_page, classic):
    page = tolerant_page
    nbformat.write(frontends.notebook_of(SETUP, LONG), classic.root / "panel.ipynb")
    frontends.open_notebook(page, classic, "panel.ipynb")
    frontends.run_all(page)
    button(page, "Run").click()
    training(page)
    page.wait_for_function("() => Number(document.querySelector('.sk-chart').dataset.n) > 0")
    button(page, "Stop").click()
    ended(page, "Stopped")
    expect(figure(page)).to_be_attached()
    end_kernels(classic)


@pytest.fixture
def voila(browser, tmp_path):
    """Voila on a notebook with a panel: gives its address."""
    nbformat.write(frontends.notebook_of(SETUP, LONG), tmp_path / "panel.ipynb")
    port = frontends.free_port()
    log = open(tmp_path / "voila.log", "w")  # noqa: SIM115
    command = [sys.executable, "-m", "voila", str(tmp_path / "panel.ipynb"), "--no-browser", f"--port={port}"]
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=tmp_path)
    address = f"http://127.0.0.1:{port}/"
    try:
        frontends.answers(lambda: urllib.request.urlopen(f"{address}voila/static/voila.js", timeout=10), process)
        yield address
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        log.close()


def test_the_panel_works_under_voila(tolerant_page, voila):
    page = tolerant_page
    page.set_default_timeout(60_000)
    page.goto(voila)
    expect(page.locator(".sk-chart")).to_be_visible(timeout=60_000)
    button(page, "Run").click()
    training(page)
    page.wait_for_function("() => Number(document.querySelector('.sk-chart').dataset.n) > 0")
    button(page, "Stop").click()
    ended(page, "Stopped")
    expect(status(page)).to_contain_text(re.compile("Stopped after [0-9,]+ steps"))
