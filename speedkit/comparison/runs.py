"""The runs of a comparison: a generator that makes them in pairs.

On a CPU both runs of a pair are open at once and make their steps in turn, a block of a few milliseconds each, so that
whatever slows the machine for longer than a block slows both. Which of the two has the first block is drawn for each
pair, and it changes from block to block (ABBA). One is never ahead by more than a block: blocks end at the same share
of the steps. So a network is trained as if its run were alone, with the same weights, losses and accuracies, and the
time in which the other run had its turn counts for none of a run's own times. What cannot be told apart is the memory
of the process: it is then not available.

A pair is made one run after the other where taking turns would change what is measured: with workers, which go on
preparing batches while the other run has its turn; on a GPU, whose queue and memory both would share; and where both
runs together could need more than half of the machine's memory.
"""

import ctypes
import gc
import itertools
import math
import random
import time
from contextlib import ExitStack, closing, suppress

import torch

from speedkit.comparison.metrics import METRICS, PROCESS_MEMORY, Claim
from speedkit.comparison.result import ARMS, Comparison, RunResult
from speedkit.comparison.stats import NEEDED_PAIRS
from speedkit.recipe import Recipe
from speedkit.run import Run, Step
from speedkit.run_words import HOST_BOUND, is_host_bound
from speedkit.support.errors import NotFinite, releasing
from speedkit.support.messages import N_, Message, _, message_of
from speedkit.support.settings import smoke
from speedkit.train import train

WARM_UP_STEPS = 10
BLOCK = 0.01  # seconds: long beside the refilling of the processor's caches, short beside what other programs do
clock = time.perf_counter


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
    """Compares two recipes in pairs of runs. A generator: it yields the growing :class:`Comparison` after every run.

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


def fill(comparison: Comparison, train=train, each_step: bool = False, in_turns: bool | None = None):
    """Makes the runs of a planned comparison. A generator, like :func:`comparing`.

    train: as in :func:`comparing`, or one for each: "baseline" or "variant" -> train. in_turns: whether the runs of a
        pair take turns; None: if they can. ``tests/benchmarks/null.py`` compares both ways.
    """
    recipes = {arm: getattr(comparison, arm).but(test_at_end=False) for arm in ARMS}
    with comparison.being_made():
        if any(recipe.cache == "disk" for recipe in recipes.values()):
            comparison.note(N_("The disk cache was filled before the first counted run: it is compared warm."))
        warm_ups = []
        for arm in ARMS:
            run = _Open(comparison, train, _warm_up(recipes[arm]).but(seed=comparison.baseline.seed), None, arm)
            yield from _making([run], each_step)
            warm_ups.append(run.run)
        comparison.in_turns = _can_take_turns(warm_ups) if in_turns is None else in_turns
        for pair, order in enumerate(orders(comparison.pairs, comparison.baseline.seed)):
            seed = comparison.baseline.seed + pair
            runs = (_Open(comparison, train, recipes[arm].but(seed=seed), pair, arm) for arm in order)
            for some in [list(runs)] if comparison.in_turns else ([run] for run in runs):
                yield from _making(some, each_step)


def _warm_up(recipe):
    # A disk cache outlives a run: fill it now, else it would be cold in the first pair only.
    steps = None if recipe.cache == "disk" else min(recipe.steps or WARM_UP_STEPS, WARM_UP_STEPS)
    return recipe.but(epochs=1, steps=steps)


def _can_take_turns(warm_ups):
    for run in warm_ups:
        if run.machine.get("device") != "cpu" or (run.recipe.workers and run.recipe.cache != "device"):
            return False
    memory = sum(run.scalars.get("peak_memory", math.nan) for run in warm_ups)
    return not memory > warm_ups[0].machine.get("memory", math.inf) / 2


class _Open:
    """A run of a comparison while it is made."""

    def __init__(self, comparison, train, recipe, pair, arm):
        self.comparison, self.pair, self.arm = comparison, pair, arm
        self.run = Run(recipe.effective())
        self.records = (train[arm] if isinstance(train, dict) else train)(self.run.recipe, self.run)
        self.since_step, self.left = 0, None
        self.ended = self.failed = False

    @property
    def place(self) -> tuple:
        """How far it is: the share of its steps that are done, and how many records came after the last of them."""
        return self.run.count / (self.run.total_steps or 1), self.since_step

    @property
    def words(self) -> str:
        if self.pair is None:
            return _("warm-up, {arm}", arm=_(self.arm))
        place = {"pair": self.pair + 1, "pairs": self.comparison.pairs}
        if self.comparison.in_turns and self.left is not None:
            return _("pair {pair} of {pairs}, both in turn", **place)
        return _("pair {pair} of {pairs}, {arm}", arm=_(self.arm), **place)

    def enter(self):
        """Begins a turn."""
        if self.left is not None:
            self.run.paused_s += clock() - self.left
        self.comparison.now, self.comparison.current = self.words, self.run
        self.comparison.latest[self.arm] = self.run

    def leave(self):
        self.left = clock()

    def advance(self):
        """Makes the next record: a piece of preparation, a step, or a piece of an evaluation."""
        try:
            record = next(self.records)
            self.since_step = 0 if isinstance(record, Step) else self.since_step + 1
        except StopIteration:
            self.ended = True
        except NotFinite as error:
            self.ended = self.failed = True
            place = {} if self.pair is None else {"pair": self.pair + 1, "pairs": self.comparison.pairs}
            sentence = N_("pair {pair} of {pairs}, {arm}: {error}") if place else N_("warm-up, {arm}: {error}")
            self.comparison.note(Message(sentence, **{"arm": Message(self.arm), "error": message_of(error)} | place))

    def count(self):
        """Adds what it measured to the comparison."""
        comparison, run = self.comparison, self.run
        comparison.machine = run.machine
        comparison.runs_done += 1
        if self.pair is None:
            return
        comparison.smoke |= run.smoke
        for note in run.notes:
            comparison.note(note)
        if is_host_bound(run):
            note = Message(N_("{what}: {text}"), what=Message(self.arm), text=Message(HOST_BOUND))
            comparison.notes += [note] if note not in comparison.notes else []
        values = {name: metric.read(run, comparison.target) for name, metric in METRICS.items()}
        unknown = METRICS if self.failed else PROCESS_MEMORY if comparison.in_turns else ()
        values |= dict.fromkeys(unknown, math.nan)
        share = run.scalars.get("others_share", math.nan)
        comparison.measured.append(RunResult(self.pair, self.arm, run.recipe.seed, values, share))


def _making(runs, each_step):
    """Makes one run, or two that take turns. Yields the comparison after each of them, or after each of their steps."""
    comparison = runs[0].comparison
    _release_memory()
    with releasing(), ExitStack() as stack:
        for run in runs:
            stack.enter_context(closing(run.records))
        active = None
        for run in _turns(runs):
            if run is not active:
                if active is not None:
                    active.leave()
                run.enter()
                active = run
            run.advance()
            if run.ended:
                run.count()
                if comparison.runs_done == comparison.total_runs:
                    comparison.status = "finished"
            if run.ended or each_step:
                yield comparison


def _turns(runs):
    """Which run makes the next record, until all have ended: a generator of ``runs``."""
    for run in runs:  # what comes before a run's first step is timed as one piece
        while not run.run.count and not run.ended:
            yield run
    for turn in itertools.count():
        if all(run.ended for run in runs):
            return
        first, *others = runs if turn % 2 == 0 else runs[::-1]
        until = clock() + BLOCK
        while not first.ended:
            yield first
            if clock() >= until:
                break
        for other in others:
            while not other.ended and (first.ended or other.place < first.place):
                yield other


def _release_memory():
    # Otherwise the larger recipe would set the resident set of both: allocators hold on to freed memory.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    with suppress(OSError, AttributeError, TypeError):  # raised if the C library is not glibc
        ctypes.CDLL(None).malloc_trim(0)
