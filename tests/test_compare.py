"""A comparison as a cell's last line: table, judged claims and figure, in a real IPython shell and in a real kernel."""

import math
import subprocess
import sys

import numpy as np
import pytest
from frontends import notebook_of
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from nbclient import NotebookClient
from traitlets.config import Config

import speedkit as sk
from speedkit.comparison.metrics import CLAIMS
from speedkit.comparison.result import ARMS, Comparison, RunResult
from speedkit.lab import comparison_figure
from speedkit.lab.compare import compare
from speedkit.lab.display import register
from speedkit.recipe import Recipe

HTML, PNG, TEXT = "text/html", "image/png", "text/plain"


def half(pairs=5):
    """A finished comparison of caching whose runs take half the time."""
    comparison = Comparison(Recipe(), Recipe(cache="ram"), claims=CLAIMS["cache"], status="finished")
    for pair, off in enumerate(np.linspace(-0.01, 0.01, pairs)):
        for arm, seconds in zip(ARMS, (2.0, math.exp(off)), strict=True):
            comparison.measured.append(RunResult(pair, arm, pair, {"seconds": seconds, "step_s": seconds / 100}))
    return comparison


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """A real IPython shell, as a kernel has one; it knows ``sk`` and ``half``."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("SPEEDKIT_RUNS", str(tmp_path / "runs"))
    shell = InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
    shell.push({"sk": sk, "half": half})
    register(shell)
    yield shell
    InteractiveShell.clear_instance()


def shown(shell, cell):
    """The outputs of a cell: a dict from kind to content for each."""
    with capture_output() as captured:
        result = shell.run_cell(cell)
    result.raise_error()
    return [output.data for output in captured.outputs], captured.stdout + captured.stderr


@pytest.mark.parametrize("cell", ["half()", "sk.save_result(half())", "__import__('IPython').display.display(half())"])
def test_it_shows_the_table_with_the_judged_claims_and_then_the_figure(shell, cell):
    (table, figure), printed = shown(shell, cell)
    assert "<table>" in table[HTML]
    assert "held here" in table[HTML]
    assert CLAIMS["cache"][0].sentence in table[HTML]
    assert table[TEXT] == repr(half())
    assert figure[PNG].startswith(b"\x89PNG")
    assert figure[TEXT] == "The effect in each pair: baseline → ram cache"
    assert printed.strip() in ("", "Out[0]:")  # nothing is shown twice


def test_a_figure_that_cannot_be_drawn_does_not_hide_the_table(shell, monkeypatch):
    def fails(comparison):
        raise MemoryError("<made up>")

    monkeypatch.setattr(comparison_figure, "figure", fails)
    (table, sentence), printed = shown(shell, "half()")
    assert "held here" in table[HTML]
    assert sentence == {TEXT: "The figure of the pairs could not be drawn (MemoryError: <made up>)."}
    assert printed.strip() == "Out[0]:"


def test_without_a_single_pair_it_shows_itself_too(shell):
    (table, figure), __ = shown(shell, "half(pairs=0)")
    assert "0 of 5 pairs" in table[HTML]
    assert figure[PNG].startswith(b"\x89PNG")


def test_a_comparison_that_was_saved_is_shown_whole_without_comparing_again(tmp_path):
    """In a new shell that has asked for nothing but what was saved."""
    half().save(tmp_path / "comparisons" / "cache.json")
    code = f"""
import os
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
os.environ |= {{"SPEEDKIT_RUNS": {str(tmp_path)!r}, "IPYTHONDIR": {str(tmp_path / "ipython")!r}}}
shell = InteractiveShell.instance()
with capture_output() as captured:
    shell.run_cell("import speedkit as sk\\nsk.saved_comparisons().comparisons['cache']").raise_error()
print([sorted(output.data) for output in captured.outputs])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == f"[{[HTML, TEXT]}, {[PNG, TEXT]}]\n", done.stdout + done.stderr


def test_in_plain_python_it_is_text():
    code = """
import speedkit as sk
from speedkit.lab.display import register
register()
print(repr(sk.Comparison(sk.Recipe(), sk.Recipe(cache="ram"))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert "cache off → ram: 0 of 5 pairs, new" in done.stdout
    assert done.stderr == ""


def test_the_bar_names_the_run_that_is_being_made(capsys):
    """It used to name the one that had ended."""
    seen = []

    def train(recipe, run):
        with run.recording():
            yield run.step(step_s=0.1)
            seen.append(capsys.readouterr().out.split("\r")[-1].split(":")[0])
            yield run.step(step_s=0.1)

    compare(Recipe(), Recipe(cache="ram"), 1, train=train)
    assert seen[:2] == ["warm-up, baseline", "warm-up, variant"]
    assert sorted(seen[2:]) == ["pair 1 of 1, baseline", "pair 1 of 1, variant"]


def test_in_a_kernel_the_comparison_and_what_saves_it_show_the_same(generated, tmp_path):
    recipe = 'sk.Recipe(subset=128, batch_size=32, device="cpu")'
    made = notebook_of(
        f"import os\nimport speedkit as sk\nos.environ['SPEEDKIT_SMOKE'] = '1'\nrecipe = {recipe}",
        'result = sk.compare(recipe, recipe.but(cache="ram"), 1, claims=sk.CLAIMS["cache"])',
        "result",
        "sk.save_result(result)",
    )
    NotebookClient(made, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    *__, whole, saved = made.cells
    for cell in (whole, saved):
        assert [sorted(output.data) for output in cell.outputs] == [[HTML, TEXT], [PNG, TEXT]]
        assert "cache off → ram: 1 of 1 pairs, finished" in cell.outputs[0].data[TEXT]
