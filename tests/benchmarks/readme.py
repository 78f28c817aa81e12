"""``python -m tests.benchmarks.readme`` writes the README's tables from the saved results.

A test compares the two, so that the README stays up to date.
"""

import json
from pathlib import Path

from tests.benchmarks import RESULTS, central, null

README = Path(__file__).resolve().parents[2] / "README.md"
BEGIN, END = "<!-- made by tests/benchmarks/readme.py: begin -->", "<!-- end -->"
BEGIN_NULL = "<!-- made by tests/benchmarks/readme.py from null.py's results: begin -->"
HAND, USUAL = "a hand-written loop", "torchvision's loader, crop and flip"
# (benchmark, its figure, what, compared with, wording). Compared with "": a time or a size; otherwise a ratio.
LONG, FAST, LESS = "{} times as long", "{} times faster", "{} times less"
ROWS = (
    ("step_cost", "train / by hand, a step", "one step of `train`, recorded and timed", HAND, LONG),
    ("step_cost", "added to a step, seconds", "what `train` adds to a step, measured without a network", "", ""),
    ("panel_cost", "panel / by hand, 200 steps", "200 steps under the panel", HAND, LONG),
    ("panel_cost", "panel / by hand, 5000 steps", "5,000 steps under the panel", HAND, LONG),
    (
        "watching",
        "panel in the browser / by hand, 200 steps",
        "200 steps under the panel, with a browser on the same two cores",
        f"{HAND}, no browser",
        LONG,
    ),
    (
        "watching",
        "panel in the browser / by hand, 20000 steps",
        "20,000 steps under the panel, with a browser on the same two cores",
        f"{HAND}, no browser",
        LONG,
    ),
    ("watching", "Run / first step", "from *Run* until the first step is on the chart", "", ""),
    ("watching", "Stop / stopped", "from *Stop* until the run has stopped", "", ""),
    ("watching", "opening / panel", "from opening a notebook until its panel shows", "", ""),
    (
        "loading",
        "torchvision crop and flip / cache on the device",
        'images from `cache="device"`, crop and flip',
        USUAL,
        FAST,
    ),
    ("loading", "crop by masks, whole set / cache on the device", "the same", "cropping by masks, whole dataset", FAST),
    (
        "loading",
        "PNG decoded at every access / cache in RAM",
        'images from `cache="ram"`',
        "PNG files, decoded at every access",
        FAST,
    ),
    (
        "loading",
        "colour JPEG 224 with crop / the same from a cache in RAM",
        "the same, 224 × 224 in colour, crop and flip",
        "JPEG files, decoded at every access",
        FAST,
    ),
    (
        "teams",
        "windows sliced one at a time / cache on the device",
        'windows of text from `cache="device"`, each from a random place',
        "a `Dataset` that slices, in a `DataLoader`",
        FAST,
    ),
    (
        "teams",
        "a query a sample / cache on the device",
        'samples of ratings from `cache="device"`',
        "one query a sample, with an index",
        FAST,
    ),
    ("teams", "train / by hand, a step of text", "one step of `train` on text", HAND, LONG),
    ("teams", "train / by hand, a step of ratings", "one step of `train` on ratings", HAND, LONG),
    (
        "teams",
        "plain loop / the kit's recipe, to the same accuracy",
        "the kit's text recipe, to 38 % of next bytes",
        "the same network in a plain loop with nanoGPT's settings for a CPU",
        FAST,
    ),
    (
        "ninety",
        "newcomer's loop / the last recipe, to 90 %",
        "lesson 7's last recipe, to 90 % test accuracy",
        "a newcomer's loop",
        FAST,
    ),
    (
        "ninety",
        "the same recipe over torchvision's loader / the last recipe, to 90 %",
        "the same",
        "that recipe with torchvision's loader",
        FAST,
    ),
    ("ninety", "fast.ai's fit_one_cycle / the last recipe, to 90 %", "the same", "fast.ai's `fit_one_cycle`", FAST),
    ("ninety", "Lightning's Trainer / the last recipe, to 90 %", "the same", "Lightning's `Trainer`, same steps", FAST),
    (
        "step_overhead",
        "added to a step, fastai / kit",
        "what the kit's loop adds to a step",
        "what fast.ai's loop adds",
        LESS,
    ),
    ("step_overhead", "added to a step, lightning / kit", "the same", "what Lightning's loop adds", LESS),
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
        "memory for the record of 100,000 steps and its chart",
        "",
        "",
    ),
    ("watching", "all notebooks under nbmake", "all notebooks under nbmake, shortened (`SPEEDKIT_SMOKE=1`)", "", ""),
)


def rows(kind: str = "cpu") -> list[tuple[str, str, str, str]]:
    """(what, compared with, median, interval) of each figure saved for this kind of device."""
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
    """The table as Markdown, followed by a line on the hardware."""
    lines = ["| what | compared with | median | 95 % interval |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in rows()]
    machines = {
        "{name}, {cores} cores, torch {torch}".format(**json.loads(path.read_text())["machine"])
        for path in RESULTS.glob("*-cpu.json")
    }
    return "\n".join([*lines, "", f"Measured on: {'; '.join(sorted(machines))}."])


def error_rates(kind: str = "cpu") -> str:
    """How often verdicts are wrong, as Markdown; "" if it was not measured."""
    path = RESULTS / f"null-{kind}.json"
    if not path.exists():
        return ""
    kept = json.loads(path.read_text())
    machine = "{name}, {cores} cores, torch {torch}".format(**kept["machine"])
    return f"{null.table(kept['figures']['summary'])}\n\nMeasured on: {machine}."


def written(text: str) -> str:
    """The README's text with the new tables in place of the old ones."""
    for begin, new in ((BEGIN_NULL, error_rates()), (BEGIN, table())):
        before, __, rest = text.partition(begin)
        __, __, after = rest.partition(END)
        text = f"{before}{begin}\n{new}\n{END}{after}"
    return text


if __name__ == "__main__":
    README.write_text(written(README.read_text(encoding="utf-8")), encoding="utf-8")
