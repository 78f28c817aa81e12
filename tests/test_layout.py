"""The house rules: who may import whom, how long a technique may be, and what lies where."""

import ast
import json
import os
import re
import shutil
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
FLOORS = {  # imports point downwards, from a higher number to a lower one or to the same; classroom and lessons: not
    "support": 0,
    "techniques": 0,
    "locale": 0,
    "tasks": 1,
    "recipe": 1,
    "hardware": 1,
    "gpu": 1,
    "events": 1,
    "loading": 2,
    "meter": 2,
    "run": 2,
    "run_file": 2,
    "run_words": 2,
    "train": 3,
    "counted": 3,
    "comparison": 4,
    "lab": 5,
    "classroom": 6,
    "lessons": 6,
    "__main__": 7,
    "__init__": 7,
}
SCHOOL = {"lab", "classroom", "lessons", "locale"}  # what training and comparing can do without
BY_NAME = {"__init__", "__main__"}  # they reach the school only when it is asked for
LONGEST_CHAIN = 9  # modules that import each other, one below the other
PAGE, TECHNIQUE, WALL = 65, 85, 2500  # lines at most: train(), a technique, all that the training loop imports
TOP_LEVEL = {"README.md", "requirements.txt", "notebooks", "speedkit", "data", "tests", "pyproject.toml", "LICENSE"}
TOP_LEVEL |= {"conftest.py"}  # pytest's: only there it is read whatever path is given
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


def at_once(path):
    """The modules of ours that a file imports when it is loaded, as files."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        for name in imports(ast.unparse(node), ".".join(["speedkit", *path.relative_to(PACKAGE).parts[:-1]])):
            parts = name.split(".")[1:] if name.split(".")[0] == "speedkit" else []
            for end in range(len(parts), 0, -1):
                place = PACKAGE.joinpath(*parts[:end])
                found = place.with_suffix(".py") if place.with_suffix(".py").is_file() else place / "__init__.py"
                if found.is_file():
                    yield found
                    break


def below(path):
    """Everything of ours that is loaded with a file, itself included."""
    found, todo = set(), [path]
    while todo:
        if (each := todo.pop()) not in found:
            found.add(each)
            todo += at_once(each)
    return found


def lines(path):
    return len(path.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path):
    own = part(path)
    assert own in FLOORS, f"{path.name} has no floor: give it one here"
    for other in ours(path) - {own}:
        if own in BY_NAME and other in SCHOOL:
            continue  # see below
        assert FLOORS[other] <= FLOORS[own], f"{own} imports {other}"
        assert {own, other} != {"classroom", "lessons"}, "they stand side by side"


def test_modules_import_each_other_in_no_circle_and_in_short_chains():
    graph = {path: set(at_once(path)) - {path} for path in MODULES}
    depth = 0
    while graph:
        free = {path for path, others in graph.items() if not others & graph.keys()}
        assert free, f"a circle among {sorted(str(path.relative_to(PACKAGE)) for path in graph)}"
        graph = {path: others for path, others in graph.items() if path not in free}
        depth += 1
    assert depth <= LONGEST_CHAIN


# Thin: the page, the wall, the deletion test, the cell


def test_the_page_the_training_loop_fits_on_one():
    tree = ast.parse((PACKAGE / "train.py").read_text(encoding="utf-8"))
    (loop,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "train"]
    assert loop.end_lineno - loop.lineno + 1 <= PAGE


@pytest.mark.parametrize("path", sorted((PACKAGE / "techniques").glob("*.py")), ids=lambda path: path.stem)
def test_a_technique_imports_nothing_of_ours_and_is_short(path):
    assert not ours(path)
    assert lines(path) <= TECHNIQUE


def test_the_wall_what_the_training_loop_stands_on_is_small_and_knows_nothing_of_the_school():
    found = below(PACKAGE / "train.py") - {PACKAGE / "__init__.py"}
    assert not {part(path) for path in found} & SCHOOL
    assert sum(map(lines, found)) <= WALL, sorted((lines(path), str(path.relative_to(PACKAGE))) for path in found)


@pytest.mark.parametrize("path", [p for p in MODULES if part(p) not in SCHOOL], ids=lambda path: path.stem)
def test_below_the_lab_nothing_imports_it_or_what_only_notebooks_need(path):
    names = set(imports(path.read_text(encoding="utf-8")))
    assert not {name.split(".")[0] for name in names} & NOTEBOOK_ONLY
    if part(path) not in BY_NAME:
        assert not ours(path) & SCHOOL


def test_the_package_reaches_the_school_only_when_it_is_asked_for():
    for name in BY_NAME:
        assert not {part(path) for path in at_once(PACKAGE / f"{name}.py")} & SCHOOL


def test_the_deletion_test_without_the_school_it_trains_compares_and_answers_in_a_terminal(tmp_path):
    """Really run: a copy in which the four folders are gone."""
    shutil.copytree(PACKAGE, tmp_path / "speedkit", ignore=shutil.ignore_patterns("__pycache__", *SCHOOL))
    assert not [name for name in SCHOOL if (tmp_path / "speedkit" / name).exists()]
    settings = {"PYTHONPATH": str(tmp_path), "SPEEDKIT_DATA": str(ROOT / "data"), "SPEEDKIT_SMOKE": "1"}
    settings |= {"SPEEDKIT_GENERATED": str(tmp_path / "generated"), "SPEEDKIT_RUNS": str(tmp_path / "runs")}
    code = """
import pathlib, speedkit as sk
from speedkit.comparison.runs import comparing
assert pathlib.Path(sk.__file__).parent.parent == pathlib.Path.cwd(), sk.__file__
recipe = sk.Recipe(subset=64, batch_size=16, device="cpu")
print(sk.fit(recipe).status)
*_, comparison = comparing(recipe, recipe.but(cache="ram"), pairs=1, claims=sk.CLAIMS["cache"])
print(comparison.status, len(comparison.rows))
"""
    done = in_a_new_process(code, cwd=tmp_path, **settings)
    assert done.stdout.split() == ["finished", "finished", "9"], done.stderr
    command = [sys.executable, "-m", "speedkit", "--subset", "64", "--batch-size", "16", "--device", "cpu"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, timeout=120, env=os.environ | settings, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "runs").glob("*.json"))) == 1


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("0[1-9]*.ipynb")), ids=lambda path: path.stem)
def test_the_cell_a_lesson_imports_the_kit_and_itself(path):
    """What it needs of torch, torchvision and Python itself apart."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    lesson = path.stem.partition("_")[2]
    found = {
        name for name in imports(code) if name.split(".")[0] not in {"torch", "torchvision", *sys.stdlib_module_names}
    }
    assert found == {"speedkit", f"speedkit.lessons.{lesson}.lesson"}
    assert f"import speedkit as sk\nfrom speedkit.lessons.{lesson} import lesson\n" in code


def in_a_new_process(code, cwd=ROOT, **environment):
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120, env=os.environ | environment)


def test_at_run_time_nothing_of_the_notebook_is_loaded():
    """Also after a run and a comparison were loaded, and the terminal's command was."""
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in MODULES if part(path) not in SCHOOL]
    code = f"""
import sys, speedkit, importlib
for name in {[name for name in names if not name.endswith("__main__")]}:
    importlib.import_module(name.removesuffix(".__init__"))
speedkit.Run(speedkit.Recipe())._repr_html_()
found = {NOTEBOOK_ONLY} & set(sys.modules)
found |= {{name for name in sys.modules if name.startswith("speedkit.") and name.split(".")[1] in {SCHOOL}}}
print(sorted(found))
"""
    done = in_a_new_process(code)
    assert done.stdout.strip() == "[]", done.stderr
    assert done.returncode == 0


def test_everything_that_a_learner_types_is_offered_and_there():
    code = """
import speedkit as sk
missing = [name for name in sk.__all__ if not hasattr(sk, name) or name not in dir(sk)]
undocumented = [name for name in sk.__all__ if callable(getattr(sk, name)) and not getattr(sk, name).__doc__]
print(missing, undocumented, callable(sk.compare))
"""
    done = in_a_new_process(code)
    assert done.stdout.split() == ["[]", "[]", "True"], done.stderr


def test_importing_the_package_does_not_load_torchvision():
    """It takes about as long to load as torch, and only some recipes need it."""
    done = in_a_new_process("import sys, speedkit, speedkit.tasks.images; print('torchvision' in sys.modules)")
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


def test_an_installed_package_declares_what_the_requirements_name():
    """``python -m speedkit check`` reads it there, wherever the package was installed."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert sorted(project["dependencies"]) == sorted(line for line in lines if not line.startswith(("#", "-")))


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
