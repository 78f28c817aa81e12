"""What watching costs: ``train`` under the live panel, in a real kernel, against the same training written by hand.

Both trainings go on at the same time and take turns, a block of steps each, so that a machine that grows slower or
faster meanwhile does so for both. ``python -m tests.benchmarks.panel_cost`` takes about four minutes on two cores.
Nothing else should run meanwhile.
"""

import json
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

from jupyter_client.manager import start_new_kernel

import speedkit as sk
from speedkit.lab import runner
from speedkit.run import Step
from speedkit.train import train
from tests.benchmarks import keep, ratio
from tests.benchmarks.by_hand import now, steps_by_hand

RECIPE = sk.Recipe(cache="ram", batch_size=11, epochs=1)  # an epoch of 5,000 steps: no evaluation falls between them
PLAN = {200: {"block": 50, "runs": 40}, 5_000: {"block": 125, "runs": 3}}  # steps of a run -> steps of a turn, runs
BY_HAND, PANEL = "by hand", "panel"


class Turns:
    """Lets two threads take turns of ``block`` steps, and keeps how long each was, but for an epoch's first ones.

    rest: seconds after the panel's turn, for whoever draws its last frame. epoch: steps of an epoch, where there are
    several; the first turn of each holds the evaluation of the one before as well.
    """

    def __init__(self, steps: int, block: int, rest: float = 0.0, epoch: int | None = None):
        self.steps, self.block, self.rest, self.epoch = steps, block, rest, epoch or steps
        self.free = {PANEL: threading.Semaphore(0), BY_HAND: threading.Semaphore(1)}
        self.times = {PANEL: [], BY_HAND: []}

    def begin(self, name: str):
        self.free[name].acquire()
        self.began = now()

    def after(self, name: str, done: int):
        """Called after each step: ``done`` of them so far."""
        if done % self.block:
            return
        if (done - self.block) % self.epoch:
            self.times[name].append(now() - self.began)
        if name == PANEL:
            time.sleep(self.rest)
        self.free[PANEL if name == BY_HAND else BY_HAND].release()
        if done < self.steps:
            self.begin(name)


def by_hand(recipe, turns):
    """Takes its turns with a loop without meter, run, evaluation and panel."""
    turns.begin(BY_HAND)
    for step, _ in enumerate(steps_by_hand(recipe)):
        turns.after(BY_HAND, step + 1)


def under_the_panel(recipe, turns, panel=None):
    """The same training under a panel that draws its live chart at its default rate, in the background."""

    def in_turns(*args, **named):
        with closing(train(*args, **named)) as records:
            for record in records:
                if isinstance(record, Step):
                    if record.n == 0:
                        turns.begin(PANEL)
                    turns.after(PANEL, record.n + 1)
                yield record

    runner.train = in_turns
    panel = panel or sk.Panel(recipe)
    panel.start()
    return panel


def measure(out: str):
    """Runs in the kernel: the panel against a loop by hand, at every length."""
    figures = {}
    for steps, plan in PLAN.items():
        recipe, times = RECIPE.but(steps=steps), {PANEL: [], BY_HAND: []}
        for run in range(plan["runs"]):
            turns = Turns(steps, plan["block"])
            panel = under_the_panel(recipe, turns)
            by_hand(recipe, turns)
            panel._runner.join()
            for name, seconds in turns.times.items():
                times[name] += seconds
            print(f"{steps} steps, run {run + 1} of {plan['runs']}: {ratio(turns.times)['ratio']:.3f}", flush=True)
        figures[f"panel / by hand, {steps} steps"] = ratio(times)
    Path(out).write_text(json.dumps(figures))


def main():
    out = Path("panel_cost.tmp.json").resolve()
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        code = f"import speedkit\nfrom tests.benchmarks import panel_cost\npanel_cost.measure({str(out)!r})"
        reply = client.execute_interactive(
            code,
            timeout=None,
            output_hook=lambda message: sys.stdout.write(message["content"].get("text", "")),
        )
        if reply["content"]["status"] != "ok":
            raise RuntimeError("\n".join(reply["content"]["traceback"]))
        print(keep("panel_cost", json.loads(out.read_text())))
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        out.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
