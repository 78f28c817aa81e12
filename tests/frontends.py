"""Real JupyterLab, Notebook and Voila servers and a real browser, for the tests that need them."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat

TOKEN = "speedkit-tests"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NO_UPDATES = "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"
READY = """async () => {
    const panel = window.jupyterapp?.shell?.currentWidget;
    if (!panel?.context || !window.jupyterapp.commands.hasCommand('notebook:run-all-cells')) return false;
    await panel.context.ready;
    await panel.sessionContext.ready;
    const kernel = panel.sessionContext.session?.kernel;
    if (!kernel) return false;
    await kernel.info;
    // The first requests can get lost on their way to a new kernel: it is ready when it has answered one.
    const answer = kernel.requestExecute({code: 'None', silent: true, store_history: false}).done.then(() => true);
    return await Promise.race([answer, new Promise(after => setTimeout(() => after(false), 5000))]);
}"""

RUN_ALL = """() => Promise.race([
    window.jupyterapp.commands.execute('notebook:run-all-cells'),
    new Promise((_, fail) => setTimeout(() => fail(new Error('the cells did not end within ten minutes')), 600000)),
])"""


def chromium() -> str | None:
    """The browser's program, where one is installed."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next(filter(None, map(shutil.which, names)), None)


def free_port() -> int:
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def answers(ask, process, seconds: float = 60):
    """What ``ask`` gives as soon as the server of ``process`` answers it."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.2)


class Server:
    """JupyterLab on a free port, in a folder of its own, with settings and workspaces of its own.

    frontend: "lab", or "notebook" for Jupyter Notebook 7, which is made of the same parts.
    """

    def __init__(
        self,
        folder: Path,
        environment: dict | None = None,
        theme: str = "JupyterLab Light",
        frontend: str = "lab",
    ):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.root = folder / "notebooks"
        self.root.mkdir(parents=True, exist_ok=True)
        settings = {
            "apputils-extension/themes": {"theme": theme},
            "apputils-extension/notification": {"fetchNews": "false"},
            "notebook-extension/tracker": {"windowingMode": "none"},  # every cell is in the page, seen or not
        }
        for plugin, setting in settings.items() if frontend == "lab" else ():
            path = folder / "settings/@jupyterlab" / f"{plugin}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(setting))
        self.log = open(folder / "server.log", "w")  # noqa: SIM115
        places = {name: str(folder / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")}
        places["JUPYTERLAB_SETTINGS_DIR"] = str(folder / "settings")
        places["JUPYTERLAB_WORKSPACES_DIR"] = str(folder / "workspaces")
        module, app, self.tree = {
            "lab": ("jupyterlab", "LabApp", "lab/tree"),
            "notebook": ("notebook", "JupyterNotebookApp", "notebooks"),
        }[frontend]
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", module, "--no-browser", "--allow-root"),
                *(f"--ServerApp.port={self.port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={self.root}"),
                *(f"--IdentityProvider.token={TOKEN}", f"--{app}.expose_app_in_browser=True"),
                *(["--LabApp.news_url=None", NO_UPDATES] if frontend == "lab" else []),
            ],
            env=os.environ | places | (environment or {}),
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )

    def ask(self, path: str, method: str = "GET"):
        """The server's JSON answer to a request of its REST interface."""
        request = urllib.request.Request(
            f"{self.url}/api/{path}", method=method, headers={"Authorization": f"token {TOKEN}"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            body = answer.read()
        return json.loads(body) if body else None

    def wait(self):
        """Returns when the server answers."""
        return answers(lambda: self.ask("status"), self.process)

    def kernels(self) -> list:
        return self.ask("kernels")

    def close(self):
        with contextlib.suppress(OSError):
            for kernel in self.kernels():
                self.ask(f"kernels/{kernel['id']}", "DELETE")
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


def notebook_of(*cells: str):
    """A notebook of code cells, for the kernel of this Python."""
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return made


def open_notebook(page, server: Server, name: str):
    """Opens a notebook in JupyterLab and waits until its kernel listens; the "idle" light is not to be trusted."""
    page.goto(f"{server.url}/{server.tree}/{name}?token={TOKEN}&reset")
    deadline = time.monotonic() + 60
    while not page.evaluate(READY):
        assert time.monotonic() < deadline, f"JupyterLab did not open {name} within a minute"
        page.wait_for_timeout(200)


def run_all(page):
    """Runs every cell and returns when the last one has ended."""
    page.evaluate(RUN_ALL)


def whole_height(page) -> int:
    """Makes the window as tall as the notebook, so that one screenshot shows all of it; gives the height in pixels."""
    height = page.evaluate(
        "() => Math.max(...[...document.querySelectorAll('.jp-WindowedPanel-outer')].map(part => part.scrollHeight))"
    )
    page.set_viewport_size({"width": 1280, "height": min(height + 150, 16_000)})
    page.evaluate("() => document.querySelectorAll('.jp-WindowedPanel-outer').forEach(part => part.scrollTo(0, 0))")
    page.wait_for_timeout(1000)
    return height
