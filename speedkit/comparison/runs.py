"""The runs of a comparison: a generator that makes them in pairs."""

import ctypes
import gc
import math
import random
from contextlib import closing, suppress

import torch

from speedkit.comparison.metrics import METRICS, Claim
from speedkit.comparison.result import ARMS, Comparison, RunResult
from speedkit.comparison.stats import NEEDED_PAIRS
from speedkit.recipe import Recipe
from speedkit.run import Run
from speedkit.support.errors import NotFinite
from speedkit.support.messages import N_, Message, _, message_of
from speedkit.support.settings import smoke
from speedkit.train import train

WARM_UP_STEPS = 10


def comparing(
    baseline: Recipe,
    variant: Recipe,
    pairs: int = NEEDED_PAIRS,
    claims: tuple[Claim, ...] = (),
    *,
    target: float | None = None,
    train=train,
    each_step: bool = False,
):
    """Compares two recipes, one run at a time. A generator: it yields the growing :class:`Comparison` after every run.

    Makes two short warm-up runs, which do not count, then ``pairs`` pairs; both runs of pair i have the seed
    ``baseline.seed + i``. Which of the two comes first is drawn from ``baseline.seed``, each about equally often. To
    stop, close the generator: the finished pairs stay in the comparison. The test set is not touched.

    target: a validation accuracy (0.001 to 1); the time to reach it is measured. train: (recipe, run) -> a generator
        that makes one run. each_step: yield after every step as well, so that closing takes effect within one step.

    Raises:
        ValueError: pairs, target or a claim is not allowed. Errors of ``train`` are passed on, except
            :class:`NotFinite`: that run has no figures, and a note says so.
    """
    return fill(plan(baseline, variant, pairs, claims, target), train, each_step)


def plan(baseline, variant, pairs, claims, target) -> Comparison:
    """A comparison without any runs yet; arguments and errors as in :func:`comparing`."""
    comparison = Comparison(baseline, variant, pairs, target, claims, smoke=smoke())
    if comparison.smoke:
        comparison.pairs = min(comparison.pairs, 2)
    baseline.but(seed=baseline.seed + comparison.pairs - 1)  # so that too large a seed is an error before any run
    return comparison


def orders(pairs: int, seed: int) -> list[tuple[str, str]]:
    """Which run of each pair comes first: both orders equally often (within one), shuffled from ``seed``."""
    draw = random.Random(seed)
    flip = draw.randrange(2)
    drawn = [ARMS if (i + flip) % 2 else ARMS[::-1] for i in range(pairs)]
    draw.shuffle(drawn)
    return drawn


def _warm_up(recipe):
    # A disk cache outlives a run: fill it now, else it would be cold in the first pair only.
    steps = None if recipe.cache == "disk" else min(recipe.steps or WARM_UP_STEPS, WARM_UP_STEPS)
    return recipe.but(epochs=1, steps=steps)


def fill(comparison: Comparison, train=train, each_step: bool = False):
    """Makes the runs of a planned comparison. A generator, like :func:`comparing`."""
    recipes = {arm: getattr(comparison, arm).but(test_at_end=False) for arm in ARMS}
    plan = [(None, arm) for arm in ARMS]
    plan += [(i, arm) for i, order in enumerate(orders(comparison.pairs, comparison.baseline.seed)) for arm in order]
    with comparison.being_made():
        if any(recipe.cache == "disk" for recipe in recipes.values()):
            comparison.note(N_("The disk cache was filled before the first counted run: it is compared warm."))
        yield from _running(comparison, train, each_step, recipes, plan)


def _running(comparison, train, each_step, recipes, plan):
    for pair, arm in plan:
        place = {} if pair is None else {"pair": pair + 1, "pairs": comparison.pairs}
        comparison.now = _(N_("pair {pair} of {pairs}, {arm}") if place else N_("warm-up, {arm}"), arm=_(arm), **place)
        seed = comparison.baseline.seed + (pair or 0)
        recipe = recipes[arm].but(seed=seed)
        comparison.current = run = Run((_warm_up(recipe) if pair is None else recipe).effective())
        _release_memory()
        with closing(train(run.recipe, run)) as records:
            try:
                for __ in records:
                    if each_step:
                        yield comparison
            except NotFinite as error:
                sentence = Message(
                    N_("pair {pair} of {pairs}, {arm}: {error}") if place else N_("warm-up, {arm}: {error}"),
                    **{"arm": Message(arm), "error": message_of(error)} | place,
                )
                comparison.note(sentence)
                failed = True
            else:
                failed = False
        comparison.runs_done += 1
        comparison.machine = run.machine
        if pair is not None:
            comparison.measured.append(_measure(comparison, run, pair, arm, failed))
        if comparison.runs_done == len(plan):
            comparison.status = "finished"
        yield comparison


def _release_memory():
    # Otherwise the larger recipe would set the resident set of both: allocators hold on to freed memory.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    with suppress(OSError, AttributeError, TypeError):  # raised if the C library is not glibc
        ctypes.CDLL(None).malloc_trim(0)


def _measure(comparison, run, pair, arm, failed):
    comparison.smoke |= run.smoke
    for note in run.notes:
        comparison.note(note)
    values = {name: math.nan if failed else metric.read(run, comparison.target) for name, metric in METRICS.items()}
    return RunResult(pair, arm, run.recipe.seed, values, run.scalars.get("others_share", math.nan))
