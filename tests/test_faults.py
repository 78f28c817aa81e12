"""What a classroom does to the kit, in kernels and processes: one section per fault, in the order of a bad evening.

After each fault the learner has read one sentence that says what happened and what to do, the next run works, and
nothing is left behind. Faults that need a browser are in ``test_faults_browser.py``; damaged, missing and hostile files
in ``test_images.py`` and ``test_run.py``; recipes with wrong values in ``test_recipe.py``.
"""

import contextlib
import html
import json
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch
from conftest import run_through
from jupyter_client.manager import start_new_kernel
from PIL import Image
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from speedkit import hardware
from speedkit.lab import chart, tables
from speedkit.lab.panel import Panel
from speedkit.loading import Samples
from speedkit.recipe import Recipe
from speedkit.run import Run
from speedkit.support.errors import DataError, NotFinite
from speedkit.tasks import images
from speedkit.train import fit, train

SOAK = os.environ.get("SPEEDKIT_SOAK", "0") not in ("", "0")  # at full length: ten minutes and more
TASK = 'sk.Recipe(model="mlp", data="jpeg", stored_size=32, subset=320, batch_size=32, epochs=1000, device="cpu")'
STARTED = f"""import time
import speedkit as sk

panel = sk.Panel({TASK}.but(workers=2, start_method="METHOD"))
panel.start()
while not panel._shown.count:
    time.sleep(0.05)
    assert panel._runner.alive, panel.problem.value
print(panel._shown.status)"""


class Kernel:
    """A separate kernel: what it prints is returned, what it raises is raised."""

    def __init__(self):
        self.manager, self.client = start_new_kernel(kernel_name="python3")

    def run(self, code: str, timeout: float = 120) -> str:
        printed = []
        reply = self.client.execute_interactive(
            code, timeout=timeout, output_hook=lambda message: printed.append(message["content"].get("text", ""))
        )
        assert reply["content"]["status"] == "ok", "\n".join(reply["content"].get("traceback", []))
        return "".join(printed).strip()

    @property
    def process(self) -> psutil.Process:
        return psutil.Process(self.manager.provisioner.pid)

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture
def kernels(generated, monkeypatch, tmp_path):
    """Starts kernels; all are ended after the test."""
    monkeypatch.chdir(tmp_path)
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(contextlib.closing(Kernel()))


@pytest.fixture
def panel(quick):
    return Panel(quick.but(model="mlp"))


def ends(panel, seconds=60):
    panel._runner.join(seconds)
    assert not panel._runner.alive


def alert(panel):
    return panel.problem.value


def shared_segments():
    folder = Path("/dev/shm")
    return {path.name for path in folder.iterdir() if path.name.startswith("torch")} if folder.is_dir() else set()


# A kernel is killed or restarted in mid-run, with workers alive


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_killed_kernel_leaves_no_worker_and_no_shared_memory(kernels, method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    before, kernel = shared_segments(), kernels()
    assert kernel.run(STARTED.replace("METHOD", method)) == "running"
    helpers = kernel.process.children(recursive=True)
    assert len(helpers) >= 2
    os.kill(kernel.process.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(helpers, timeout=5)
    assert alive == []
    assert shared_segments() <= before


def test_a_restarted_kernel_leaves_no_worker_and_trains_again(kernels):
    kernel = kernels()
    assert kernel.run(STARTED.replace("METHOD", "auto")) == "running"
    helpers = kernel.process.children(recursive=True)
    assert helpers
    kernel.manager.restart_kernel(now=True)
    kernel.client.wait_for_ready(timeout=60)
    _, alive = psutil.wait_procs(helpers, timeout=5)
    assert alive == []
    assert kernel.run(f"import speedkit as sk\nprint(sk.Panel({TASK}).run(epochs=1).status)") == "finished"


# A worker process dies


def test_a_worker_that_is_killed_is_reported_and_the_next_run_works(panel, no_children):
    panel.recipe = panel.recipe.but(workers=2, epochs=10_000)
    panel.controls["workers"].value, panel.controls["epochs"].value = 2, "10000"
    panel.start()
    wait_for(lambda: panel._shown.count > 8)
    victims = multiprocessing.active_children()
    assert len(victims) == 2
    victims[0].kill()
    ends(panel)
    assert panel._shown.status == "failed"
    assert "A worker process ended unexpectedly" in alert(panel)
    assert "choose fewer workers" in alert(panel)
    assert panel._shown.count > 8  # what was measured before is there
    assert panel.run(workers=0, epochs=1).status == "finished"
    assert alert(panel) == ""


@pytest.mark.parametrize("error", [ConnectionResetError(104, "reset"), EOFError(), FileNotFoundError(2, "socket")])
def test_a_worker_that_dies_while_it_passes_a_batch_on_is_reported(panel, no_children, monkeypatch, error):
    """torch then raises what the socket raises."""
    next_data = _MultiProcessingDataLoaderIter._next_data

    def dies(batches):
        if panel._shown.count == 3:
            raise error
        return next_data(batches)

    monkeypatch.setattr(_MultiProcessingDataLoaderIter, "_next_data", dies)
    panel.recipe = panel.recipe.but(workers=2)
    panel.controls["workers"].value = 2
    panel.start()
    ends(panel)
    assert (panel._shown.status, panel._shown.count) == ("failed", 3)
    assert "A worker process ended unexpectedly: run again" in alert(panel)


class Lost(Samples):
    """A learner's own data set that raises what a dead worker's socket would raise."""

    def __getitems__(self, keys):
        raise FileNotFoundError(2, "of my own")


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_data_set_itself_raises_is_passed_on(quick, no_children, workers):
    with pytest.raises(FileNotFoundError, match="of my own"):
        list(train(quick.but(workers=workers), dataset=Lost))


def wait_for(holds, seconds=60):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# Out of memory: on the device, on the host, in /dev/shm


def test_out_of_memory_on_the_device_names_the_settings_and_the_next_run_works(panel, fail_after):
    fail_after(2, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has 2 GiB free."))
    panel.start()
    ends(panel)
    assert "CUDA out of memory: lower the batch size or the image size, or take a smaller network." in alert(panel)
    assert panel.run().status == "finished"


LIMITED = """import resource
import psutil
import speedkit as sk

panel = sk.Panel(sk.Recipe(model="small", subset=256, batch_size=32, epochs=1, device="cpu"))
panel.run()
low = psutil.Process().memory_info().vms + 2**29
resource.setrlimit(resource.RLIMIT_AS, (low, low))
panel.recipe = panel.recipe.but(model="wide", subset=8192, batch_size=4096)
panel.controls["subset"].value = "8192"
panel.start()
panel._runner.join()
print(panel._shown.status, panel.problem.value)
panel.recipe = panel.recipe.but(model="small", batch_size=32)
print(panel.run(subset=256).status, panel.runs[-1].scalars["peak_memory"] / panel.runs[0].scalars["peak_memory"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on memory is Linux's")
def test_out_of_main_memory_names_the_settings_and_the_next_run_works(generated):
    """The failed run's memory is given back: otherwise the next run's peak would be twice as high."""
    said = script(LIMITED)
    assert "Main memory is used up (" in said
    assert "lower the batch size or the image size, or take a smaller network" in said
    status, peak = said.splitlines()[-1].split()
    assert status == "finished"
    assert float(peak) < 1.25


def script(code, *before, **environment):
    """What a Python of its own prints."""
    done = subprocess.run(
        [*before, sys.executable, "-c", code],
        env=os.environ | {"SPEEDKIT_SMOKE": "0"} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return html.unescape(done.stdout.strip())


@pytest.fixture
def small_disk(tmp_path):
    """Gives the beginning of a command that runs with a small disk in a folder's place, in a namespace of its own."""

    def mounted(folder, size):
        mount = f"mount -t tmpfs -o size={size} tmpfs '{folder}' && exec \"$@\""
        return ["unshare", "--mount", "sh", "-c", mount, "sh"]

    try:
        subprocess.run([*mounted(tmp_path, "1m"), "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this user may not mount a small disk")
    return mounted


FULL_SHM = """import speedkit as sk

panel = sk.Panel(sk.Recipe(model="mlp", subset=4096, batch_size=2048, image_size=64, workers=2, device="cpu"))
panel.start()
panel._runner.join()
print(panel._shown.status if panel._shown else "none", panel.problem.value)
panel.recipe = panel.recipe.but(cache="ram")
panel.controls["cache"].value = "ram"
panel.start()
panel._runner.join()
print(panel.problem.value)
panel.recipe = panel.recipe.but(batch_size=64)
print(panel.run(cache="disk", workers=0, epochs=1).status)
"""


def test_a_small_shared_memory_is_reported_and_the_next_run_works(small_disk, generated):
    batches, cache, last = script(FULL_SHM, *small_disk("/dev/shm", "8m")).splitlines()
    assert "Shared memory (/dev/shm) is full: choose workers=0 or cache='disk'" in batches
    assert "does not fit into /dev/shm" in cache
    assert last == "finished"


# The loss is no longer a number


@pytest.mark.parametrize("changes", [{}, {"precision": "fp16", "allow_slow": True}], ids=["fp32", "fp16"])
def test_a_loss_that_is_not_finite_ends_the_run_with_its_step(panel, changes):
    panel.recipe = panel.recipe.but(learning_rate=100.0, epochs=200, **changes)
    with pytest.raises(NotFinite, match=r"The loss became (nan|inf) at step \d+: lower the learning rate"):
        panel.run(**{name: value for name, value in changes.items() if name in panel.controls}, epochs=200)
    assert "The loss became" in alert(panel)
    assert panel.runs[-1].status == "failed"
    panel.recipe = panel.recipe.but(learning_rate=0.01)
    assert panel.run(epochs=1).status == "finished"


def test_an_overflow_storm_of_fp16_gradients_updates_nothing_and_comes_to_an_end(quick, monkeypatch, loop):
    """Gradients that overflow in every step: the scaler skips the updates, the run goes on to its end."""
    real = loop.nn.functional.cross_entropy

    def storm(logits, labels, **options):
        return Overflowing.apply(real(logits, labels, **options))

    monkeypatch.setattr(loop.nn.functional, "cross_entropy", storm)
    weights = []
    recipe = quick.but(model="mlp", precision="fp16", allow_slow=True)
    records = loop.train(recipe, on_model=lambda model: weights.extend((model, model[2].weight.detach().clone())))
    run = run_through(records)[1]
    assert run.status == "finished"
    assert torch.equal(weights[0][2].weight, weights[1])


class Overflowing(torch.autograd.Function):
    """A loss whose gradient overflows."""

    @staticmethod
    def forward(context, loss):
        return loss.clone()

    @staticmethod
    def backward(context, gradient):
        return torch.full_like(gradient, math.inf)


# The disk is full while a set is made


FULL_DISK = """import os
import speedkit as sk

panel = sk.Panel(sk.Recipe(model="mlp", data="DATA", subset=1000, stored_size=224, epochs=1, device="cpu"))
panel.start()
panel._runner.join()
print(panel.problem.value)
print(sorted(os.listdir(os.environ["SPEEDKIT_GENERATED"])))
os.environ["SPEEDKIT_GENERATED"] = "OTHER"
print(panel.run().status)
"""


@pytest.mark.parametrize("kind", ["jpeg", "sqlite"])
def test_a_full_disk_is_reported_and_nothing_half_made_stays(small_disk, tmp_path, kind):
    full, other = tmp_path / "full", tmp_path / "other"
    full.mkdir()
    code = FULL_DISK.replace("DATA", kind).replace("OTHER", str(other))
    said, left, last = script(code, *small_disk(full, "2m"), SPEEDKIT_GENERATED=str(full)).splitlines()
    assert "could not be made" in said
    assert "SPEEDKIT_GENERATED" in said
    assert left == "[]"
    assert last == "finished"


# A run's file that is long, or hostile


def test_a_run_of_a_million_steps_comes_back(tmp_path):
    run = Run(Recipe())
    for column in run.steps.values():
        column.frombytes(bytes(8 * 1_000_000))
    run.count = 1_000_000
    loaded = Run.load(run.save(tmp_path / "long.json"))
    assert loaded.count == 1_000_000
    assert "1000000" in chart.text(loaded).replace(",", "")


def test_script_in_a_run_s_texts_is_shown_as_text(tmp_path, quick):
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    path = fit(quick.but(steps=2)).save(tmp_path / "run.json")
    stored = json.loads(path.read_text())
    stored |= {"status": evil, "reason": evil, "started": evil, "notes": [evil]}
    stored["machine"] = {name: evil if isinstance(value, str) else value for name, value in stored["machine"].items()}
    stored["recipe"]["data"] = f"folder:{evil}"
    path.write_text(json.dumps(stored))
    run = Run.load(path)
    for shown in (run._repr_html_(), chart.svg(run), tables.table_of_runs(run, run)._repr_html_()):
        assert "<script" not in shown
        assert "<img" not in shown


# One's own pictures: an empty class, and a picture of 20,000 x 20,000


def test_an_empty_class_is_named(pictures):
    (pictures / "bird").mkdir()
    with pytest.raises(DataError, match="bird"):
        fit(Recipe(data=f"folder:{pictures}", batch_size=8, epochs=1))


def test_a_picture_too_large_to_decode_is_refused_by_name(pictures):
    huge = pictures / "cat" / "huge.png"
    Image.new("1", (20_000, 20_000)).save(huge)
    with pytest.raises(DataError, match=r"huge\.png cannot be read as a picture .* replace or remove it\."):
        run_through(images.load(Recipe(data=f"folder:{pictures}", batch_size=8)))


# The system does not say


@pytest.mark.parametrize("error", [psutil.AccessDenied(), PermissionError()])
def test_without_permission_to_read_memory_and_load_the_run_goes_on_and_they_read_na(panel, monkeypatch, error):
    def refused(*_, **__):
        raise error

    for name in ("memory_info", "cpu_times"):
        monkeypatch.setattr(psutil.Process, name, refused)
    monkeypatch.setattr(psutil, "cpu_times", refused)
    run = panel.run()
    assert run.status == "finished"
    assert run.summary()["peak memory of the processes"] == "n/a"
    assert math.isnan(run.scalars["others_share"])
    assert "memory of the processes since the start: n/a" in chart.text(run)


def test_one_core_is_enough(quick):
    assert hardware.machine().cores == 1
    assert fit(quick.but(workers=1)).status == "finished"


def test_threads_spin_briefly_where_no_variable_is_set():
    unset = {"OMP_WAIT_POLICY": "", "OMP_NUM_THREADS": "", "GOMP_SPINCOUNT": ""}
    code = f"import os\nfor name in {list(unset)}: os.environ.pop(name, None)\nimport speedkit as sk\n"
    said = script(code + "print(sk.fit(sk.Recipe(subset=128, epochs=1)).status, os.environ['OMP_WAIT_POLICY'])")
    assert said.split() == ["finished", "ACTIVE" if sys.platform == "linux" else "PASSIVE"]


# Many kernels at the same time, and many runs in one


BUSY = """import gc, operator, os, psutil, threading, time
import speedkit as sk

panel = sk.Panel(sk.Recipe(model="mlp", subset=640, batch_size=64, epochs=1, device="cpu"))
me, readings, end = psutil.Process(), [], time.monotonic() + SECONDS


def state():
    gc.collect()
    return me.memory_info().rss, threading.active_count(), me.num_fds(), len(me.children(recursive=True))


count = 0
while count < RUNS or time.monotonic() < end:
    changes = dict(workers=count % 2, cache=("off", "ram", "device")[count % 3])
    if count % 5 == 4:
        panel.start()
        panel._runner.join()
    else:
        panel.run(**changes)
    assert panel.runs[-1].status == "finished", panel.problem.value
    panel.forget()
    count += 1
    readings.append(state())
patience = time.monotonic() + 40  # ipykernel closes what it opened for a thread within ten seconds of its end
while any(map(operator.gt, state()[1:], readings[WARM][1:])) and time.monotonic() < patience:
    time.sleep(0.5)
print(count, *readings[WARM], *state())
"""


def soak(runs, seconds, warm):
    return BUSY.replace("RUNS", str(runs)).replace("SECONDS", str(seconds)).replace("WARM", str(warm))


def assert_flat(printed, growth):
    count, memory, threads, files, children, *later = map(int, printed.split()[-9:])
    assert count > 0
    assert later[0] <= growth * memory
    assert all(now <= before for now, before in zip(later[1:], (threads, files, children), strict=True)), printed


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not count file descriptors")
def test_many_runs_in_one_kernel_leave_nothing_behind(kernels):
    """200 runs at full length, memory flat within 5 %; shortened, in which torch still warms up, within 10 %."""
    runs, warm, growth = (200, 20, 1.05) if SOAK else (24, 11, 1.10)
    assert_flat(kernels().run(soak(runs, 0, warm), timeout=3600), growth)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not count file descriptors")
def test_kernels_side_by_side_all_go_on(kernels):
    """Eight kernels for ten minutes at full length; shortened, three for sixteen runs each."""
    count, runs, seconds, warm = (8, 30, 600, 20) if SOAK else (3, 16, 0, 11)
    started = [kernels() for _ in range(count)]
    said = [None] * count

    def work(place):
        said[place] = started[place].run(soak(runs, seconds, warm), timeout=seconds + 600)

    threads = [threading.Thread(target=work, args=(place,)) for place in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for printed in said:
        assert printed, "a kernel died"
        assert_flat(printed, 1.10)


# Nothing runs that should not


def test_no_pickle_is_loaded_anywhere():
    """``torch.load`` runs code unless it is told not to, and so does pickle."""
    sources = [
        path
        for folder in ("speedkit", "notebooks")
        for path in Path(images.__file__).parents[1].joinpath(folder).rglob("*.*")
    ]
    for path in sources:
        if path.suffix in (".py", ".ipynb"):
            text = path.read_text(encoding="utf-8")
            assert "pickle.load" not in text
            assert "torch.load" not in text
            assert "allow_pickle" not in text


def test_the_tests_reach_nothing_beyond_this_machine():
    """The notebooks run under the same guard: a lesson that reached for the network would fail."""
    code = "import socket\ntry: socket.create_connection(('192.0.2.1', 80), timeout=5)\nexcept OSError as e: print(e)"
    assert script(code) == "The tests allow no connection to 192.0.2.1."
