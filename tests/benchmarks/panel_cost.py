"""What the panel costs: ``train`` under the live panel, in a real kernel, against the same training written by hand.

Both run at the same time and alternate, one block of steps each, so that a machine that becomes slower or faster does
so for both.
``python -m tests.benchmarks.panel_cost`` takes about four minutes on two cores. Run nothing else meanwhile.
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

RECIPE = sk.Recipe(cache="ram", batch_size=11, epochs=1)  # 5,000 steps per epoch, and no evaluation between them
# steps per run -> steps per block, runs
PLAN = {200: {"block": 50, "runs": 40}, 5_000: {"block": 125, "runs": 3}}
BY_HAND, PANEL = "by hand", "panel"


class Turns:
    """Lets two threads alternate in blocks of ``block`` steps and records how long each block took.

    rest: seconds after each of the panel's blocks, in which its last frame is drawn. epoch: steps per epoch if there
    are several; the first block of an epoch is not recorded, because it includes the evaluation of the previous one.
    """

    def __init__(self, steps: int, block: int, rest: float = 0.0, epoch: int | None = None):
        self.steps, self.block, self.rest, self.epoch = steps, block, rest, epoch or steps
        self.free = {PANEL: threading.Semaphore(0), BY_HAND: threading.Semaphore(1)}
        self.times = {PANEL: [], BY_HAND: []}

    def begin(self, name: str):
        self.free[name].acquire()
        self.began = now()

    def after(self, name: str, done: int):
        """Called after each step; ``done`` counts the steps so far."""
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
    """The hand-written loop, in its own blocks of steps."""
    turns.begin(BY_HAND)
    for step, _ in enumerate(steps_by_hand(recipe)):
        turns.after(BY_HAND, step + 1)


def under_the_panel(recipe, turns, panel=None):
    """The same training in the background, under a panel that draws its live chart at the default rate."""

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
    """Runs in the kernel: compares the panel with a hand-written loop, at each length."""
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
