"""What the tests in a browser share: the browser, the servers, a page, and how a learner finds things on it."""

import contextlib
import os
import re

import frontends
import nbformat
import pytest
from playwright.sync_api import expect, sync_playwright

# Downloads that fail offline, and what a kernel wrote to its log before the page listened: the message comes in pieces.
JUPYTERLAB_S_OWN = ("Failed to load resource", '"stream.stderr" is not valid JSON')
BUTTONS = ["Run", "Stop", "Forget earlier runs"]
OUTPUTS = "() => window.jupyterapp.shell.currentWidget.content.widgets.map(cell => cell.model.toJSON().outputs ?? [])"
RUN_CELL = """async index => {
    window.jupyterapp.shell.currentWidget.content.activeCellIndex = index;
    await window.jupyterapp.commands.execute('notebook:run-cell');
}"""


def panel_cell(epochs: int) -> str:
    """A cell that shows a panel, with epochs of 31 steps."""
    recipe = f'sk.Recipe(model="mlp", subset=2000, epochs={epochs}, device="cpu")'
    return f"panel = sk.Panel({recipe})\nshown.append(panel)\npanel"


SETUP = "import importlib\n\nimport speedkit as sk\n\nshown = []"
SHORT, LONG = panel_cell(1), panel_cell(1000)


@pytest.fixture(scope="module")
def browser():
    program = frontends.chromium()
    if program is None:
        words = (
            "There is no Chromium here: install it (Debian and Ubuntu: apt-get install chromium) or Google Chrome, "
            "so that `chromium` or `google-chrome` is on the PATH."
        )
        if os.environ.get("SPEEDKIT_BROWSER", "0") not in ("", "0"):
            pytest.fail(words)
        pytest.skip(words)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=frontends.FLAGS)
        yield started
        started.close()


def started_server(folder, frontend="lab", **environment):
    environment = {"SPEEDKIT_GENERATED": str(folder / "generated"), **environment}
    server = frontends.Server(folder, environment, frontend=frontend)
    with contextlib.closing(server):
        server.wait()
        yield server


@pytest.fixture(scope="module")
def server(browser, tmp_path_factory):
    yield from started_server(tmp_path_factory.mktemp("full"), SPEEDKIT_SMOKE="0")


@pytest.fixture(scope="module")
def smoke_server(browser, tmp_path_factory):
    yield from started_server(tmp_path_factory.mktemp("smoke"), SPEEDKIT_SMOKE="1")


def new_page(browser):
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(20_000)
    expect.set_options(timeout=20_000)
    return page


@pytest.fixture
def page(browser):
    """An empty page; the test fails if the browser's console shows an error, those of JupyterLab itself apart."""
    page, errors = new_page(browser), []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    page.close()
    unexpected = [error for error in errors if not any(known in error for known in JUPYTERLAB_S_OWN)]
    if unexpected:
        pytest.fail("the browser's console shows: " + "; ".join(unexpected))


def end_kernels(server):
    for kernel in server.kernels():
        server.ask(f"kernels/{kernel['id']}", "DELETE")


@pytest.fixture
def notebook(page, server, request):
    """Opens a notebook of the given cells, runs them all, and gives the page; afterwards its kernel is gone."""

    def opened(*cells):
        name = f"{request.node.name}.ipynb"
        nbformat.write(frontends.notebook_of(*cells), server.root / name)
        frontends.open_notebook(page, server, name)
        frontends.run_all(page)
        expect(page.locator(".sk-chart").first).to_be_visible()
        return page

    yield opened
    end_kernels(server)


def button(where, name):
    return where.get_by_role("button", name=name, exact=True)


def status(where):
    return where.get_by_role("status")


def training(where):
    """Returns when the panel says that it trains."""
    expect(status(where)).to_contain_text(re.compile(r"Step [\d,]+ of"))


def ended(where, word="Finished"):
    """Returns when the panel says that its run has ended so, and can be started again."""
    expect(status(where)).to_contain_text(f"{word} after")
    expect(button(where, "Run")).to_be_enabled()
    expect(button(where, "Stop")).to_be_disabled()


def choose_next(page, name):
    """Takes the next choice of a list by keyboard. An arrow key on a list that is closed would be JupyterLab's own."""
    page.get_by_label(name, exact=True).press("Space")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")


def figure(page):
    """The static figure of the last run in the ordinary output."""
    return page.locator(".jp-RenderedImage img")


def outputs(page):
    return page.evaluate(OUTPUTS)
