"""Scripts whose workers start by importing them, and shared memory: the true cause in one sentence."""

import multiprocessing
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from speedkit.classroom import check
from speedkit.support.errors import CannotRun
from speedkit.support.explain import advice
from speedkit.support.guard import NoGuard

RECIPE = 'sk.Recipe(model="mlp", subset=64, batch_size=16, epochs=1, device="cpu", workers=2, start_method="METHOD")'
FIT = f"import speedkit as sk\nprint(sk.fit({RECIPE}).status)\n"
COMPARE = (
    f"import speedkit as sk\nrecipe = {RECIPE}\nprint(sk.compare(recipe, recipe, pairs=1, progress=False).status)\n"
)
GUARDED = f"import speedkit as sk\nif __name__ == '__main__':\n    print(sk.fit({RECIPE}).status)\n"


@pytest.fixture
def script(tmp_path, generated):
    def run(code, method):
        if method not in multiprocessing.get_all_start_methods():
            pytest.skip(f"this system has no {method}")
        (tmp_path / "script.py").write_text(code.replace("METHOD", method))
        environment = os.environ | {"SPEEDKIT_SMOKE": "0", "TMPDIR": str(tmp_path)}
        return subprocess.run(
            [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )

    return run


def test_the_example_of_the_readme_runs_as_a_file(tmp_path, generated):
    readme = Path(__file__).resolve().parent.parent / "README.md"
    (example,) = re.findall(r"```python\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "example.py").write_text(example, encoding="utf-8")
    environment = os.environ | {"SPEEDKIT_SMOKE": "1", "SPEEDKIT_RUNS": str(tmp_path / "runs")}
    done = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "smoke" in done.stdout
    (saved,) = (tmp_path / "runs").glob("comparison-*.json")
    assert str(saved) in done.stderr


@pytest.mark.parametrize(("code", "method"), [(FIT, "spawn"), (FIT, "forkserver"), (COMPARE, "spawn")])
def test_a_script_without_a_main_guard_ends_with_one_sentence(script, code, method):
    done = script(code, method)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("speedkit: This script starts worker processes")
    assert "if __name__ == '__main__':" in line


@pytest.mark.parametrize(("code", "method"), [(GUARDED, "spawn"), (GUARDED, "forkserver"), (FIT, "fork")])
def test_any_other_script_trains(script, code, method):
    done = script(code, method)
    assert (done.returncode, done.stdout) == (0, "finished\n"), done.stderr


def test_the_error_can_be_caught_as_any_other_of_ours():
    with pytest.raises(CannotRun, match="__main__"):
        raise NoGuard()


TORCH = "unable to open shared memory object </torch_1_2_3> in read-write mode: {} ({})"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (TORCH.format("Permission denied", 13), "cannot be written (Permission denied)"),
        (TORCH.format("Read-only file system", 30), "cannot be written (Read-only file system)"),
        (TORCH.format("No such file or directory", 2), "cannot be written (No such file or directory)"),
        (TORCH.format("Too many open files", 24), "may not open more files"),
        (TORCH.format("No space left on device", 28), "is full"),
        ("unable to write to file </torch_1>: No space left on device (28)", "is full"),
    ],
)
def test_shared_memory_is_called_full_only_where_it_is(words, said):
    assert said in advice(RuntimeError(words))
    assert ("full" in advice(RuntimeError(words))) == (said == "is full")


def test_the_check_tries_to_write_to_shared_memory(monkeypatch):
    def refused(dir=None):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(check.tempfile, "TemporaryFile", refused)
    found = check.shared_memory()
    assert found.state == check.FIX
    assert "cannot be written (Permission denied)" in found.sentence
    assert "full" not in found.sentence
