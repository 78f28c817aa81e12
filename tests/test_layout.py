"""The house rules: who may import whom, how long a technique may be, and what lies where."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from speedkit.recipe import SWITCHES

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "speedkit"
FLOORS = {
    "french": 0,
    "words": 0,
    "recipe": 1,
    "hardware": 1,
    "techniques": 1,
    "data": 2,
    "turns": 2,
    "model": 2,
    "meter": 2,
    "run": 2,
    "train": 3,
    "compare": 4,
    "check": 4,
    "__main__": 4,
    "__init__": 5,
    "lab": 6,
}
TOP_LEVEL = {"README.md", "requirements.txt", "notebooks", "speedkit", "data", "tests", "pyproject.toml", "LICENSE"}
NOTEBOOK_ONLY = {"ipywidgets", "IPython", "matplotlib"}
MODULES = sorted(PACKAGE.rglob("*.py"))


def part(path):
    """The part of the house that a file belongs to: "data", "techniques", "lab", ..."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(source, package="speedkit"):
    """Every module that a source imports, anywhere in it, also by import_module with a plain name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = ".".join(filter(None, [package if node.level else "", node.module]))
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and "import" in ast.unparse(node.func) and node.args:
            yield ast.unparse(node.args[0]).strip("f'\"")


def ours(path):
    """The parts of our own house that a file imports."""
    package = ".".join(["speedkit", *path.relative_to(PACKAGE).parts[:-1]])
    names = [name.split(".") for name in imports(path.read_text(encoding="utf-8"), package)]
    return {name[1] if len(name) > 1 and name[1] in FLOORS else "__init__" for name in names if name[0] == "speedkit"}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import speedkit.lab.panel", {"speedkit.lab.panel"}),
        ("def f():\n    from speedkit import lab", {"speedkit.lab"}),
        ("from .lab import x", {"speedkit.lab.x"}),
        ("from . import lab", {"speedkit.lab"}),
        ("importlib.import_module('speedkit.lab')", {"speedkit.lab"}),
        ("__import__('IPython')", {"IPython"}),
    ],
)
def test_no_way_of_importing_is_overlooked(source, found):
    assert set(imports(source)) == found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path):
    own = part(path)
    assert own in FLOORS, f"{path.name} has no floor: give it one in design and here"
    for other in ours(path) - {own}:
        if own == "__init__" and other == "lab":
            continue  # by name, when it is asked for; see below
        assert FLOORS[other] <= FLOORS[own], f"{own} imports {other}"


def test_the_parts_import_each_other_in_no_circle():
    graph = {name: set() for name in FLOORS}
    for path in MODULES:
        graph[part(path)] |= ours(path) - {part(path)}
    graph["__init__"].discard("lab")
    while graph:
        free = {name for name, others in graph.items() if not others & graph.keys()}
        assert free, f"a circle among {sorted(graph)}"
        graph = {name: others for name, others in graph.items() if name not in free}


@pytest.mark.parametrize("path", sorted((PACKAGE / "techniques").glob("*.py")), ids=lambda path: path.stem)
def test_a_technique_imports_nothing_of_ours_and_is_short(path):
    assert not ours(path)
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 85


@pytest.mark.parametrize("path", [p for p in MODULES if part(p) != "lab"], ids=lambda path: path.stem)
def test_below_the_lab_nothing_imports_it_or_what_only_notebooks_need(path):
    names = set(imports(path.read_text(encoding="utf-8")))
    assert not {name.split(".")[0] for name in names} & NOTEBOOK_ONLY
    if path.name != "__init__.py":
        assert "lab" not in ours(path)


def test_the_package_reaches_the_lab_only_when_it_is_asked_for():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    at_once = [node for node in tree.body if not isinstance(node, ast.FunctionDef)]
    assert not [name for node in at_once for name in imports(ast.unparse(node)) if "lab" in name.split(".")]


def in_a_new_process(code, **environment):
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, env=os.environ | environment)


def test_at_run_time_nothing_of_the_notebook_is_loaded():
    """Also after a run and a comparison were loaded, and the terminal's command was."""
    code = f"""
import sys, speedkit, speedkit.train
for name in {[p.stem for p in PACKAGE.glob("*.py") if not p.stem.startswith("__")]}:
    __import__(f"speedkit.{{name}}")
speedkit.Run(speedkit.Recipe())._repr_html_()
found = {NOTEBOOK_ONLY} & set(sys.modules) | {{name for name in sys.modules if name.startswith("speedkit.lab")}}
print(sorted(found))
"""
    done = in_a_new_process(code)
    assert done.stdout.strip() == "[]", done.stderr
    assert done.returncode == 0


def test_importing_the_package_does_not_load_torchvision():
    """It takes about as long to load as torch, and only some recipes need it."""
    done = in_a_new_process("import sys, speedkit, speedkit.data; print('torchvision' in sys.modules)")
    assert done.stdout.strip() == "False", done.stderr


def test_one_technique_is_one_file_one_test_and_one_switch():
    techniques = {path.stem for path in (PACKAGE / "techniques").glob("*.py")} - {"__init__"}
    names = {"augment": "augmentation", "cache": "caching"}
    assert techniques == {names.get(switch, switch) for switch in SWITCHES}
    for name in techniques:
        assert (ROOT / "tests" / f"test_{name}.py").exists()


def tracked():
    """The paths under version control; where this is no checkout, all that are there but for build leftovers."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0 and listed.stdout:
        return [Path(name) for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]
    leftovers = re.compile(r"(^|/)(__pycache__|[^/]*\.egg-info|build|dist|runs|generated)(/|$)")
    paths = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    return [path for path in paths if not leftovers.search(path.as_posix())]


def test_the_top_level_holds_only_what_it_should():
    found = {path.parts[0] for path in tracked()}
    assert {name for name in found if not name.startswith(".")} <= TOP_LEVEL
    assert found >= TOP_LEVEL


def test_repo2docker_installs_the_kit_where_its_images_are():
    """Without a folder of its own, it would install the package away from ``data`` and ``requirements.txt``."""
    lines = (ROOT / ".binder" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["-r ../requirements.txt"]
    python = (ROOT / ".binder" / "runtime.txt").read_text(encoding="utf-8").strip().removeprefix("python-")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert python in SpecifierSet(project["requires-python"])


def test_stored_notebooks_hold_no_outputs():
    for path in tracked():
        if path.suffix != ".ipynb":
            continue
        for cell in json.loads((ROOT / path).read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                assert cell["outputs"] == [], path
                assert cell["execution_count"] is None, path


def test_nothing_made_by_running_is_stored():
    for path in tracked():
        assert not {"generated", "__pycache__", ".ipynb_checkpoints"} & set(path.parts), path


def test_the_requirements_are_ranges_and_end_with_the_package():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert lines[-1] == "-e ."
    for name in ("requirements.txt", "tests/requirements.txt"):
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
            if not line.startswith(("#", "-")):
                assert re.match(r"[\w-]+(>=|==)", line), line


def test_deprecations_are_errors():
    options = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
    assert {"error::DeprecationWarning", "error::FutureWarning"} <= set(options["filterwarnings"])
    with pytest.raises(DeprecationWarning):
        use_something_old()


def use_something_old():
    warnings.warn("old", DeprecationWarning, stacklevel=1)


def test_the_timer_is_loaded_without_a_word_where_a_cuda_toolkit_lies_without_a_gpu(tmp_path):
    code = "import {}\nfrom torch.utils.benchmark import Timer"
    assert in_a_new_process(code.format("speedkit"), CUDA_HOME=str(tmp_path), CUDA_VISIBLE_DEVICES="").stderr == ""
    alone = in_a_new_process(code.format("torch"), CUDA_HOME=str(tmp_path), CUDA_VISIBLE_DEVICES="")
    assert "No CUDA runtime" in alone.stderr  # else the filter has nothing to do any more


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff_is_content(command):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "--no-cache", "."],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
