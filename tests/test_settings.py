"""Settings: each variable is read in one place, and means what one expects of it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from speedkit import __main__
from speedkit.classroom import check
from speedkit.support import settings, variables

PACKAGE = Path(settings.__file__).resolve().parents[1]
FOLDERS = {
    "SPEEDKIT_DATA": settings.data_folder,
    "SPEEDKIT_GENERATED": settings.generated_folder,
    "SPEEDKIT_RUNS": settings.learner_folder,
    "SPEEDKIT_BOARD": variables.board_folder,
    "SPEEDKIT_TURNS": variables.queue_folder,
}
NOT_OURS = {
    "OMP_WAIT_POLICY",
    "GOMP_SPINCOUNT",
    "ONEDNN_MAX_CPU_ISA",
    "KINETO_LOG_LEVEL",
    "CUDA_VISIBLE_DEVICES",
}  # torch's libraries', torchrun's


def test_nothing_else_in_the_package_reads_a_variable_of_ours():
    for path in PACKAGE.rglob("*.py"):
        if path.name not in ("settings.py", "variables.py", "limits.py"):  # limits: those that other programs set
            for line in path.read_text(encoding="utf-8").splitlines():
                if re.search(r"\benviron\b|\bgetenv\b", line):
                    assert {name for name in NOT_OURS if name in line}, f"{path.name}: {line}"
                    assert "SPEEDKIT" not in line, path


def test_every_variable_that_a_text_names_is_one_that_is_read():
    read = set()
    for module in (settings, variables):
        read |= set(re.findall(r"SPEEDKIT_[A-Z]+", Path(module.__file__).read_text(encoding="utf-8")))
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
    assert variables.board_folder() is None
    assert variables.board_folder(tmp_path / "board") == tmp_path / "board"
    assert variables.queue_folder().name == "speedkit-turns"
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
    assert variables.queue_folder().name == "speedkit-turns"


@pytest.mark.parametrize("value", ["0", "false", "False", "no", "off", "OFF"])
def test_no_is_understood(monkeypatch, value):
    monkeypatch.setenv("SPEEDKIT_SMOKE", value)
    assert not settings.smoke()
    monkeypatch.setenv("SPEEDKIT_TURNS", value)
    assert variables.queue_folder() is None


def test_nothing_is_no(monkeypatch):
    for set_or_not in (lambda: monkeypatch.setenv("SPEEDKIT_SMOKE", ""), lambda: monkeypatch.delenv("SPEEDKIT_SMOKE")):
        set_or_not()
        assert not settings.smoke()


@pytest.mark.parametrize("value", ["2", "maybe", "-", "y es"])
def test_anything_else_is_refused_in_one_sentence(monkeypatch, value):
    monkeypatch.setenv("SPEEDKIT_SMOKE", value)
    with pytest.raises(ValueError, match=rf"^SPEEDKIT_SMOKE='{value}' is not allowed: give 1 \| true \| .* \| off\.$"):
        settings.smoke()


# Paths are expanded, nonsense is refused, and the check says so


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("value", ["~/mine", "$PLACE/mine", "${PLACE}/mine", "  ~/mine "])
def test_a_folder_is_expanded_and_absolute(monkeypatch, tmp_path, name, value):
    for home in ("HOME", "USERPROFILE", "PLACE"):
        monkeypatch.setenv(home, str(tmp_path.resolve()))
    monkeypatch.setenv(name, value)
    assert FOLDERS[name]() == tmp_path.resolve() / "mine"


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("value", ["~nobody-like-this/mine", "$NOT_SET_HERE/mine", "${NOT_SET_HERE}"])
def test_a_folder_of_somebody_or_something_unknown_is_refused(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=rf"^{name}='.*' is not allowed: it names a user or a variable that"):
        FOLDERS[name]()
    assert [sentence for sentence in variables.refused() if sentence.startswith(name)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SPEEDKIT_SMOKE", "maybe"),
        ("SPEEDKIT_SMOK", "1"),
        ("SPEEDKIT_LANGUAGE", "klingon"),
        ("SPEEDKIT_RUNS", "$NO_SUCH"),
    ],
)
def test_the_check_says_what_is_not_understood_and_ends(monkeypatch, name, value):
    assert list(variables.refused()) == []
    monkeypatch.setenv(name, value)
    (sentence,) = variables.refused()
    assert name in sentence
    *_, last = check.check()
    assert (last.state, last.what, last.sentence) == (check.FIX, "variables", sentence)


@pytest.mark.parametrize("value", ["", "1", "8"])
def test_torchruns_processes(monkeypatch, value):
    monkeypatch.setenv("WORLD_SIZE", value)
    assert variables.processes() == int(value or 1)


def test_a_number_of_processes_that_is_none_is_refused(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "many")
    assert __main__.main(["--epochs", "1"]) == 1
    assert capsys.readouterr().err == "speedkit: WORLD_SIZE='many' is not allowed: give a whole number, or unset it.\n"


@pytest.mark.parametrize(
    ("where", "arguments"),
    [
        (".", ["notebooks"]),
        (".", ["notebooks/probe.ipynb"]),
        ("notebooks", []),
        ("notebooks", ["probe.ipynb"]),
        ("/", ["ROOT/notebooks/probe.ipynb"]),
        ("/", ["ROOT/notebooks", "--rootdir", "/tmp"]),
    ],
)
def test_notebooks_are_short_and_offline_whatever_path_pytest_is_given(tmp_path, where, arguments):
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(settings.REPOSITORY / name, tmp_path)
    (tmp_path / "tests").mkdir()
    shutil.copytree(settings.REPOSITORY / "tests" / "offline", tmp_path / "tests" / "offline")
    (tmp_path / "notebooks").mkdir()
    code = "import os\nassert os.environ['SPEEDKIT_SMOKE'] == '1'\nassert 'offline' in os.environ['PYTHONPATH']"
    code += "\nimport sitecustomize\nassert 'offline' in sitecustomize.__file__"
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, tmp_path / "notebooks" / "probe.ipynb")
    environment = {name: value for name, value in os.environ.items() if name not in ("SPEEDKIT_SMOKE", "PYTHONPATH")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += [argument.replace("ROOT", str(tmp_path)) for argument in arguments]
    done = subprocess.run(
        command, cwd=tmp_path / where, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
