"""What each of the six techniques gains on this machine: judges the article's claims with ``compare``.

The precision formats are compared on a network and a batch that fill the card of a GPU, or on small ones on a CPU.
``python -m tests.benchmarks.techniques`` takes about four minutes. Run nothing else meanwhile.
"""

import speedkit as sk
from speedkit import hardware
from speedkit.comparison.metrics import CLAIMS
from speedkit.lab.compare import compare
from speedkit.support.errors import CannotRun
from tests.benchmarks import Figures

FAST = {"cache": "device", "channels_last": True}
RUNGS = ("tf32", "bf16", "fp16")


def ladder_recipe(kind: str) -> sk.Recipe:
    """The recipe on which the precision formats are compared; only the time per step matters, so it is short."""
    if kind == "cpu":
        return sk.Recipe(model="mlp", batch_size=512, epochs=1, cache="device")
    fits = (hardware.machine().device_memory or 0) > 8 * hardware.GIB  # a step of 512 takes 4.6 GiB
    return sk.Recipe(model="resnet18", image_size=64, batch_size=512 if fits else 128, subset=8192, epochs=1, **FAST)


def recipes(kind: str) -> dict:
    """technique -> (baseline, variant, target accuracy or None), as in the lessons."""
    few = sk.Recipe(subset=2000, **FAST)
    jpegs = sk.Recipe(data="jpeg", stored_size=320, image_size=32, subset=480, batch_size=32, epochs=3)
    database = sk.Recipe(data="sqlite", image_size=32, subset=960, batch_size=32, epochs=4)
    mlp = sk.Recipe(model="mlp", cache="device", subset=2000, epochs=24, learning_rate=0.02)
    augmented = few.but(shift=1, batchnorm=True, schedule="one_cycle", epochs=24)
    norm = few.but(subset=4000, epochs=3)
    return {
        "early_stopping": (mlp, mlp.but(early_stopping=5), None),
        "augment": (augmented, augmented.but(augment="light"), None),
        "batchnorm": (norm.but(learning_rate=0.03), norm.but(learning_rate=0.03, batchnorm=True), 0.8),
        "workers": (jpegs, jpegs.but(workers=min(4, hardware.machine().cores)), None),
        "cache": (database, database.but(cache="ram"), None),
    }


def judged(comparison) -> dict:
    """A comparison's rows as text, and the outcomes of its claims."""
    rows = {row.metric: [*row.texts(), row.verdict] for row in comparison.rows}
    print("\n".join(map(str, comparison.judgements)), flush=True)
    return {
        "baseline": comparison.baseline.to_dict(),
        "variant": comparison.variant.to_dict(),
        "rows": rows,
        "claims": [str(judgement) for judgement in comparison.judgements],
        "notes": comparison.notes,
    }


def main():
    figures, kind = Figures("techniques"), hardware.machine().kind
    recipe = ladder_recipe(kind)
    for rung in RUNGS:
        try:
            found = compare(recipe, recipe.but(precision=rung), claims=CLAIMS["precision"], progress=False)
            figures[f"precision {rung}"] = judged(found)
        except CannotRun as reason:
            figures[f"precision {rung}"] = {"n/a": str(reason)}
            print(f"precision {rung}: n/a, {reason}", flush=True)
    for technique, (baseline, variant, target) in recipes(kind).items():
        found = compare(baseline, variant, claims=CLAIMS[technique], target=target, progress=False)
        figures[technique] = judged(found)
    print(figures.path)


if __name__ == "__main__":
    main()
