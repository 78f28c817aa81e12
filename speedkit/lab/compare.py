"""Comparisons in a notebook: they wait for their turn in the queue of this machine, and show a progress bar."""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import closing, contextmanager, nullcontext, suppress
from datetime import datetime

from IPython import get_ipython

from speedkit.comparison.metrics import Claim
from speedkit.comparison.result import ARMS, BY_HAND, Comparison
from speedkit.comparison.runs import fill, plan
from speedkit.comparison.stats import NEEDED_PAIRS
from speedkit.lab import display, live, queue  # noqa: F401 (display: a notebook shows comparisons whole)
from speedkit.lab.watch import name_of, runs_of
from speedkit.recipe import Recipe
from speedkit.support.guard import leave_if_imported_by_a_worker
from speedkit.support.messages import N_, Message, _
from speedkit.support.output import EndingSignals, Output
from speedkit.support.settings import learner_folder
from speedkit.support.units import seconds
from speedkit.train import train

OTHER_RUNS = N_("Other speedkit runs were active on this machine, so these times are not those of a run alone.")


def compare(
    baseline: Recipe | Callable,
    variant: Recipe | Callable,
    pairs: int = NEEDED_PAIRS,
    claims: tuple[Claim, ...] = (),
    *,
    target: float | None = None,
    train=train,
    progress: bool = True,
) -> Comparison:
    """Compares two recipes on this machine, in paired runs: ``sk.compare(recipe, recipe.but(cache="ram"))``.

    The comparison first waits for its turn in the queue of this machine. Then it makes two short warm-up runs, which
    do not count, and the pairs: both runs of a pair have the same seed, and which of the two comes first is drawn at
    random. On a CPU and without workers they take turns, a few milliseconds each, so that whatever else the machine
    does slows both alike. The test set is not touched. To stop early, interrupt the kernel: the finished pairs count.
    Meanwhile a chart of the newest pair moves in the running cell; the result takes its place.
    With SPEEDKIT_SMOKE, runs are cut to a few steps, and there is no queue and no verdict.

    Two loops of your own are compared in the same way, one run after the other: ``sk.compare(mine, faster)``. Each is a
    function without arguments that goes through a loader watched by ``sk.watch`` and returns it. It is called once to
    warm up and once a pair, with the pair's seed in torch's global generator; accuracies are n/a.

    Args:
        baseline: the recipe to compare with, or a function.
        variant: the recipe to compare, or a function; the differences between the two are tested.
        pairs: how many pairs of runs to make. A verdict needs at least 5.
        claims: the claims to judge, such as ``sk.CLAIMS["cache"]``.
        target: a validation accuracy from 0.001 to 1; the time to reach it is measured. Default: not measured.
        train: makes one run, ``(recipe, run) -> generator``, as :func:`speedkit.train` does.
        progress: whether to show the progress bar.

    Returns:
        A :class:`Comparison`. As a cell's last line it shows a table with one row per metric (baseline, variant, the
        effect with its 95 % interval, and a verdict), the judged claims, and a figure with one dot per pair. Effects
        are ratios variant / baseline; for accuracy, differences in percentage points. ``result.rows``,
        ``result.judgements``, ``result.to_frame()`` and ``result.runs_to_frame()`` give the same to code. In a script,
        it is also saved in the learner's folder: ``SPEEDKIT_RUNS``, or ``runs``.

    Raises:
        ValueError: ``pairs``, ``target`` or a claim is not allowed, or this machine cannot run one of the recipes.
        Exception: anything else that makes a run fail. A loss that becomes nan or infinite does not end the
            comparison: that run has no numbers, and a note says so.
    """
    leave_if_imported_by_a_worker()
    loops = []
    if callable(baseline) and callable(variant):
        if claims or target is not None:
            raise ValueError(_("Claims and targets are about recipes: leave them out when you compare two loops."))
        loops, train = (
            (name_of(baseline), name_of(variant)),
            dict(zip(ARMS, map(runs_of, (baseline, variant)), strict=True)),
        )
        baseline = variant = Recipe()
    comparison, script = plan(baseline, variant, pairs, claims, target), get_ipython() is None
    comparison.loops = loops
    with (
        _kept_in_a_script(comparison) if script else nullcontext() as signals,
        suppress(KeyboardInterrupt),
        live.progress(total=comparison.total_runs, unit=_("run"), wanted=progress) as bar,
        closing(in_turn(comparison, train)) as filling,
    ):
        shown, waiting = None, False
        for __ in filling:
            if signals and signals.name:  # its exception was lost, for example in a destructor
                break
            if waiting and comparison.current is not None:
                bar.reset()  # so that its time per run does not include the wait
            waiting = comparison.current is None
            if shown != (comparison.now, comparison.runs_done):  # otherwise do nothing that could slow a step down
                shown = comparison.now, comparison.runs_done
                bar.n = comparison.runs_done
                bar.set_description(comparison.now)
            _draw(comparison)
    if loops:
        live.forget()
    if comparison.status != "finished":
        comparison.status, comparison.reason = "stopped", BY_HAND
    return comparison


def _draw(comparison):
    """A frame of the newest pair, between two steps: the baseline's run in the colour of an earlier one."""
    if comparison.current is not None:
        *earlier, newest = (run for arm in ARMS if (run := comparison.latest.get(arm)) is not None)
        comparison.current.paused_s += live.frame(newest, earlier)


@contextmanager
def _kept_in_a_script(comparison):
    """A script has no output that stays: its comparison is saved before anything can go wrong when it is printed.

    A signal that would end the process ends the comparison first: its finished pairs are saved.
    """
    with EndingSignals() as signals:
        try:
            yield signals
        finally:
            signals.only_remember()
            if comparison.measured:
                if comparison.status != "finished":
                    comparison.status, comparison.reason = "stopped", BY_HAND
                name = f"comparison-{datetime.now():%Y%m%d-%H%M%S-%f}-{os.getpid()}.json"
                try:
                    said = _("The comparison is in {path}", path=comparison.save(learner_folder() / name))
                except (OSError, ValueError) as error:
                    said = _("The comparison could not be saved: {error}", error=error)
                Output(sys.stderr).write(f"{said}\n")
    if signals.number and signals.number != signal.SIGINT:
        sys.exit(128 + signals.number)


def in_turn(comparison: Comparison, train=train):
    """Makes the runs of a planned comparison when its turn in the queue has come.

    A generator: it yields the comparison while it waits, after every step, and once more when others may start.
    """
    alone = not comparison.smoke
    with comparison.being_made():
        with queue.Turn(alone) as turn:
            for words in turn.waiting():
                comparison.now = words
                yield comparison
            _note_the_wait(comparison, turn)
            in_turns = False if comparison.loops else None  # a loop of one's own cannot wait between two steps
            with queue.active(alone), closing(fill(comparison, train, each_step=True, in_turns=in_turns)) as filling:
                done = 0
                for __ in filling:
                    if comparison.runs_done > done:
                        done = comparison.runs_done
                        if alone and comparison.measured and queue.others().runs:
                            comparison.note(OTHER_RUNS)
                    if comparison.status == "running":
                        yield comparison
        yield comparison  # others need not wait while this one is looked at


def _note_the_wait(comparison, turn):
    if turn.waited:
        time = seconds(turn.waited)
        comparison.note(Message("It waited {time} for its turn in the queue of this machine.", time=time))
    if turn.problem:
        comparison.note(
            Message(
                "It could not use the queue of this machine ({problem}). Set SPEEDKIT_TURNS to a folder that all its "
                "users can write to, or to off.",
                problem=turn.problem,
            )
        )
