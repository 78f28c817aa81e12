"""Runs each lesson in full, several times: its seconds, its verdicts, and what its "Make it lose" cells show.

``python -m tests.benchmarks.lessons [TIMES [NAME ...]]``, for example ``3 06_caching``. Without arguments, all lessons
run three times, which takes about half an hour on two cores. Run nothing else meanwhile.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from tests.benchmarks import keep, result

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
COLLECT = """
import json as _json
from speedkit import Comparison as _Comparison

print(_json.dumps({
    _name: {
        "baseline": _value.baseline.label,
        "variant": _value.variant.label,
        "rows": {_row.metric: [*_row.texts(), _row.verdict] for _row in _value.rows},
        "claims": [str(_judged) for _judged in _value.judgements],
    }
    for _name, _value in list(globals().items())
    if isinstance(_value, _Comparison) and not _name.startswith("_")
}))
"""


def whole(path: Path) -> dict:
    """Runs one notebook in its own kernel, at full length; passes on the error of a failing cell."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(COLLECT))
    client = NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(NOTEBOOKS)}})
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as runs:  # so that a learner's own predictions and comparisons stay untouched
        client.execute(env=os.environ | {"SPEEDKIT_SMOKE": "0", "SPEEDKIT_RUNS": runs})
    seconds = time.perf_counter() - start
    collected = "".join(output["text"] for output in notebook.cells.pop().outputs if output["output_type"] == "stream")
    found = {"seconds": seconds, "comparisons": json.loads(collected), "loses": losing(notebook)}
    return found | ({"tables": tables} if (tables := verdicts(notebook)) else {})


def verdicts(notebook) -> list[str]:
    """The text of the tables in which several techniques are judged at once."""
    shown = [
        output.get("data", {}).get("text/plain", "") for cell in notebook.cells for output in cell.get("outputs", ())
    ]
    return [text for text in shown if text.startswith("technique") and "judged by" in text]


def losing(notebook) -> list[str]:
    """The text output of the cells under the "Make it lose" headings."""
    found, inside = [], False
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            headings = [line for line in cell.source.splitlines() if line.startswith("## ")]
            inside = "lose" in headings[-1].lower() if headings else inside
        elif inside:
            shown = [output["data"].get("text/plain", "") for output in cell.outputs if "data" in output]
            found += [text for text in shown if "\n" in text]
    return found


def main():
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    names = sys.argv[2:] or [path.stem for path in sorted(NOTEBOOKS.glob("0[1-9]*.ipynb"))]
    earlier = result("lessons")
    figures = json.loads(earlier.read_text())["figures"] if sys.argv[2:] and earlier.exists() else {}
    for name in names:
        figures[name] = []
        for number in range(times):
            figures[name].append(run := whole(NOTEBOOKS / f"{name}.ipynb"))
            print(f"{name}, {number + 1} of {times}: {run['seconds']:.0f} s", flush=True)
            for comparison, found in run["comparisons"].items():
                print("\n".join(f"  {comparison}: {claim}" for claim in found["claims"]), flush=True)
        path = keep("lessons", figures)
    print(path)


if __name__ == "__main__":
    main()
