"""What watching costs: ``train`` under the live panel, in a real kernel, against the same training written by hand.

``python -m tests.benchmarks.panel_cost`` takes about ten minutes on two cores. Nothing else should run meanwhile.
"""

import json
import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import torch
from jupyter_client.manager import start_new_kernel
from torch.nn.functional import cross_entropy

import speedkit as sk
from speedkit.data import drain, load, make_loader
from speedkit.techniques.precision import Precision
from speedkit.train import evaluate, new_model
from tests.benchmarks import keep, paired

LENGTHS = {200: 15, 5_000: 9}  # steps -> pairs
RECIPE = sk.Recipe(cache="ram", batch_size=16, epochs=2)


def by_hand(recipe) -> float:
    """Seconds from the end of the first step to the end of the last one, in a loop without meter, run and panel.

    An epoch's evaluation between them is in the time of both ways.
    """
    data = drain(load(recipe))
    model = new_model(recipe, data)
    optimizer = torch.optim.SGD(model.parameters(), lr=recipe.learning_rate, momentum=0.9, nesterov=True)
    step = 0
    with closing(drain(make_loader(recipe, data, "cpu"))) as loader, Precision("fp32", "cpu") as precision:
        for epoch in range(recipe.epochs):
            for images, labels, _ in loader.epoch(epoch):
                loss = cross_entropy(model(images), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                step += 1
                if step == 1:
                    start = time.perf_counter()
                if step == recipe.steps:
                    return time.perf_counter() - start
            drain(evaluate(model, data, precision))
            model.train()


def watched(recipe) -> float:
    """The same seconds under a panel that draws its live chart at its default rate."""
    panel = sk.Panel(recipe)
    panel.start()
    panel._runner.join()
    run = panel.runs[-1]
    return run.steps["t"][recipe.steps - 1] - run.steps["t"][0]


def measure(out: str):
    """Runs in the kernel: the panel against a loop by hand, at every length."""
    figures = {}
    for steps, pairs in LENGTHS.items():
        recipe = RECIPE.but(steps=steps)
        by_hand(recipe), watched(recipe)  # warm-up
        ways = {"panel": partial(watched, recipe), "by hand": partial(by_hand, recipe)}
        figures[f"panel / by hand, {steps} steps"] = paired(ways, pairs)
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
