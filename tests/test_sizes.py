"""Every recipe of every lesson on machines that are not here: none may be refused."""

import ast
import json
from pathlib import Path

import pytest

import speedkit as sk
from speedkit.lessons import sizes
from speedkit.recipe import Recipe
from speedkit.support.errors import CannotRun
from tests.fake_gpu import H100, LAPTOP, T4, install

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("0*.ipynb"))
MACHINES = {
    "a T4 with 2 cores": ([T4], 2),
    "a laptop without a GPU": ([], 2),
    "a laptop with a GPU": ([LAPTOP], 8),
    "an H100 with 64 cores": ([H100], 64),
    "a node with 104 cores": ([H100], 104),
    "one core": ([], 1),
}
RUNS = {"run", "compare", "trials", "but", "fit", "train", "sweep", "ladder", "operators", "comparing"}


def cells(path):
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and "..." not in source:
            yield ast.parse(source)


def is_harmless(node):
    """Whether an assignment only makes recipes and values for them: nothing is trained, shown or saved."""
    calls = [ast.unparse(call.func) for call in ast.walk(node) if isinstance(call, ast.Call)]
    made = ("sk.Recipe", "lesson.task", "sk.machine", "min", "max", "sizes.of", "lesson.sizes.of", "lesson.options")
    return all(call in made or call.endswith(".but") for call in calls)


def recipes(path):
    """All recipes that a notebook makes before anything is measured, and those that its runs would be given."""
    space, found = {"sk": sk}, []
    for tree in cells(path):
        for node in tree.body:
            imports = isinstance(node, ast.Import | ast.ImportFrom)
            assigns = isinstance(node, ast.Assign | ast.AugAssign) and is_harmless(node)
            if imports or assigns:
                try:
                    exec(compile(ast.Module([node], []), str(path), "exec"), space)
                except NameError:
                    continue  # made of something that was measured
            found += given(node, space)
            found += [value for value in space.values() if isinstance(value, Recipe)]
    return found


def given(node, space):
    """The recipes among the arguments of calls that train."""
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and ast.unparse(call.func).split(".")[-1] in RUNS:
            try:
                if ast.unparse(call.func).endswith(".run"):
                    changes = {word.arg: evaluated(word.value, space) for word in call.keywords}
                    yield Recipe().but(**changes)
                for argument in call.args:
                    if isinstance(argument, ast.Starred):
                        continue
                    value = evaluated(argument, space)
                    yield from [value] if isinstance(value, Recipe) else []
            except (NameError, AttributeError):
                continue


def evaluated(node, space):
    return eval(compile(ast.Expression(node), "a cell", "eval"), space)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.parametrize("machine", MACHINES)
def test_no_recipe_of_a_lesson_is_refused(monkeypatch, path, machine):
    cards, cores = MACHINES[machine]
    install(monkeypatch, *cards, seen=bool(cards), cores=cores)
    monkeypatch.setattr(sk, "machine", sk.hardware.machine)
    found = recipes(path)
    assert len(found) >= 2, "no recipe was found: the test looks at the wrong cells"
    for recipe in found:
        sk.hardware.machine(recipe.device).check(recipe)


def test_the_test_would_see_a_recipe_that_is_refused(monkeypatch, tmp_path):
    install(monkeypatch, seen=False, cores=2)
    monkeypatch.setattr(sk, "machine", sk.hardware.machine)
    cells = ["recipe = sk.Recipe(data='jpeg')", "panel.run(workers=4 * sk.machine().cores + 1)"]
    path = tmp_path / "x.ipynb"
    path.write_text(json.dumps({"cells": [{"cell_type": "code", "source": [cell]} for cell in cells]}))
    with pytest.raises(CannotRun, match="workers=9"):
        list(map(sk.hardware.machine().check, recipes(path)))


@pytest.mark.parametrize(("cards", "half"), [([T4], "fp16"), ([H100], "bf16"), ([], "bf16")])
def test_the_lesson_on_precision_trains_in_what_the_hardware_has(monkeypatch, cards, half):
    install(monkeypatch, *cards, seen=bool(cards))
    monkeypatch.setattr(sk, "machine", sk.hardware.machine)
    (path,) = [path for path in NOTEBOOKS if "precision" in path.stem]
    assert {recipe.precision for recipe in recipes(path)} == {"fp32", half}


@pytest.mark.parametrize("lesson", sizes.SIZES)
def test_both_sizes_make_a_recipe(lesson):
    on_cpu, on_gpu = (Recipe(**sizes.of(lesson, kind)) for kind in ("cpu", "cuda"))
    assert on_cpu != on_gpu
