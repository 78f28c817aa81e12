"""``python -m speedkit check``: right on this machine, and on ones that are broken on purpose."""

import os
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata

import pytest

from speedkit import __main__, hardware, loading
from speedkit.classroom import check
from speedkit.support import settings
from tests.fake_gpu import LAPTOP, V100, install


def declared():
    """What pyproject.toml says that speedkit needs: what it is installed with."""
    project = tomllib.loads((settings.REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["dependencies"]


@pytest.fixture
def small(generated, monkeypatch, tmp_path):
    """The check with folders of this test alone, a moment's training, and speedkit as if just installed."""
    monkeypatch.setenv("SPEEDKIT_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(metadata, "requires", lambda name: declared())
    look = check.check
    return lambda: {found.what: found for found in look(trial_s=0.2)}


def test_this_machine_is_ready(small, capsys, monkeypatch):
    monkeypatch.setattr(check, "check", lambda: iter(small().values()))
    assert __main__.main(["check"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == "Ready."
    assert any("torch: " + metadata.version("torch") in line for line in said)
    assert any("70,000 of Fashion-MNIST, undamaged" in line for line in said)
    assert any("images per second over" in line for line in said)


@pytest.mark.parametrize(
    ("count", "end"),
    [(1, "Not ready: 1 problem to fix (see above)."), (3, "Not ready: 3 problems to fix (see above).")],
)
def test_problems_are_counted_and_give_1(monkeypatch, capsys, count, end):
    good, problem = check.CheckResult(check.GOOD, "a", "fine"), check.CheckResult(check.FIX, "b", "is broken: fix it.")
    monkeypatch.setattr(check, "check", lambda: iter([good, *[problem] * count]))
    assert __main__.main(["check"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["  ok  a: fine", *[" fix  b: is broken: fix it."] * count, end]


def test_missing_images_are_to_fix(monkeypatch, tmp_path):
    monkeypatch.setenv("SPEEDKIT_DATA", str(tmp_path))
    found = check.images()
    assert found.state == check.FIX
    assert "train-images-idx3-ubyte.gz cannot be read" in found.sentence
    assert "git checkout -- data" in found.sentence


def test_a_damaged_file_of_images_is_to_fix(monkeypatch, tmp_path):
    for path in settings.data_folder().glob("*.*"):
        shutil.copy(path, tmp_path)
    shutil.copy(settings.data_folder() / "SHA256SUMS", tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(b"x")
    monkeypatch.setenv("SPEEDKIT_DATA", str(tmp_path))
    assert "t10k-labels-idx1-ubyte.gz is damaged" in check.images().sentence


@pytest.mark.parametrize("name", ["SPEEDKIT_GENERATED", "SPEEDKIT_RUNS"])
def test_a_folder_that_cannot_be_written_is_to_fix(small, monkeypatch, tmp_path, name):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(name, str(tmp_path / "file" / "in it"))
    to_fix = [found for found in small().values() if found.state == check.FIX and "cannot be written" in found.sentence]
    assert len(to_fix) == 1
    assert f"name another folder in {name}." in to_fix[0].sentence


def test_a_disk_that_is_nearly_full_is_to_fix(tmp_path, monkeypatch):
    monkeypatch.setattr(check, "DISK", 2**60)
    assert "free some disk space" in check.folder("generated images", tmp_path, "SPEEDKIT_GENERATED").sentence


@pytest.mark.parametrize(("free", "state"), [(64 * 2**20, check.FIX), (2**31, check.GOOD), (None, check.GOOD)])
def test_a_tiny_shared_memory_is_to_fix(monkeypatch, free, state):
    monkeypatch.setattr(loading, "shared_memory_free", lambda: free)
    found = check.shared_memory()
    assert found.state == state
    assert ("--shm-size=2g" in found.sentence) == (state == check.FIX)


def test_a_missing_extension_of_the_widgets_is_to_fix(monkeypatch, tmp_path):
    assert check.widgets().state == check.GOOD
    monkeypatch.setattr("jupyter_core.paths.jupyter_path", lambda *_: [str(tmp_path)])
    found = check.widgets()
    assert found.state == check.FIX
    assert "pip install -r requirements.txt" in found.sentence


@pytest.mark.parametrize(
    ("version", "state"), [("2.10.0", check.FIX), ("2.13.0+cpu", check.FIX), ("2.11.0+cu128", check.GOOD)]
)
def test_an_old_torch_is_to_fix(monkeypatch, version, state):
    monkeypatch.setattr(metadata, "version", lambda name: version)
    found = {each.what: each for each in check.packages(declared())}["torch"]
    assert found.state == state
    assert version in found.sentence


def test_every_package_that_is_declared_is_here():
    found = list(check.packages(declared()))
    assert len(found) >= 17
    assert {each.state for each in found} == {check.GOOD}


def test_a_missing_package_is_to_fix():
    required = ["no-such-package-here>=1", "numpy>=1 ; python_version < '3'", "numpy>=99 ; extra == 'tests'"]
    assert [found.sentence for found in check.packages(required)] == [
        "is not installed: run pip install -r requirements.txt in this environment."
    ]


@pytest.mark.parametrize("known", [None, metadata.PackageNotFoundError()], ids=["an older version", "not installed"])
def test_where_it_is_not_known_what_is_needed_that_is_said(monkeypatch, known):
    def requires(name):
        if known is not None:
            raise known

    monkeypatch.setattr(metadata, "requires", requires)
    (found,) = check.packages(check.requirements())
    assert found.state == check.NOTE
    assert "run pip install -r requirements.txt" in found.sentence


def test_the_check_does_not_need_the_repository(tmp_path, generated):
    """As after an ordinary installation: the package and what it says of itself, without requirements.txt."""
    shutil.copytree(settings.REPOSITORY / "speedkit", tmp_path / "speedkit")
    about = tmp_path / "speedkit-0.1.0.dist-info"
    about.mkdir()
    needed = "Requires-Dist: numpy>=2\nRequires-Dist: no-such-package-here>=1\n"
    (about / "METADATA").write_text(f"Metadata-Version: 2.4\nName: speedkit\nVersion: 0.1.0\n{needed}")
    places = {"PYTHONPATH": str(tmp_path), "SPEEDKIT_RUNS": str(tmp_path / "runs"), "SPEEDKIT_SMOKE": "1"}
    places["SPEEDKIT_DATA"] = str(settings.data_folder())
    command = [sys.executable, "-m", "speedkit", "check"]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | places, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert f"  ok  numpy: {metadata.version('numpy')}" in lines
    assert " fix  no-such-package-here: is not installed: run pip install" in done.stdout
    assert lines[-1] == "Not ready: 1 problem to fix (see above)."
    assert done.returncode == 1


def test_a_torchvision_that_does_not_fit_is_to_fix(monkeypatch):
    assert check.pictures().state == check.GOOD
    monkeypatch.setitem(sys.modules, "torchvision.transforms", None)
    found = check.pictures()
    assert found.state == check.FIX
    assert "cannot be loaded" in found.sentence


def test_how_many_processes_the_memory_holds(monkeypatch):
    monkeypatch.setattr(check, "footprint", lambda: check.Footprint(hardware.machine().memory / 7.5, 0.0))
    assert check.memory().sentence.endswith("hold about 7 of them.")
    monkeypatch.setattr(check, "footprint", lambda: check.Footprint(float("nan"), 0.0))
    assert check.memory().sentence == "how much this process takes is not known here"


def test_a_training_that_fails_is_to_fix(small, fail_after):
    fail_after(2)
    found = check.trial(60)  # long enough for three steps on any machine, however busy
    assert (found.state, found.sentence) == (check.FIX, "failed: made up")


def test_help_names_it():
    done = subprocess.run([sys.executable, "-m", "speedkit", "--help"], capture_output=True, text=True, check=True)
    assert "speedkit check" in done.stdout


def test_a_gpu_that_torch_does_not_use_is_something_to_fix(monkeypatch):
    install(monkeypatch, LAPTOP, seen=False, cuda=None)
    found = check.accelerator()
    assert found.state == check.FIX
    assert "this torch is a build without CUDA: install the CUDA build" in found.sentence
    install(monkeypatch, seen=False)
    assert check.accelerator().state in (check.GOOD, check.NOTE)


def test_a_second_card_that_torch_cannot_use_is_named(monkeypatch):
    install(monkeypatch, LAPTOP, V100)
    found = check.accelerator()
    assert found.state == check.NOTE
    assert "not built for Tesla V100" in found.sentence
