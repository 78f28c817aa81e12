"""Comparing in a notebook: in turn with the other kernels of this machine, and with a progress bar."""

import sys
from contextlib import closing, suppress

from IPython import get_ipython
from IPython.display import display

from speedkit.comparison.metrics import Claim
from speedkit.comparison.result import BY_HAND, Comparison
from speedkit.comparison.runs import fill, plan
from speedkit.comparison.stats import NEEDED_PAIRS
from speedkit.lab import queue
from speedkit.recipe import Recipe
from speedkit.support.messages import N_, Message, _
from speedkit.support.units import seconds
from speedkit.train import train


def compare(
    baseline: Recipe,
    variant: Recipe,
    pairs: int = NEEDED_PAIRS,
    claims: tuple[Claim, ...] = (),
    *,
    target: float | None = None,
    train=train,
    progress: bool = True,
) -> Comparison:
    """Compares two recipes with a progress bar; arguments and errors as in :func:`speedkit.comparing`.

    It first waits until no other comparison goes on on this machine, and keeps the others waiting until it has ended
    (see :mod:`speedkit.lab.queue`); in smoke mode, where no time means anything, it does neither. A keyboard interrupt
    ends it early and keeps the pairs that are done.
    """
    from tqdm import tqdm  # the plain one: the notebook's needs ipywidgets and leaves nothing in a saved notebook

    comparison = plan(baseline, variant, pairs, claims, target)
    with (
        suppress(KeyboardInterrupt),
        tqdm(total=comparison.total_runs, unit=_("run"), file=sys.stdout, disable=not progress) as bar,
        closing(in_turn(comparison, train)) as filling,
    ):
        shown, waiting = None, False
        for __ in filling:
            if waiting and comparison.current is not None:
                bar.reset()  # its time for a run is to count from now
            waiting = comparison.current is None
            if shown != (comparison.now, comparison.runs_done):  # and nothing else that could slow a step
                shown = comparison.now, comparison.runs_done
                bar.set_description(comparison.now, refresh=waiting)
                bar.update(comparison.runs_done - bar.n)
    if comparison.status != "finished":
        comparison.status, comparison.reason = "stopped", BY_HAND
    return comparison


def show_whole(comparison: Comparison):
    """Shows a comparison as a cell's last line does: its table and judged claims, then the figure of its pairs."""
    from speedkit.lab.comparison_figure import figure  # here, as matplotlib takes its time to load

    display({"text/html": comparison._repr_html_(), "text/plain": repr(comparison)}, raw=True)
    display(figure(comparison))


def register(shell=None):
    """Makes a notebook show every comparison whole: IPython's way for a class that knows nothing of notebooks."""
    shell = shell or get_ipython()
    if shell is not None:
        shell.display_formatter.ipython_display_formatter.for_type(Comparison, show_whole)


def in_turn(comparison: Comparison, train=train):
    """Makes the runs of a planned comparison when its turn has come. A generator: it yields the comparison while it
    waits, after every step, and once more when the turn has been given up."""
    alone = not comparison.smoke
    with comparison.being_made():
        with queue.Turn(alone) as turn:
            for words in turn.waiting():
                comparison.now = words
                yield comparison
            _note_the_wait(comparison, turn)
            with queue.active(alone), closing(fill(comparison, train, each_step=True)) as filling:
                done = 0
                for __ in filling:
                    if comparison.runs_done > done:
                        done = comparison.runs_done
                        if alone and comparison.measured and queue.others().runs:
                            comparison.note(
                                N_("Other speedkit runs were active on this machine: no time here is of a run alone.")
                            )
                    if comparison.status == "running":
                        yield comparison
        yield comparison  # nobody has to wait for whoever looks at it


def _note_the_wait(comparison, turn):
    if turn.waited:
        time = seconds(turn.waited)
        comparison.note(Message("It waited {time} for its turn among the comparisons on this machine.", time=time))
    if turn.problem:
        comparison.note(
            Message(
                "It could not wait for other comparisons on this machine ({problem}): name a folder that all its users "
                "can write in SPEEDKIT_TURNS, or set that to off.",
                problem=turn.problem,
            )
        )


register()
