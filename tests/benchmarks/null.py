"""How often a verdict is wrong, measured: a recipe compared with itself, and with one whose steps take longer.

Each trial is a comparison of about five seconds, made in two designs: runs one after the other, and runs in turns, as
:mod:`speedkit.comparison.runs` does it now. Trials of both designs and of every true difference alternate in random
order, so that all see the same machine, under four conditions: quiet; bursts (a process takes a core on and off, 0.2
to 3 s each); kernel (a second process trains for a minute and rests for one); panel (a second kernel trains under a
panel that a browser shows). A step is made 10 % or 30 % longer by forward passes of the same network that nobody
asked for; a quick calibration finds how many.

``python -m tests.benchmarks.null [--minutes 60] [--conditions quiet,bursts,kernel,panel] [--raw null.jsonl]`` appends
each comparison to the raw file at once and goes on where an earlier call stopped; a hundred of each kind take about an
hour per condition. Every step's time is kept there, so that other estimators can be tried on the same data; the summary
does so for those that were considered. ``--summary`` only computes it anew. Run nothing else meanwhile.
"""

import argparse
import json
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict, deque
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

import speedkit as sk
from speedkit.comparison.metrics import HIGHER, LOWER, METRICS, NOT_JUDGED
from speedkit.comparison.runs import fill, plan
from speedkit.comparison.stats import interval, verdict
from speedkit.meter import DISTURBED
from speedkit.run import Step
from speedkit.support.units import seconds as in_words
from speedkit.train import train
from tests.benchmarks import keep

RECIPE = sk.Recipe(model="mlp", cache="device", subset=2000, epochs=3, device="cpu")
MARK = {"prefetch": 3}  # tells the variant; it changes nothing in a run without workers
TRUTHS = {"none": 0.0, "10 %": 0.1, "30 %": 0.3}  # how much longer the variant's step is
DESIGNS = {"one after the other": False, "in turns": True}
BEFORE = "one after the other, always judged (before)"
WANTED = 100
LONGER = [truth for truth, share in TRUTHS.items() if share]
MEANWHILE = {
    "quiet": "nothing else",
    "bursts": "a program takes a core on and off",
    "kernel": "a second process trains every other minute",
    "panel": "a panel trains in a browser",
}


# Loads


def bursts():
    """Takes one core on and off, 0.2 to 3 s each."""
    draw = random.Random(0)
    while True:
        until = time.perf_counter() + draw.uniform(0.2, 3)
        while time.perf_counter() < until:
            pass
        time.sleep(draw.uniform(0.2, 3))


def kernel():
    """Trains for a minute and rests for one."""
    while True:
        until = time.perf_counter() + 60
        while time.perf_counter() < until:
            for __ in train(sk.Recipe(epochs=1)):
                if time.perf_counter() > until:
                    break
        time.sleep(60)


def panel():
    """Trains in a second kernel, under a panel that a browser shows."""
    from tests import frontends
    from tests.benchmarks.watching import laboratory

    with laboratory() as (server, notebook):
        cell = "import speedkit as sk\n\npanel = sk.Panel(sk.Recipe(epochs=10_000))\npanel.start()\npanel"
        with notebook("panel.ipynb", cell) as page:
            frontends.open_notebook(page, server, "panel.ipynb")
            page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
            page.wait_for_selector(".sk-chart")
            while True:
                page.wait_for_timeout(1000)


LOADS = {"quiet": None, "bursts": bursts, "kernel": kernel, "panel": panel}


@contextmanager
def loaded(condition: str):
    """The condition lasts as long as the block."""
    if LOADS[condition] is None:
        yield
        return
    process = subprocess.Popen([sys.executable, "-m", "tests.benchmarks.null", "--load", condition])
    try:
        time.sleep(30 if condition == "panel" else 2)
        if process.poll() is not None:
            raise RuntimeError(f"The load {condition!r} ended by itself.")
        yield
    finally:
        process.terminate()
        process.wait(30)


# Trials


class Work:
    """Forward passes that make a step of the variant longer, as real computing of the same kind."""

    def __init__(self, recipe: sk.Recipe, rounds: int = 200):
        images, labels, self.model = sk.first_batch(recipe)
        self.some, self.owed = images[:8], 0.0
        optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-6)
        taken = {0: [], 2: []}  # seconds of a step, by how many passes come with it
        for __ in range(rounds):
            for passes, seconds in taken.items():
                start = time.perf_counter()
                for __ in range(passes):
                    self._pass()
                loss = torch.nn.functional.cross_entropy(self.model(images), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                loss.item()
                seconds.append(time.perf_counter() - start)
        without, with_two = map(statistics.median, taken.values())
        self.per_step = 2 / max(with_two / without - 1, 0.01)  # passes that take as long as a step

    @torch.no_grad()
    def _pass(self):
        self.model(self.some)

    def into(self, model, share: float):
        """Makes each training step of ``model`` longer by this share."""

        def also(module, __):
            if module.training:
                self.owed += share * self.per_step
                while self.owed >= 0.5:
                    self._pass()
                    self.owed -= 1

        model.register_forward_pre_hook(also)


class Recorder:
    """Makes runs like ``train`` and keeps when each step ended and how long it took."""

    def __init__(self, work: Work, share: float):
        self.work, self.share, self.runs, self.began = work, share, [], time.perf_counter()

    def __call__(self, recipe, run):
        longer = self.share and recipe.prefetch == MARK["prefetch"]
        ended = []
        self.runs.append((run, ended))
        for record in train(recipe, run, on_model=lambda model: longer and self.work.into(model, self.share)):
            if isinstance(record, Step):
                ended.append(time.perf_counter() - self.began)
            yield record

    def steps(self) -> list:
        """Of each counted run: [is the variant, seed, ends in 0.1 ms, times in µs]."""
        return [
            [
                int(run.recipe.prefetch == MARK["prefetch"]),
                run.recipe.seed,
                [round(1e4 * end) for end in ended],
                [round(1e6 * each) for each in run.column("step_s")],
            ]
            for run, ended in self.runs[2:]
        ]


def trial(recipe: sk.Recipe, work: Work, truth: str, in_turns: bool, pairs: int = 5) -> dict:
    """One comparison, as a row of the raw file."""
    recorder, start = Recorder(work, TRUTHS[truth]), time.perf_counter()
    comparison = plan(recipe, recipe.but(**MARK), pairs, (), None)
    deque(fill(comparison, recorder, in_turns=in_turns), maxlen=0)
    return {
        "seconds": time.perf_counter() - start,
        "passes_per_step": work.per_step,
        "others_share": [run.others_share for run in comparison.measured],
        "values": {name: comparison.values(name).tolist() for name in METRICS},
        "rows": {row.metric: [row.effect, row.low, row.high, row.verdict] for row in comparison.rows},
        "steps": recorder.steps(),
    }


def read(raw: Path) -> list[dict]:
    """The rows of a raw file; one that was cut off in writing is left out."""
    lines = raw.read_text(encoding="utf-8").splitlines() if raw.exists() else []
    rows = []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def measure(raw: Path, condition: str, minutes: float, wanted: int = WANTED, recipe=RECIPE, pairs: int = 5):
    """Appends trials of one condition until each kind has ``wanted``, or the time is over."""
    until, work = time.monotonic() + 60 * minutes, Work(recipe)
    done = Counter((row["truth"], row["design"]) for row in read(raw) if row["condition"] == condition)
    with loaded(condition), open(raw, "a", encoding="utf-8") as file:
        while time.monotonic() < until:
            kinds = [(truth, design) for truth in TRUTHS for design in DESIGNS if done[truth, design] < wanted]
            if not kinds:
                break
            fewest = min(done[kind] for kind in kinds)
            truth, design = random.choice([kind for kind in kinds if done[kind] == fewest])
            # Other seeds each time: else every comparison would draw the same order of its pairs.
            seeded = recipe.but(seed=random.randrange(2**30))
            row = {"condition": condition, "truth": truth, "design": design, "number": done[truth, design]}
            file.write(json.dumps(row | trial(seeded, work, truth, DESIGNS[design], pairs)) + "\n")
            file.flush()
            done[truth, design] += 1
            print(f"{condition}, {truth}, {design}: {done[truth, design]}", flush=True)


# The estimators that were considered, on the same data. Each: (row) -> interval of the log ratio of the time per step.


def _pairs(row, mean=np.mean):
    """The log ratio of each pair's mean step, the first step left out: float64 [pairs]."""
    found = defaultdict(dict)
    for variant, seed, __, times in row["steps"]:
        found[seed][variant] = math_log(mean(times[1:]))
    return np.array([both[1] - both[0] for both in found.values()])


def _blocks(row):
    """The log ratio of each couple of blocks: a list of float64 [couples], one per pair. Only where runs take turns."""
    pairs = defaultdict(list)
    for variant, seed, ends, times in row["steps"]:
        pairs[seed] += [(end, variant, taken) for end, taken in list(zip(ends, times, strict=True))[1:]]
    found = []
    for steps in pairs.values():
        sums = [[], []]
        before = None
        for __, variant, taken in sorted(steps):
            if variant != before:
                sums[variant].append([])
            sums[variant][-1].append(taken)
            before = variant
        # ABBA: two blocks of one recipe that touch are one here, and so are their counterparts: couples still match.
        couples = zip(*([np.mean(block) for block in side] for side in sums), strict=False)
        found.append(np.array([math_log(variant / baseline) for baseline, variant in couples]))
    return found


def math_log(value):
    return float(np.log(max(value, 1e-9)))


def _t(samples):
    low, __, high = interval(samples)
    return float(low), float(high)


def _rank(samples, level=0.95):
    """Exact signed-rank interval (Hodges-Lehmann, by Walsh averages) for up to a few dozen samples."""
    samples = np.asarray(samples)
    averages = np.sort(((samples[:, None] + samples[None, :]) / 2)[np.triu_indices(len(samples))])
    count, out = len(samples), 0
    ways = np.zeros(count * (count + 1) // 2 + 1)
    ways[0] = 1
    for rank in range(1, count + 1):
        ways[rank:] = ways[rank:] + ways[:-rank]
    tail = np.cumsum(ways) / 2.0**count
    out = int(np.searchsorted(tail, (1 - level) / 2, side="right"))
    return (-np.inf, np.inf) if out == 0 else (float(averages[out - 1]), float(averages[-out]))


def _bootstrap(pairs, times=400, level=0.95):
    """Percentile bootstrap over blocks, drawn anew within each pair."""
    draw = np.random.default_rng(0)
    means = [np.mean([draw.choice(blocks, len(blocks)).mean() for blocks in pairs]) for __ in range(times)]
    return tuple(np.quantile(means, [(1 - level) / 2, (1 + level) / 2]))


def _undisturbed(row):
    """Student's t over the pairs of which neither run was disturbed, at least three of them; else no verdict."""
    shares = np.array(row["others_share"], float).reshape(-1, 2)
    quiet = ~(np.nan_to_num(shares) > DISTURBED).any(axis=1)
    return _t(_pairs(row)[quiet]) if quiet.sum() >= 3 else None


ESTIMATORS = {
    ("one after the other", "mean step, t over pairs (before)"): lambda row: _t(_pairs(row)),
    ("one after the other", "median step, t over pairs"): lambda row: _t(_pairs(row, np.median)),
    ("one after the other", "disturbed pairs left out"): _undisturbed,
    ("in turns", "mean step, t over pairs (now)"): lambda row: _t(_pairs(row)),
    ("in turns", "median step, t over pairs"): lambda row: _t(_pairs(row, np.median)),
    ("in turns", "mean of the blocks' ratios, t over pairs"): lambda row: _t([each.mean() for each in _blocks(row)]),
    ("in turns", "median of the blocks' ratios, t over pairs"): lambda row: _t([np.median(b) for b in _blocks(row)]),
    ("in turns", "t over all blocks"): lambda row: _t(np.concatenate(_blocks(row))),
    ("in turns", "rank interval over all blocks"): lambda row: _rank(np.concatenate(_blocks(row))),
    ("in turns", "bootstrap of blocks"): lambda row: _bootstrap(_blocks(row)),
}


def estimators(rows: list[dict]) -> dict:
    """Of the time per step, by condition, design, estimator and truth: {"lower", "higher", "none", "not judged"}."""
    found = {}
    for (design, name), estimate in ESTIMATORS.items():
        for row in rows:
            if row["design"] != design:
                continue
            counts = found.setdefault(f"{row['condition']} | {design} | {name} | {row['truth']}", Counter())
            between = estimate(row)
            if between is None:
                counts["not judged"] += 1
            else:
                counts["lower" if between[1] < 0 else "higher" if between[0] > 0 else "none"] += 1
                counts["width"] += between[1] - between[0]
    for counts in found.values():
        counts["width"] /= max(1, counts["lower"] + counts["higher"] + counts["none"])
    return {name: dict(counts) for name, counts in found.items()}


def summary(rows: list[dict]) -> dict:
    """By condition, design and truth: the number of trials, and of each metric's verdicts."""
    found = {}
    before = [row | {"design": BEFORE, "rows": _always_judged(row)} for row in rows if not DESIGNS[row["design"]]]
    for row in [*before, *rows]:
        key = f"{row['condition']} | {row['design']} | {row['truth']}"
        entry = found.setdefault(key, {"trials": 0, "seconds": [], "verdicts": {}})
        entry["trials"] += 1
        entry["seconds"].append(row["seconds"])
        for metric, (*__, said) in row["rows"].items():
            entry["verdicts"].setdefault(metric, Counter())[said] += 1
    for entry in found.values():
        entry["seconds"] = statistics.median(entry["seconds"])
        entry["verdicts"] = {
            metric: dict(counts) for metric, counts in entry["verdicts"].items() if set(counts) - {"n/a"}
        }
    return found


def _always_judged(row):
    """The rows of a comparison whose times are judged whatever other programs did."""
    found = {}
    for name, (effect, low, high, said) in row["rows"].items():
        if said == NOT_JUDGED:
            logs = np.log(np.array(row["values"][name], float))
            low, __, high = interval(logs[:, 1] - logs[:, 0])
            said = verdict(low, high)
        found[name] = [effect, low, high, said]
    return found


def table(figures: dict) -> str:
    """The summary as Markdown: a line per condition and design. Wrong verdicts: a recipe compared with itself."""
    heading = [
        "meanwhile",
        "runs of a pair",
        "wrong verdicts",
        "worst row",
        *(f"{truth} longer: found" for truth in LONGER),
    ]
    heading += ["wrong direction", "a comparison takes"]
    lines = [f"| {' | '.join(heading)} |", "|---" * len(heading) + "|"]
    for condition, words in MEANWHILE.items():
        for design in (BEFORE, *DESIGNS):
            entries = {truth: figures.get(f"{condition} | {design} | {truth}") for truth in TRUTHS}
            if all(entries.values()):
                lines.append(f"| {words} | {design} | {' | '.join(_cells(entries))} |")
    return "\n".join(lines)


def _cells(entries):
    def wrong(counts):
        return counts.get(LOWER, 0) + counts.get(HIGHER, 0)

    def in_all(counts):
        return sum(counts.values())

    rows = entries["none"]["verdicts"].values()
    worst = max(rows, key=wrong)
    yield f"{sum(map(wrong, rows))} of {sum(map(in_all, rows))}"
    yield f"{wrong(worst)} of {in_all(worst)}"
    longer = [entries[truth]["verdicts"]["step_s"] for truth in LONGER]
    for counts in longer:
        unjudged = f", {counts[NOT_JUDGED]} not judged" if NOT_JUDGED in counts else ""
        yield f"{counts.get(HIGHER, 0)} of {in_all(counts)}{unjudged}"
    yield str(sum(counts.get(LOWER, 0) for counts in longer))
    yield in_words(statistics.median(entry["seconds"] for entry in entries.values()))


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0, help="for all conditions together")
    parser.add_argument("--conditions", default=",".join(LOADS))
    parser.add_argument("--raw", type=Path, default=Path("null.jsonl"))
    parser.add_argument("--summary", action="store_true", help="only compute the summary anew")
    parser.add_argument("--load", choices=LOADS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.load:
        signal.signal(signal.SIGTERM, lambda *__: sys.exit())
        LOADS[options.load]()
    conditions = options.conditions.split(",")
    for condition in [] if options.summary else conditions:
        measure(options.raw, condition, options.minutes / len(conditions))
    rows = read(options.raw)
    figures = {"summary": summary(rows), "estimators": estimators(rows)}
    print(table(figures["summary"]))
    print(keep("null", figures))


if __name__ == "__main__":
    main()
