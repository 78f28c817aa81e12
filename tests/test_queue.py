"""The queue between real processes: first come, first served, no turn for the dead, and nothing left behind."""

import contextlib
import os
import queue as queues
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from speedkit.classroom import check
from speedkit.comparison.runs import comparing, plan
from speedkit.lab import other_work, queue
from speedkit.lab.compare import compare, in_turn
from speedkit.lab.panel import Panel
from speedkit.recipe import Recipe
from speedkit.run import Run

BASELINE = Recipe(seed=40)
VARIANT = BASELINE.but(cache="ram")
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals, links and modes")
ROOT = pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() != 0, reason="only root can act for another user")

# What each process begins with; then it does what it is told
CHILD = """
import os, sys, time
from speedkit.lab import queue as turns

def say(*words):
    print(*words, flush=True)

def wait_for_turn(turn):
    said = None
    for words in turn.waiting():
        if words != said:
            say(words)
        said = words
    say(turn.problem or "my turn")
"""
COMPARES = """
with turns.Turn() as turn:
    wait_for_turn(turn)
    input()
say("over")
"""
TRAINS = """
with turns.active():
    say("trains")
    input()
say("over")
"""
COMPARES_AND_TRAINS = """
with turns.Turn() as turn, turns.active():
    wait_for_turn(turn)
    say("trains")
    input()
"""
LETS_THE_NEXT_ONE = """
with turns.Turn() as turn:
    wait_for_turn(turn)
    while not turns.live_tickets(turns.WAIT):
        time.sleep(0.02)
say("over")
"""


class Process:
    """A Python of its own; what it prints is awaited with a deadline."""

    def __init__(self, code):
        command = [sys.executable, "-c", CHILD + code]
        self.popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.lines = queues.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for line in self.popen.stdout:
            self.lines.put(line.strip())

    def says(self):
        return self.lines.get(timeout=60)

    def hears(self, word):
        """Waits for a line with ``word`` in it."""
        while word not in (line := self.says()):
            pass
        return line

    def goes_on(self):
        self.popen.stdin.write("\n")
        self.popen.stdin.flush()

    def kill(self):
        self.popen.kill()
        self.popen.wait(60)


@pytest.fixture
def folder(monkeypatch):
    """One test's folder of the queue, which other users can reach; only the lock may be left in it."""
    place = Path(tempfile.mkdtemp(prefix="speedkit-test-"))
    place.chmod(0o755)
    monkeypatch.setenv("SPEEDKIT_TURNS", str(place / "turns"))
    yield place / "turns"
    assert queue.others() == (0, 0)
    assert left(place / "turns") <= {"turn"}
    shutil.rmtree(place)


def left(folder):
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


@pytest.fixture
def processes(folder):
    """Starts processes; all have ended after the test."""
    with contextlib.ExitStack() as stack:

        def start(code):
            process = Process(code)
            stack.callback(process.kill)
            return process

        yield start


@pytest.fixture(autouse=True)
def no_release(monkeypatch):
    """Releasing memory takes long in a test session, with all its modules."""
    monkeypatch.setattr(sys.modules["speedkit.comparison.runs"], "_release_memory", lambda: None)


def two_steps(recipe, run):
    with run.recording():
        run.machine = {"device": "cpu"}
        for t in (1.0, 2.0):
            yield run.step(t=t, step_s=0.1, wait_s=0.01)


def quietly(**more):
    return compare(BASELINE, VARIANT, 1, progress=False, **{"train": two_steps} | more)


def step_by_step(pairs=1):
    """The generator behind :func:`compare`."""
    return in_turn(plan(BASELINE, VARIANT, pairs, (), None), two_steps)


def waits(comparison):
    return comparison.status == "running" and comparison.current is None


def wait_for(holds):
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# The queue


def test_first_come_first_served(processes):
    first = processes(COMPARES)
    assert first.says() == "my turn"
    second = processes(COMPARES)
    assert second.says().startswith("waiting for 1 other comparison on this machine (the first came at ")
    third = processes(COMPARES)
    assert third.says().startswith("waiting for 2 other comparisons on this machine (")
    first.goes_on()
    assert second.says() == "my turn"
    assert "waiting for 1 other comparison " in third.says()
    with pytest.raises(queues.Empty):
        third.lines.get(timeout=1)
    second.goes_on()
    assert third.says() == "my turn"
    third.goes_on()
    assert [process.says() for process in (first, second, third)] == ["over"] * 3


@pytest.mark.parametrize("victim", ["whose turn it is", "who waits"])
def test_the_killed_free_their_place(processes, folder, victim):
    started = []
    for word in ("my turn", "waiting for 1", "waiting for 2"):
        started.append(processes(COMPARES))
        started[-1].hears(word)
    first, second, third = started
    if victim == "who waits":
        second.kill()
        assert "waiting for 1 " in third.says()
        first.goes_on()
    else:
        first.kill()
        second.hears("my turn")
        assert "waiting for 1 " in third.says()
        second.kill()
    third.hears("my turn")
    assert len(left(folder) - {"turn"}) == 1  # the dead ones' files are gone


@POSIX
@pytest.mark.parametrize("fork", ["os.fork()", "ctypes.CDLL(None).fork()"], ids=["by Python", "by a library"])
def test_forked_workers_that_outlive_a_kernel_do_not_keep_its_turn(processes, fork):
    forks = f"""    import ctypes
    worker = {fork}
    if not worker:
        os.close(1)
        time.sleep(120)
    say("forked", worker)
    input()"""
    first = processes(COMPARES.replace("    input()", forks))
    worker = int(first.hears("forked").split()[1])
    try:
        second = processes(COMPARES)
        second.hears("waiting for 1")
        first.kill()
        second.hears("my turn")
    finally:
        os.kill(worker, signal.SIGKILL)  # it was alive until now


def test_a_later_one_with_an_earlier_time_does_not_come_between(processes, monkeypatch):
    """As when the clock is set back."""
    first = processes(COMPARES)
    first.hears("my turn")
    monkeypatch.setattr(queue.time, "time_ns", lambda: 10**18)
    with queue.Turn() as turn:
        words = turn.waiting()
        assert next(words).startswith("waiting for 1 other comparison on this machine")
        first.goes_on()
        assert all("1 other" in each for each in words)
    assert turn.waited > 0


# Comparisons


def test_a_comparison_waits_its_turn_says_so_and_notes_it(processes, capsys):
    processes(LETS_THE_NEXT_ONE).hears("my turn")
    comparison = compare(BASELINE, VARIANT, 1, train=two_steps)
    assert comparison.status == "finished"
    assert [note for note in comparison.notes if note.startswith("It waited ")]
    shown = capsys.readouterr().out
    assert "waiting for 1 other comparison on this machine" in shown
    assert "4/4" in shown


def test_outside_the_lab_a_comparison_does_not_wait(processes, folder):
    """On a machine with a queue of its own, like a cluster's, ``comparing`` only makes the runs."""
    processes(COMPARES).hears("my turn")
    seen = [comparison.runs_done for comparison in comparing(BASELINE, VARIANT, 1, train=two_steps)]
    assert seen == [1, 2, 3, 4]
    assert len(left(folder)) == 2  # the lock, and the other one's file


def test_one_that_need_not_wait_says_nothing(folder):
    assert quietly().notes == []


def test_it_has_its_turn_until_it_ends(processes, folder):
    runs = step_by_step()
    next(runs)
    other = processes(COMPARES)
    other.hears("waiting for 1")
    for comparison in runs:
        if comparison.status == "finished":
            break
        assert queue.others().comparisons == 1
        assert other.lines.empty()
    other.hears("my turn")  # though the generator has not been closed


@pytest.mark.parametrize("how", ["closed", "interrupted"])
def test_stopping_while_it_waits_gives_up_the_place_immediately(processes, folder, monkeypatch, how):
    first = processes(COMPARES)
    first.hears("my turn")
    if how == "closed":
        runs = step_by_step(pairs=5)
        comparison = next(runs)
        assert (comparison.current, comparison.status) == (None, "running")
        assert comparison.now.startswith("waiting for 1 other")
        assert len(left(folder)) == 3
        runs.close()
    else:

        def interrupted(seconds):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(queue.time, "sleep", interrupted)
            comparison = quietly()
    assert (comparison.status, comparison.reason, comparison.done) == ("stopped", "stopped by hand", [])
    assert len(left(folder)) == 2
    first.goes_on()
    assert first.says() == "over"
    assert quietly().status == "finished"


def test_a_comparison_that_fails_gives_up_its_turn(processes):
    def fails(recipe, run):
        yield run.step()
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk is full"):
        quietly(train=fails)
    processes(COMPARES).hears("my turn")


def test_a_comparison_within_another_does_not_wait_for_itself(processes):
    inner = []

    def trains_and_compares(recipe, run):
        if not inner:
            inner.append(quietly())
        yield from two_steps(recipe, run)

    comparison = quietly(train=trains_and_compares)
    assert (inner[0].status, comparison.status) == ("finished", "finished")
    assert inner[0].notes == comparison.notes == []
    open_one = step_by_step(pairs=5)
    next(open_one)
    assert quietly().status == "finished"
    other = processes(COMPARES)
    other.hears("waiting for 1")  # the outer one still has its turn
    open_one.close()
    other.hears("my turn")


def test_smoke_runs_neither_wait_nor_show(processes, folder, monkeypatch):
    processes(COMPARES).hears("my turn")
    monkeypatch.setenv("SPEEDKIT_SMOKE", "1")
    assert {(waits(comparison), len(left(folder))) for comparison in step_by_step()} == {(False, 2)}


def test_switched_off_nothing_waits_and_nothing_is_written(processes, folder, monkeypatch):
    processes(COMPARES).hears("my turn")
    before = left(folder)
    with monkeypatch.context() as patch:
        patch.setenv("SPEEDKIT_TURNS", "off")
        assert {(waits(comparison), left(folder) == before) for comparison in step_by_step()} == {(False, True)}
        assert queue.others() == (0, 0)
        assert check.queue().sentence.endswith("SPEEDKIT_TURNS is off")
        assert quietly().notes == []


# Folders and files that are not as they should be


@pytest.mark.parametrize("trap", ["a file", "below a file", pytest.param("a link", marks=POSIX)])
def test_a_folder_that_cannot_be_used_is_noted_once_and_the_comparison_runs(tmp_path, monkeypatch, trap):
    (tmp_path / "file").write_text("no folder")
    if trap == "a link":  # in the common folder, where another user may have put it
        monkeypatch.delenv("SPEEDKIT_TURNS")
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "common"))
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "common").mkdir()
        (tmp_path / "common" / "speedkit-turns").symlink_to(tmp_path / "elsewhere")
    else:
        monkeypatch.setenv("SPEEDKIT_TURNS", str(tmp_path / "file" / ("in it" if trap == "below a file" else "")))
    comparison = quietly()
    assert comparison.status == "finished"
    (note,) = comparison.notes
    assert note.startswith("It could not use the queue of this machine (")
    assert note.endswith("Set SPEEDKIT_TURNS to a folder that all its users can write to, or to off.")
    assert str(tmp_path) in note
    assert queue.others() == (0, 0)
    assert check.queue().state == check.NOTE
    if trap == "a link":
        assert list((tmp_path / "elsewhere").iterdir()) == []


def test_the_folder_of_its_own_is_made_for_all_users(tmp_path, monkeypatch):
    monkeypatch.delenv("SPEEDKIT_TURNS")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert quietly().notes == []
    folder = tmp_path / "speedkit-turns"
    assert left(folder) == {"turn"}
    if sys.platform != "win32":
        assert folder.stat().st_mode & 0o7777 == 0o1777
        assert (folder / "turn").stat().st_mode & 0o777 == 0o666


@POSIX
def test_broken_and_hostile_files_hold_nobody_up(folder, tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("not ours")
    queue.folder()

    def name(kind, process="1"):
        return folder / f"{kind}-{0:020d}-{process}-{os.urandom(4).hex()}"

    abandoned = [name(queue.WAIT), name(queue.RUN), name(queue.WAIT, "9" * 10)]
    for path in abandoned:
        path.write_bytes(os.urandom(1000))
    abandoned[0].chmod(0o444)
    strange = [name(queue.WAIT), name(queue.WAIT), name(queue.RUN), folder / "wait-x", folder / "wait-1-1-<b>"]
    strange[0].mkdir()
    os.mkfifo(strange[1])
    strange[2].symlink_to(outside)
    for path in strange[3:]:
        path.write_text("{")
    comparison = quietly()
    assert (comparison.status, comparison.notes) == ("finished", [])
    assert queue.others() == (0, 0)
    assert not any(path.exists() for path in abandoned)
    assert outside.read_text() == "not ours"
    strange[0].rmdir()
    for path in strange[1:]:
        path.unlink()


def test_a_lock_whose_file_was_removed_is_taken_again(folder, processes):
    assert quietly().status == "finished"
    (folder / "turn").unlink()
    processes(COMPARES).hears("my turn")


@POSIX
@ROOT
@pytest.mark.parametrize("users", [(0, 65534), (65534, 0), (65534, 65533)])
def test_users_wait_for_each_other(processes, folder, users):
    """The first makes the folder, the lock and a file, which the other one must be able to use."""
    folder.parent.chmod(0o1777)
    mine, theirs = (f"os.umask(0o077); os.setgid({user}); os.setuid({user})\n" for user in users)
    first = processes(mine + COMPARES)
    assert first.says() == "my turn"
    second = processes(theirs + COMPARES)
    assert second.says().startswith("waiting for 1 other")
    assert "waiting for 2 other" in processes(mine + COMPARES).says()
    first.kill()  # the other user may not be allowed to remove its file, and goes on all the same
    assert second.says() == "my turn"
    assert len({ticket.user for ticket in queue.live_tickets(queue.WAIT)}) == 2


# Who else is there


def test_a_run_shows_in_other_processes_as_long_as_it_lasts(processes, folder):
    watcher = processes("while input() == 'look':\n    say(turns.others().runs)\nsay('over')")

    def looks():
        watcher.popen.stdin.write("look\n")
        watcher.popen.stdin.flush()
        return watcher.says()

    run = Run(BASELINE)
    assert looks() == "0"
    with run.recording():
        assert queue.others() == (0, 0)  # one's own does not count
        assert looks() == "1"
        with queue.active():
            pass
        assert looks() == "1"
    assert looks() == "0"
    records = two_steps(run.recipe, run)
    next(records)
    assert looks() == "1"
    records.close()
    assert looks() == "0"
    assert left(folder) == set()


def test_a_comparison_says_that_other_runs_were_active(processes):
    processes(TRAINS).hears("trains")
    noted = "Other speedkit runs were active on this machine, so these times are not those of a run alone."
    assert quietly().notes == [noted]


def test_the_panel_says_who_else_is_there_before_and_during_a_run(quick, processes, monkeypatch):
    monkeypatch.setattr(queue.os, "getloadavg", lambda: (0.0, 0.0, 0.0), raising=False)
    monkeypatch.setattr(other_work, "LOOK", 0.05)
    assert Panel(quick).other_work.value == ""
    first, second = processes(TRAINS), processes(TRAINS)
    first.hears("trains")
    second.hears("trains")
    panel = Panel(quick.but(epochs=10_000))
    assert ": 2 other speedkit runs are active on this machine: a time" in panel.other_work.value
    panel.start()
    wait_for(lambda: panel._shown.count > 3)
    assert "<div class='sk-note'>2 other speedkit runs are active" in panel.other_work.value
    first.goes_on()
    wait_for(lambda: "1 other speedkit run is active on this machine" in panel.other_work.value)
    second.kill()
    wait_for(lambda: panel.other_work.value == "")
    third = processes(COMPARES_AND_TRAINS)
    third.hears("trains")
    wait_for(lambda: "1 other speedkit run is active on this machine (a comparison among" in panel.other_work.value)
    panel.stop()
    panel._runner.join(60)
    assert panel.other_work.value == ""
    (found,) = [note for note in panel.runs[0].notes if note.startswith("Up to 2 other speedkit runs were active on")]
    assert found in panel.where.value


def test_a_run_alone_has_nothing_to_say(quick, folder, monkeypatch):
    monkeypatch.setattr(queue.os, "getloadavg", lambda: (0.0, 0.0, 0.0), raising=False)
    monkeypatch.setattr(other_work, "LOOK", 0.0)
    panel = Panel(quick)
    run = panel.run()
    assert panel.other_work.value == ""
    assert not any("active on this machine" in note for note in run.notes)


def test_a_high_load_is_reported_but_not_ones_own_workers(monkeypatch):
    monkeypatch.setattr(queue.hardware, "cores", lambda: 4)
    monkeypatch.setattr(queue.os, "cpu_count", lambda: 4)
    monkeypatch.setattr(queue.os, "getloadavg", lambda: (9.2, 0.0, 0.0), raising=False)
    assert queue.load() == "This machine is busy: load average 9 on 4 cores."
    assert queue.load(own=5) == ""
    for quiet in (7.9, float("nan")):
        monkeypatch.setattr(queue.os, "getloadavg", lambda load=quiet: (load, 0.0, 0.0), raising=False)
        assert queue.load() == ""
    monkeypatch.delattr(queue.os, "getloadavg")
    assert queue.load() == ""


def test_the_load_of_a_whole_host_is_not_held_against_a_containers_few_cores(monkeypatch):
    monkeypatch.setattr(queue.hardware, "cores", lambda: 2)
    monkeypatch.setattr(queue.os, "cpu_count", lambda: 64)
    for average in (30.0, 200.0):
        monkeypatch.setattr(queue.os, "getloadavg", lambda load=average: (load, 0.0, 0.0), raising=False)
        assert queue.load() == ""


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (None, []),
        (0, []),
        (1, ["1 other process is using this GPU."]),
        (2, ["2 other processes are using this GPU."]),
    ],
)
def test_other_processes_on_the_gpu_are_shown(monkeypatch, count, shown):
    monkeypatch.setattr(queue, "others", lambda: queue.OtherProcesses(0, 0))
    monkeypatch.setattr(queue, "load", lambda own: "")
    around = other_work.OtherWork(Recipe(device="cpu"))
    around.gpu = SimpleNamespace(others=lambda: count)
    assert around.look() == shown


def test_the_check_says_who_compares(processes, folder):
    assert check.queue().state == check.GOOD
    assert str(folder) in check.queue().sentence
    processes(COMPARES).hears("my turn")
    processes(TRAINS).hears("trains")
    found = check.queue()
    assert found.state == check.NOTE
    assert " since " in found.sentence
    assert found.sentence.endswith("other processes that train: 1")


@POSIX
def test_an_interrupt_in_a_terminal_gives_up_the_place(processes):
    first = processes(COMPARES)
    first.hears("my turn")
    second = processes(COMPARES)
    second.hears("waiting for 1")
    second.popen.send_signal(signal.SIGINT)
    second.popen.wait(60)
    assert queue.others().comparisons == 1
