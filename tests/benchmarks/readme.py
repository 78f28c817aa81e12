"""The README's table, made of the kept results: ``python -m tests.benchmarks.readme`` writes it there.

A test compares the two, so that the README cannot fall behind.
"""

import json
from pathlib import Path

from tests.benchmarks import RESULTS, central

README = Path(__file__).resolve().parents[2] / "README.md"
BEGIN, END = "<!-- made by tests/benchmarks/readme.py: begin -->", "<!-- end -->"
HAND, USUAL = "the same by hand", "torchvision's loader, crop and flip"
# (benchmark, its figure, what, against). Against "", a time or a size; else a ratio of times: "as long" or "faster".
LONG, FAST, LESS = "× {} as long", "{} times faster", "{} times less"
ROWS = (
    ("step_cost", "train / by hand, a step", "a step of `train`, recorded and timed", HAND, LONG),
    ("step_cost", "added to a step, seconds", "what that adds to a step, added up", "", ""),
    ("panel_cost", "panel / by hand, 200 steps", "training under the panel, 200 steps", HAND, LONG),
    ("panel_cost", "panel / by hand, 5000 steps", "the same, 5,000 steps", HAND, LONG),
    (
        "watching",
        "panel in the browser / by hand, 200 steps",
        "the same with the browser on the same two cores, 200 steps",
        f"{HAND}, no browser",
        LONG,
    ),
    (
        "watching",
        "panel in the browser / by hand, 20000 steps",
        "the same with the browser, 20,000 steps",
        f"{HAND}, no browser",
        LONG,
    ),
    ("watching", "Run / first step", "from *Run* to the first step on the chart", "", ""),
    ("watching", "Stop / stopped", "from *Stop* to stopped", "", ""),
    ("watching", "opening / panel", "from opening a notebook to its panel standing", "", ""),
    (
        "loading",
        "torchvision crop and flip / cache on the device",
        'images by `cache="device"`, crop and flip',
        USUAL,
        FAST,
    ),
    ("loading", "crop by masks, whole set / cache on the device", "the same", "crop by masks, whole set", FAST),
    ("loading", "PNG decoded at every access / cache in RAM", 'images by `cache="ram"`', "PNG files, decoded", FAST),
    (
        "loading",
        "colour JPEG 224 with crop / the same from a cache in RAM",
        "the same, 224 x 224 in colour, crop and flip",
        "JPEG files, decoded",
        FAST,
    ),
    (
        "ninety",
        "newcomer's loop / the last recipe, to 90 %",
        "lesson 7's last recipe, to 90 % on test images",
        "a newcomer's loop",
        FAST,
    ),
    (
        "ninety",
        "the same recipe over torchvision's loader / the last recipe, to 90 %",
        "the same",
        "its own recipe over torchvision's loader",
        FAST,
    ),
    ("ninety", "fast.ai's fit_one_cycle / the last recipe, to 90 %", "the same", "fast.ai's `fit_one_cycle`", FAST),
    ("ninety", "Lightning's Trainer / the last recipe, to 90 %", "the same", "Lightning's `Trainer`, same steps", FAST),
    (
        "step_overhead",
        "added to a step, fastai / kit",
        "what the loop adds to a step",
        "what fast.ai's adds",
        LESS,
    ),
    ("step_overhead", "added to a step, lightning / kit", "the same", "what Lightning's adds", LESS),
    (
        "footprint",
        "import speedkit / import torch and ipywidgets",
        "`import speedkit`",
        "`import torch, ipywidgets`",
        LONG,
    ),
    (
        "footprint",
        "record of 100,000 steps, with its chart",
        "memory of a record of 100,000 steps and its chart",
        "",
        "",
    ),
    ("watching", "all notebooks under nbmake", "all notebooks under nbmake, cut short", "", ""),
)


def rows(kind: str = "cpu") -> list[tuple[str, str, str, str]]:
    """(what, against, median, interval) of each figure that has been kept for this kind of device."""
    found = []
    for benchmark, name, what, against, words in ROWS:
        path = RESULTS / f"{benchmark}-{kind}.json"
        figure = json.loads(path.read_text())["figures"].get(name) if path.exists() else None
        if figure is None:
            continue
        value, text = central(figure, _ratio)
        between = " to ".join(map(text, figure["interval"]))
        found.append((what, against, (words or "{}").format(text(value)), between))
    return found


def _ratio(value):
    return f"{value:.3f}" if value < 1.2 else f"{value:.3g}"


def table() -> str:
    """The table as Markdown, and the line on the hardware below it."""
    lines = ["| what | against | median | 95 % interval |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in rows()]
    machines = {
        "{name}, {cores} cores, torch {torch}".format(**json.loads(path.read_text())["machine"])
        for path in RESULTS.glob("*-cpu.json")
    }
    return "\n".join([*lines, "", f"Measured on: {'; '.join(sorted(machines))}."])


def written(text: str) -> str:
    """A README's text with the table in its place."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    README.write_text(written(README.read_text(encoding="utf-8")), encoding="utf-8")
