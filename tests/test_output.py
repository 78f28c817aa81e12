"""Told before kept: whatever happens to the output, or to the process, what was measured is on the disk."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from speedkit import __main__
from speedkit.comparison.result import Comparison
from speedkit.run import Run
from speedkit.support.output import Ended, EndingSignals, Output, printable, safe_output
from speedkit.support.table import Table

RUN = f"{sys.executable} -m speedkit --subset 64 --batch-size 16 --epochs 1 --model mlp --device cpu --out kept"
ENDLESS = RUN.replace("--epochs 1", "--epochs 10000")
COMPARE = """
import speedkit as sk
recipe = sk.Recipe(model="mlp", subset=64, batch_size=16, epochs=EPOCHS, device="cpu")
print(sk.compare(recipe, recipe.but(cache="ram"), pairs=3, claims=sk.CLAIMS["cache"]))
"""
TELLING = """
import sys
import speedkit as sk

def train(recipe, run):
    print("run", file=sys.stderr, flush=True)
    return sk.train(recipe, run)

recipe = sk.Recipe(model="mlp", subset=64, batch_size=16, epochs=30, device="cpu")
print(sk.compare(recipe, recipe.but(cache="ram"), pairs=500, train=train, progress=False))
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="a shell and signals of Linux")


@pytest.fixture
def shell(tmp_path, monkeypatch, generated):
    """Runs a command line in a folder of this test; gives its exit status and what it wrote to standard error."""
    monkeypatch.setenv("SPEEDKIT_RUNS", str(tmp_path / "kept"))
    monkeypatch.setenv("SPEEDKIT_SMOKE", "0")

    def run(command, **environment):
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=tmp_path,
            env=os.environ | environment,
            capture_output=True,
            timeout=120,
        )
        return done.returncode, done.stderr.decode()

    return run


def kept(folder):
    return sorted((folder / "kept").glob("*.json"))


@linux
@pytest.mark.parametrize(
    ("output", "environment"),
    [
        ("| head -1", {}),
        ("2>&1 | true", {}),  # the progress bar, too, has nobody who reads it
        (">&- 2>&-", {}),
        (">/dev/full", {}),
        ("", {"PYTHONIOENCODING": "cp1252"}),
        ("", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    ],
)
def test_a_run_is_kept_wherever_its_summary_goes(shell, tmp_path, output, environment):
    code, errors = shell(f"{RUN} {output}", **environment)
    assert code == 0, errors
    (path,) = kept(tmp_path)
    assert Run.load(path).status == "finished"
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors
    assert ("could not be written" in errors) == (output == ">/dev/full")


@linux
@pytest.mark.parametrize("command", ["--help", "check --nonsense"])
def test_help_and_errors_have_no_reader(shell, command):
    code, errors = shell(f"{sys.executable} -m speedkit {command} 2>&1 | true")
    assert code == (0 if command == "--help" else 2)
    assert errors == ""


@linux
@pytest.mark.parametrize("output", ["| head -1", ">/dev/full", ""])
def test_a_comparison_of_a_script_is_kept_before_it_is_printed(shell, tmp_path, output):
    """The script's own print may fail; in another code page it does not."""
    (tmp_path / "script.py").write_text(COMPARE.replace("EPOCHS", "1"))
    code, errors = shell(f"{sys.executable} script.py {output}", PYTHONIOENCODING="" if output else "ascii")
    assert (code == 0) or output, errors
    (path,) = kept(tmp_path)
    assert f"The comparison is in {path}" in errors
    assert Comparison.load(path).status == "finished"
    assert len(Comparison.load(path).done) == 3


def started(command, folder, ready):
    """A process that has begun to measure."""
    process = subprocess.Popen(
        command, cwd=folder, env=os.environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    seen = ""
    while ready not in seen:
        seen += process.stderr.read(1)
        assert process.poll() is None, seen
    return process


@linux
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGXCPU"])
def test_a_signal_ends_a_run_that_is_kept(shell, tmp_path, name):
    number = getattr(signal, name)
    process = started(ENDLESS.split(), tmp_path, "accuracy")
    process.send_signal(number)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in errors
    (path,) = kept(tmp_path)
    run = Run.load(path)
    assert run.status == "stopped"
    assert run.reason == ("stopped by hand" if name == "SIGINT" else f"stopped by {name}")
    assert run.count > 0
    assert f"The run is in {Path('kept') / path.name}" in out


@linux
def test_a_signal_to_the_whole_group_with_workers(shell, tmp_path):
    """As when a terminal is closed, or a batch system ends a job: the workers hear it, too."""
    command = ["setsid", *ENDLESS.split(), "--workers", "2"]
    process = started(command, tmp_path, "accuracy")
    os.killpg(process.pid, signal.SIGTERM)
    __, errors = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in errors) == (143, False), errors
    assert Run.load(kept(tmp_path)[0]).reason == "stopped by SIGTERM"


@linux
def test_a_signal_that_is_ignored_stays_ignored(shell, tmp_path):
    """nohup."""
    process = started(["nohup", *ENDLESS.split()], tmp_path, "accuracy")
    process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert process.poll() is None
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143


@linux
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_ends_a_script_whose_finished_pairs_are_kept(shell, tmp_path, name):
    (tmp_path / "script.py").write_text(TELLING)
    process = started([sys.executable, "script.py"], tmp_path, "run\n" * 8)
    process.send_signal(getattr(signal, name))
    try:
        out, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + getattr(signal, name), errors
    assert out == ""  # the script has ended: it prints nothing more
    (path,) = kept(tmp_path)
    assert Comparison.load(path).status == "stopped"
    assert len(Comparison.load(path).done) >= 1


def test_where_the_folder_cannot_be_written_the_run_goes_among_the_temporary_files(
    quick, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(__main__.tempfile, "gettempdir", lambda: str(tmp_path))
    (tmp_path / "file").write_text("no folder")
    path = __main__.keep(Run(quick), tmp_path / "file")
    assert path.parent == tmp_path
    assert Run.load(path).recipe == quick
    assert "cannot be written" in capsys.readouterr().err


# Their parts


class Stream(io.StringIO):
    encoding = "ascii"

    def __init__(self, error=None):
        super().__init__()
        self.error = error

    def write(self, text):
        if self.error:
            raise self.error
        return super().write(text.encode("ascii").decode())


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("cache off → ram", "cache off -> ram"),
        ("× 0.5", "x 0.5"),
        ("3 µs …", "3 us ..."),
        ("été", "ete"),
        ("\udce9日", "??"),
    ],
)
def test_what_a_code_page_lacks_is_written_plainly(text, plain):
    stream = Stream()
    print(text, file=Output(stream))
    assert stream.getvalue() == f"{plain}\n"
    assert printable(text, stream) == plain


def test_a_text_that_can_be_written_stays_as_it_is(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    assert printable("off → ram, été") == "off → ram, été"
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert repr(Table(["a"], [["off → ram"]])).splitlines()[-1] == "off -> ram"


@pytest.mark.parametrize(
    "stream", [None, Stream(BrokenPipeError()), Stream(OSError(28, "No space left")), Stream(ValueError("closed"))]
)
def test_output_raises_nothing(monkeypatch, stream):
    monkeypatch.setattr(sys, "stdout", stream)
    with safe_output():
        print("a")
        print("b", flush=True)
    assert sys.stdout is stream


def test_signals_are_as_before_afterwards_and_the_second_is_only_remembered():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with EndingSignals() as signals:
        with pytest.raises(Ended):
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        signals.only_remember()
        os.kill(os.getpid(), signal.SIGINT)
    assert signals.name == "SIGTERM"
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
