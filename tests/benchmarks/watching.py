"""How long a learner waits, and what the browser costs: the panel in a real JupyterLab and Chromium on the same cores.

Waiting: a notebook with one panel is opened several times, each time with a new page and a new kernel; its panel is run
and stopped. All times are taken in the page, from a click to the end of the first frame that shows its effect.

The browser's cost: ``train`` under a panel that the page shows, against the hand-written loop of ``panel_cost`` in the
same kernel while the page is idle. Late work by the browser must not count against the hand-written loop. Therefore
each run of 200 steps is made in full before the next, in random order, with a rest after each. In a run of 20,000 steps
the two alternate in blocks of about two seconds; after each of the panel's blocks there is a rest, counted for neither,
in which its last frame is drawn. Frames are drawn at their own pace, independent of the blocks, so that each block gets
its share of them. The frames that the page drew are counted.

Finally, nbmake runs all notebooks three times, cut short as in continuous integration.

``python -m tests.benchmarks.watching`` takes about twelve minutes on two cores; with ``waiting``, ``cost`` or
``nbmake`` it repeats only that part. Run nothing else meanwhile.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from pathlib import Path

import nbformat
import numpy as np

from tests import frontends
from tests.benchmarks import keep, ratio, result, several
from tests.benchmarks.by_hand import now
from tests.benchmarks.panel_cost import BY_HAND, PANEL, RECIPE, Turns, by_hand, under_the_panel

ROOT = Path(__file__).resolve().parents[2]
OPENINGS, NBMAKES = 9, 3
LONG = RECIPE.but(epochs=4)  # 20,000 steps
EPOCH = 5_000
PLAN = {200: {"pairs": 30}, 20_000: {"block": 500}}
REST = {"run": 0.5, "turn": 1.6}  # seconds; after a block, longer than the pause between two frames

# In the page: seconds from `since` until `holds` is true of it and the browser has drawn it.
WATCH = """
window.drawn = (holds, since) => new Promise(resolve => {
    const look = () => {
        if (since() === undefined || !holds()) return;
        observer.disconnect();
        requestAnimationFrame(() => setTimeout(() => resolve((performance.now() - since()) / 1000)));
    };
    const observer = new MutationObserver(look);
    observer.observe(document, {subtree: true, childList: true, attributes: true, characterData: true});
    look();
});
window.clicked = (button, holds) => {
    let at;
    const note = () => { at = performance.now() };
    document.querySelector(button).addEventListener('click', note, {capture: true, once: true});
    window.measured = drawn(holds, () => at);
};
"""
OPENED = f"""async () => {{
    const pause = seconds => new Promise(resolve => setTimeout(resolve, 1000 * seconds));
    const ready = {frontends.READY};
    while (!await ready()) await pause(0.02);
    const listens = performance.now() / 1000;
    const stands = drawn(() => document.querySelector('.sk-chart')?.clientHeight > 0, () => 0);
    window.jupyterapp.commands.execute('notebook:run-all-cells');
    const never = pause(60).then(() => {{ throw new Error('the panel did not appear within a minute') }});
    return [listens, await Promise.race([stands, never])];
}}"""
RUN = "() => clicked('.sk-run', () => document.querySelector('.sk-chart').dataset.n > 0)"
STOP = "() => clicked('.sk-stop', () => document.querySelector('.sk-status').textContent.trim().startsWith('Stopped'))"
COUNT_FRAMES = """() => {
    window.frames_seen = 0;
    let last = '0';
    const look = () => {
        const n = document.querySelector('.sk-chart')?.dataset.n ?? last;
        if (n !== last) { last = n; requestAnimationFrame(() => { window.frames_seen += 1 }) }
    };
    new MutationObserver(look).observe(document.querySelector('.sk-panel'), {subtree: true, childList: true});
}"""


@contextmanager
def laboratory():
    """A JupyterLab server and a browser; yields the server and a function that writes a notebook and opens a page."""
    from playwright.sync_api import sync_playwright

    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        server = frontends.Server(
            Path(folder), {"SPEEDKIT_SMOKE": "0", "SPEEDKIT_RUNS": folder, "PYTHONPATH": os.pathsep.join(paths)}
        )
        browser = playwright.chromium.launch(executable_path=frontends.chromium(), args=frontends.FLAGS)
        with closing(server), closing(browser):
            server.wait()

            @contextmanager
            def notebook(name, *cells):
                nbformat.write(frontends.notebook_of(*cells), server.root / name)
                with closing(browser.new_page(viewport={"width": 1280, "height": 1000})) as page:
                    page.add_init_script(WATCH)
                    yield page
                for kernel in server.kernels():
                    server.ask(f"kernels/{kernel['id']}", "DELETE")

            yield server, notebook


def waiting(openings: int = OPENINGS) -> dict:
    """Seconds until the panel shows, draws its first step, and has stopped. The first opening only warms up."""
    seconds = {"opening / kernel listens": [], "opening / panel": [], "Run / first step": [], "Stop / stopped": []}
    with laboratory() as (server, notebook):
        for opening in range(openings + 1):
            with notebook("panel.ipynb", "import speedkit as sk\n\nsk.Panel()") as page:
                page.goto(f"{server.url}/lab/tree/panel.ipynb?token={frontends.TOKEN}&reset")
                took = page.evaluate(OPENED)
                for button, script in {".sk-run": RUN, ".sk-stop": STOP}.items():
                    page.evaluate(script)
                    page.click(button)
                    took.append(page.evaluate("() => window.measured"))
                    page.wait_for_timeout(2000)
            if opening:
                for found, value in zip(seconds.values(), took, strict=True):
                    found.append(value)
            print(", ".join(f"{name} {value:.3f} s" for name, value in zip(seconds, took, strict=True)), flush=True)
    return {name: several(found) for name, found in seconds.items()}


class Whole:
    """Like ``Turns``, for runs made one after the other: times each run without its first step."""

    def __init__(self, steps: int):
        self.steps, self.times = steps, {PANEL: [], BY_HAND: []}

    def begin(self, name: str):
        pass

    def after(self, name: str, done: int):
        if done == 1:
            self.began = now()
        elif done == self.steps:
            self.times[name].append(now() - self.began)


def one_after_the_other(panel, steps: int, pairs: int) -> dict:
    """Makes whole runs in pairs, each in random order. The first pair only warms up."""
    panel.recipe = LONG.but(steps=steps)
    ways = {PANEL: lambda: watched(panel, turns), BY_HAND: lambda: by_hand(panel.recipe, turns)}
    draw, turns = np.random.default_rng(0), Whole(steps)
    for pair in range(pairs + 1):
        for name in draw.permutation(list(ways)):
            ways[name]()
            time.sleep(REST["run"])
        if pair == 0:
            turns = Whole(steps)
    return ratio(turns.times)


def in_turns(panel, steps: int, block: int) -> dict:
    """Makes one run of each at the same time, in alternating blocks."""
    panel.recipe = LONG.but(steps=steps)
    panel.forget()
    turns = Turns(steps, block, rest=REST["turn"], epoch=EPOCH)
    under_the_panel(panel.recipe, turns, panel)
    by_hand(panel.recipe, turns)
    panel._runner.join()
    return ratio(turns.times)


def watched(panel, turns):
    panel.forget()
    under_the_panel(panel.recipe, turns, panel)
    panel._runner.join()


def measure(panel, out: str, plan: dict = PLAN):
    """Runs in the kernel, in a cell below the panel."""
    figures = {}
    for steps, how in plan.items():
        found = in_turns(panel, steps, **how) if "block" in how else one_after_the_other(panel, steps, **how)
        figures[f"panel in the browser / by hand, {steps} steps"] = found
    Path(out).write_text(json.dumps(figures))


def browser_cost(plan: dict = PLAN) -> dict:
    """Compares the panel in the page with a hand-written loop, at each length."""
    with laboratory() as (server, notebook), tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "figures.json"
        start = "import speedkit as sk\nfrom tests.benchmarks import watching\n\n"
        cells = [f"{start}panel = sk.Panel(watching.LONG)\npanel", f"watching.measure(panel, {str(out)!r}, {plan})"]
        with notebook("cost.ipynb", *cells) as page:
            frontends.open_notebook(page, server, "cost.ipynb")
            cell = "i => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = i; %s }"
            execute = "return window.jupyterapp.commands.execute('notebook:run-cell')"
            page.evaluate(cell % execute, 0)
            page.wait_for_selector(".sk-chart")
            page.evaluate(COUNT_FRAMES)
            page.evaluate(cell % execute, 1)
            if not out.exists():
                raise RuntimeError(page.locator(".jp-OutputArea").last.text_content())
            figures = json.loads(out.read_text()) | {"frames drawn": page.evaluate("() => window.frames_seen")}
    print(
        {name: figure["ratio"] if isinstance(figure, dict) else figure for name, figure in figures.items()}, flush=True
    )
    return figures


def under_nbmake() -> dict:
    """Seconds that nbmake takes to run all notebooks from scratch, as in continuous integration."""
    return {"all notebooks under nbmake": several([_nbmake() for _ in range(NBMAKES)])}


def _nbmake():
    with tempfile.TemporaryDirectory() as folder:
        places = {"SPEEDKIT_SMOKE": "1", "SPEEDKIT_RUNS": folder, "SPEEDKIT_GENERATED": f"{folder}/generated"}
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "notebooks"], cwd=ROOT, env=os.environ | places, check=True
        )
        return time.perf_counter() - start


def main():
    parts = {"waiting": waiting, "cost": browser_cost, "nbmake": under_nbmake}
    names, earlier = sys.argv[1:] or list(parts), result("watching")
    figures = json.loads(earlier.read_text())["figures"] if sys.argv[1:] and earlier.exists() else {}
    if frontends.chromium() is None:
        print("Chromium was not found: the parts that need a browser are skipped.")
        names = [name for name in names if name == "nbmake"]
    for name in names:
        figures |= parts[name]()
    print(keep("watching", figures))


if __name__ == "__main__":
    main()
