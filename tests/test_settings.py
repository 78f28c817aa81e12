"""Settings: each variable is read in one place, and means what one expects of it."""

import re
from pathlib import Path

import pytest

from speedkit.support import settings

PACKAGE = Path(settings.__file__).resolve().parents[1]
FOLDERS = {
    "SPEEDKIT_DATA": settings.data_folder,
    "SPEEDKIT_GENERATED": settings.generated_folder,
    "SPEEDKIT_RUNS": settings.learner_folder,
    "SPEEDKIT_BOARD": settings.board_folder,
    "SPEEDKIT_TURNS": settings.queue_folder,
}
NOT_OURS = {
    "OMP_WAIT_POLICY",
    "GOMP_SPINCOUNT",
    "ONEDNN_MAX_CPU_ISA",
    "CUDA_VISIBLE_DEVICES",
}  # torch's libraries', torchrun's


def test_nothing_else_in_the_package_reads_a_variable_of_ours():
    for path in PACKAGE.rglob("*.py"):
        if path.name not in ("settings.py", "limits.py"):  # limits: those that other programs set
            for line in path.read_text(encoding="utf-8").splitlines():
                if re.search(r"\benviron\b|\bgetenv\b", line):
                    assert {name for name in NOT_OURS if name in line}, f"{path.name}: {line}"
                    assert "SPEEDKIT" not in line, path


def test_every_variable_that_a_text_names_is_one_that_is_read():
    read = set(re.findall(r"SPEEDKIT_[A-Z]+", Path(settings.__file__).read_text(encoding="utf-8")))
    assert read >= {"SPEEDKIT_SMOKE", "SPEEDKIT_LANGUAGE", *FOLDERS}
    for path in [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.po")]:
        assert set(re.findall(r"SPEEDKIT_[A-Z]+", path.read_text(encoding="utf-8"))) <= read, path


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_may_be_named_from_home_or_from_here(monkeypatch, tmp_path, name):
    tmp_path = tmp_path.resolve()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv(name, "~/mine")
    assert FOLDERS[name]() == tmp_path / "mine"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, "here")
    assert FOLDERS[name]() == tmp_path / "here"


def test_where_nothing_is_named_each_folder_has_its_place(monkeypatch, tmp_path):
    for name in FOLDERS:
        monkeypatch.setenv(name, "")
    monkeypatch.chdir(tmp_path)
    assert settings.data_folder() == settings.REPOSITORY / "data"
    assert settings.generated_folder() == settings.REPOSITORY / "data" / "generated"
    assert settings.learner_folder() == tmp_path / "runs"
    assert settings.board_folder() is None
    assert settings.board_folder(tmp_path / "board") == tmp_path / "board"
    assert settings.queue_folder().name == "speedkit-turns"
    monkeypatch.setenv("SPEEDKIT_DATA", str(tmp_path))
    assert settings.generated_folder() == tmp_path / "generated"


def test_in_the_repositorys_top_folder_the_learners_folder_is_the_notebooks(monkeypatch):
    monkeypatch.delenv("SPEEDKIT_RUNS", raising=False)
    for folder in (settings.REPOSITORY, settings.REPOSITORY / "notebooks"):
        monkeypatch.chdir(folder)
        assert settings.learner_folder() == settings.REPOSITORY / "notebooks" / "runs"


@pytest.mark.parametrize("value", ["1", "true", "True", "yes", "on", " ON "])
def test_yes_is_understood(monkeypatch, value):
    monkeypatch.setenv("SPEEDKIT_SMOKE", value)
    assert settings.smoke()
    monkeypatch.setenv("SPEEDKIT_TURNS", value)
    assert settings.queue_folder().name == "speedkit-turns"


@pytest.mark.parametrize("value", ["0", "false", "False", "no", "off", "OFF"])
def test_no_is_understood(monkeypatch, value):
    monkeypatch.setenv("SPEEDKIT_SMOKE", value)
    assert not settings.smoke()
    monkeypatch.setenv("SPEEDKIT_TURNS", value)
    assert settings.queue_folder() is None


def test_nothing_is_no(monkeypatch):
    for set_or_not in (lambda: monkeypatch.setenv("SPEEDKIT_SMOKE", ""), lambda: monkeypatch.delenv("SPEEDKIT_SMOKE")):
        set_or_not()
        assert not settings.smoke()


@pytest.mark.parametrize("value", ["2", "maybe", "-", "y es"])
def test_anything_else_is_refused_in_one_sentence(monkeypatch, value):
    monkeypatch.setenv("SPEEDKIT_SMOKE", value)
    with pytest.raises(ValueError, match=rf"^SPEEDKIT_SMOKE='{value}' is not allowed: give 1 \| true \| .* \| off\.$"):
        settings.smoke()
