"""The class board on a projector: in a real JupyterLab it fills by itself while a class shares."""

import frontends
import nbformat
import pytest
from axe_playwright_python.sync_playwright import Axe
from in_browser import RUN_CELL, button, end_kernels, outputs
from playwright.sync_api import expect
from test_board import SCRIPT, card, compared

from speedkit.classroom.board.results import share
from speedkit.classroom.prediction import predict

pytestmark = pytest.mark.browser

BOARD = "import speedkit as sk\n\nboard = sk.Board({folder!r}, every=0.5)\nboard"
THREADS = "import threading\n\nprint([each.name for each in threading.enumerate()].count('speedkit board'))"


@pytest.fixture
def board(page, server, tmp_path, monkeypatch, request):
    """Opens a notebook with the board of an empty folder and some more cells; gives the page and the folder."""
    monkeypatch.setenv("SPEEDKIT_RUNS", str(tmp_path / "runs"))
    folder = tmp_path / "board"
    folder.mkdir()
    cells = [BOARD.format(folder=str(folder)), THREADS, "board.stop()"]
    name = f"{request.node.name}.ipynb"
    nbformat.write(frontends.notebook_of(*cells), server.root / name)
    frontends.open_notebook(page, server, name)
    page.evaluate(RUN_CELL, 0)
    expect(page.locator(".sk-board-chart")).to_have_attribute("data-n", "0")
    yield page, folder
    end_kernels(server)


def expect_rows(page, count):
    expect(page.locator(".sk-board-chart")).to_have_attribute("data-n", str(count))
    expect(page.locator(".sk-board-row")).to_have_count(count)


def test_the_board_fills_by_itself(board):
    page, folder = board
    expect(page.locator(".sk-board-chart")).to_contain_text("waiting for the first result")
    guess = predict("workers", wait_s=0.4)
    share(compared("workers", 0.6, card(0)), "Ada", folder, prediction=guess)
    expect_rows(page, 1)  # and nobody has touched the page
    expect(page.get_by_label("Technique", exact=True)).to_have_value("Workers")
    for i in range(1, 30):
        share(compared("workers", 0.4 * 1.06**i, card(i)), f"learner {i}" if i % 3 else "", folder)
        if i == 15:
            expect_rows(page, 16)
    expect_rows(page, 30)
    chart = page.locator(".sk-board-chart")
    for words in ("Ada", "learner 29", "learner 9", "Core i7, 1 core", "Tesla T4", "The same technique wins here"):
        expect(chart).to_contain_text(words)
    assert "predicted lower, × 0.400" in chart.get_attribute("aria-label")

    page.get_by_label("Technique", exact=True).select_option("Cache")
    expect_rows(page, 0)
    share(compared("cache", 0.6, card(0)), "Ada", folder)
    expect_rows(page, 1)
    page.get_by_label("Measured", exact=True).select_option("time per step (mean)")
    expect(chart).to_contain_text("Cache: time per step (mean)")


def test_a_file_that_somebody_made_up_is_named_and_nothing_in_it_is_run(board):
    page, folder = board
    dialogs = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    (folder / "<img src=x onerror=alert(1)>.json").write_text("{")
    share(compared(machine=card(name=SCRIPT)), SCRIPT[:40], folder)
    expect_rows(page, 1)
    expect(page.locator(".sk-skipped")).to_contain_text("Skipped <img src=x onerror=alert(1)>.json: it is not JSON")
    expect(page.locator(".sk-board-row")).to_contain_text("<script>alert(1)")
    assert page.locator(".sk-board img, .sk-board script").count() == 0
    assert dialogs == []


def test_stopped_or_run_again_it_leaves_no_thread_behind(board):
    page, folder = board
    page.evaluate(RUN_CELL, 0)
    page.evaluate(RUN_CELL, 0)
    share(compared(), "Ada", folder)
    expect_rows(page, 1)
    page.evaluate(RUN_CELL, 1)
    expect(page.locator(".jp-OutputArea pre").last).to_have_text("1\n")
    page.evaluate(RUN_CELL, 2)
    page.wait_for_timeout(1000)
    page.evaluate(RUN_CELL, 1)
    expect(page.locator(".jp-OutputArea pre").last).to_have_text("0\n")


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_axe_finds_no_serious_violation(board, theme):
    page, folder = board
    page.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", theme)
    page.wait_for_function("name => document.body.dataset.jpThemeName === name", arg=theme)
    (folder / "broken.json").write_text("{")
    for i in range(3):
        share(compared(ratio=0.5 + i, machine=card(i)), "Ada", folder)
    expect_rows(page, 3)
    found = Axe().run(page, context=".sk-board").response["violations"]
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    assert serious == [], [(each["id"], [node["html"][:200] for node in each["nodes"]]) for each in serious]


def test_a_click_shares_what_the_lessons_have_kept(page, smoke_server, tmp_path, request):
    (tmp_path / "board").mkdir()
    cells = [
        "import os, sys\n\nimport speedkit as sk\n\n"
        f"os.environ |= {{'SPEEDKIT_RUNS': {str(tmp_path / 'runs')!r}, 'SPEEDKIT_BOARD': {str(tmp_path / 'board')!r}}}",
        f"sys.path.append({str(request.path.parent)!r})\nfrom test_board import compared\nsk.save_result(compared())\n"
        "sk.Sharing()",
        "sk.Board(every=0.5)",
    ]
    nbformat.write(frontends.notebook_of(*cells), smoke_server.root / "click.ipynb")
    try:
        frontends.open_notebook(page, smoke_server, "click.ipynb")
        frontends.run_all(page)
        assert [output for cell in outputs(page) for output in cell if output["output_type"] == "error"] == []
        page.get_by_label("Nickname (optional)").fill("Ada")
        button(page, "Share").click()
        expect(page.locator(".sk-sharing").get_by_role("status")).to_contain_text("On the board as Ada")
        expect_rows(page, 1)
        expect(page.locator(".sk-board-row")).to_contain_text("Ada")
    finally:
        end_kernels(smoke_server)
