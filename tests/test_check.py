"""``python -m speedkit check``: right on this machine, and on ones that are broken on purpose."""

import shutil
import subprocess
import sys
from importlib import metadata

import pytest

from speedkit import __main__, hardware, loading
from speedkit.classroom import check
from speedkit.support import settings


@pytest.fixture
def small(generated, monkeypatch, tmp_path):
    """Folders of this test alone, and a training of no length."""
    monkeypatch.setenv("SPEEDKIT_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(check, "TRIAL_S", 0.2)
    look = check.check
    return lambda: {found.what: found for found in look(trial_s=0.2)}


def test_this_machine_is_ready(small, capsys, monkeypatch):
    monkeypatch.setattr(check, "check", lambda: iter(small().values()))
    assert __main__.main(["check"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == "Ready."
    assert any("torch: " + metadata.version("torch") in line for line in said)
    assert any("70,000 of Fashion-MNIST, undamaged" in line for line in said)
    assert any("images a second over" in line for line in said)


def test_something_to_mend_is_counted_and_gives_1(monkeypatch, capsys):
    found = [check.CheckResult(check.GOOD, "a", "fine"), check.CheckResult(check.FIX, "b", "is broken: mend it.")]
    monkeypatch.setattr(check, "check", lambda: iter(found))
    assert __main__.main(["check"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["  ok  a: fine", "mend  b: is broken: mend it.", "Not ready: 1 to mend, see above."]


def test_missing_images_are_to_mend(monkeypatch, tmp_path):
    monkeypatch.setenv("SPEEDKIT_DATA", str(tmp_path))
    found = check.images()
    assert found.state == check.FIX
    assert "train-images-idx3-ubyte.gz cannot be read" in found.sentence
    assert "git checkout -- data" in found.sentence


def test_a_damaged_file_of_images_is_to_mend(monkeypatch, tmp_path):
    for path in settings.data_folder().glob("*.*"):
        shutil.copy(path, tmp_path)
    shutil.copy(settings.data_folder() / "SHA256SUMS", tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(b"x")
    monkeypatch.setenv("SPEEDKIT_DATA", str(tmp_path))
    assert "t10k-labels-idx1-ubyte.gz is damaged" in check.images().sentence


@pytest.mark.parametrize("name", ["SPEEDKIT_GENERATED", "SPEEDKIT_RUNS"])
def test_a_folder_that_cannot_be_written_is_to_mend(small, monkeypatch, tmp_path, name):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(name, str(tmp_path / "file" / "in it"))
    to_mend = [
        found for found in small().values() if found.state == check.FIX and "cannot be written" in found.sentence
    ]
    assert len(to_mend) == 1
    assert f"name another folder in {name}." in to_mend[0].sentence


def test_a_disk_that_is_nearly_full_is_to_mend(tmp_path, monkeypatch):
    monkeypatch.setattr(check, "DISK", 2**60)
    assert "free some disk" in check.room("generated images", tmp_path).sentence


@pytest.mark.parametrize(("free", "state"), [(64 * 2**20, check.FIX), (2**31, check.GOOD), (None, check.GOOD)])
def test_a_tiny_shared_memory_is_to_mend(monkeypatch, free, state):
    monkeypatch.setattr(loading, "shared_memory_free", lambda: free)
    found = check.shared_memory()
    assert found.state == state
    assert ("--shm-size=2g" in found.sentence) == (state == check.FIX)


def test_a_missing_extension_of_the_widgets_is_to_mend(monkeypatch, tmp_path):
    assert check.widgets().state == check.GOOD
    monkeypatch.setattr("jupyter_core.paths.jupyter_path", lambda *_: [str(tmp_path)])
    found = check.widgets()
    assert found.state == check.FIX
    assert "pip install -r requirements.txt" in found.sentence


@pytest.mark.parametrize(
    ("version", "state"), [("2.10.0", check.FIX), ("2.13.0+cpu", check.FIX), ("2.11.0+cu128", check.GOOD)]
)
def test_an_old_torch_is_to_mend(monkeypatch, version, state):
    monkeypatch.setattr(metadata, "version", lambda name: version)
    found = {each.what: each for each in check.packages(settings.REPOSITORY / "requirements.txt")}["torch"]
    assert found.state == state
    assert version in found.sentence


def test_a_missing_package_is_to_mend(tmp_path):
    path = tmp_path / "requirements.txt"
    path.write_text("# words\nno-such-package-here>=1\nnumpy>=1 ; python_version < '3'\n-e .\n")
    assert [found.sentence for found in check.packages(path)] == [
        "is not installed: run pip install -r requirements.txt in this environment."
    ]


def test_a_torchvision_that_does_not_fit_is_to_mend(monkeypatch):
    assert check.pictures().state == check.GOOD
    monkeypatch.setitem(sys.modules, "torchvision.transforms", None)
    found = check.pictures()
    assert found.state == check.FIX
    assert "cannot be loaded" in found.sentence


def test_how_many_such_processes_the_memory_holds(monkeypatch):
    monkeypatch.setattr(check, "footprint", lambda: check.Footprint(hardware.machine().memory / 7.5, 0.0))
    assert check.kernels().sentence.endswith("hold about 7 such.")
    monkeypatch.setattr(check, "footprint", lambda: check.Footprint(float("nan"), 0.0))
    assert check.kernels().sentence == "what a process takes of it is not told here"


def test_a_training_that_fails_is_to_mend(small, fail_after):
    fail_after(2)
    found = check.trial(60)  # long enough for three steps on any machine, however busy
    assert (found.state, found.sentence) == (check.FIX, "failed: made up")


def test_help_names_it():
    done = subprocess.run([sys.executable, "-m", "speedkit", "--help"], capture_output=True, text=True, check=True)
    assert "speedkit check" in done.stdout
