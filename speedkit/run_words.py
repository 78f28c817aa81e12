"""What a run says of itself: its summary, its notes, and where the time of a step goes."""

import math

import numpy as np
from markupsafe import Markup

from speedkit.run import DISTURBED
from speedkit.support.messages import N_, Message, _, ngettext, template
from speedkit.support.output import printable
from speedkit.support.table import Table
from speedkit.support.units import number, percent, seconds, size
from speedkit.tasks import task_of

EARLY = 20  # steps: before that, a few slow ones decide
LITTLE = 0.05  # of a step: waiting that nobody needs advice about
BOTH = {  # (whether a cache can save as much as workers, whether there are some already)
    (True, False): N_("A cache or workers can save at most {waiting}%."),
    (True, True): N_("A cache or more workers can save at most {waiting}%."),
    (False, False): N_("A cache can save at most {cache}%, workers at most {waiting}%."),
    (False, True): N_("A cache can save at most {cache}%, more workers at most {waiting}%."),
}
OTHER_PROGRAMS = N_(
    "Other programs took {share}% of the processor time that this run needed: close them and run again before you "
    "trust its times."
)
OTHER_PROGRAMS_MAYBE = N_(
    "Other programs may have taken {share}% of the processor time that this run needed: close them and run again "
    "before you trust its times."
)
HOST_BOUND = N_(
    "The GPU had nothing queued after most steps: the processor orders work more slowly than the GPU does it. "
    "A larger batch or a larger network helps; a cheaper format does not."
)


def disturbance(share: float, waiting_is_counted: bool) -> Message:
    """The note of a run of whose processor time other programs took a share above ``DISTURBED``."""
    return Message(OTHER_PROGRAMS if waiting_is_counted else OTHER_PROGRAMS_MAYBE, share=f"{100 * share:.0f}")


def other_programs_note(notes: list[str]) -> str:
    """The note on other programs among those of a run or a comparison; "" if there is none."""
    return next((note for note in notes if template(note) in (OTHER_PROGRAMS, OTHER_PROGRAMS_MAYBE)), "")


def is_disturbed(run) -> bool:
    """Whether other programs took so much of the processor time a run needed that its times cannot be trusted."""
    return run.scalars.get("others_share", 0.0) > DISTURBED


def is_host_bound(run) -> bool:
    """Whether the GPU had nothing queued after most steps; on a CPU, and where it is not known: False."""
    return run.scalars.get("host_bound", 0.0) >= 0.5


def where_time_goes(run) -> str:
    """See :meth:`speedkit.Run.where_time_goes`.

    A share of the step is the most that a technique can save: all of the waiting by workers, all of the computing by a
    cheaper step (Amdahl 1967), all of the reading by a cache. What is on already is not advised again.
    """
    return " ".join([*_about_the_steps(run), *_about_the_end(run)])


def _about_the_steps(run):
    share = run.waiting_share
    if run.count < EARLY or not math.isfinite(share):
        yield _("Where the time goes is known from step {step} on.", step=EARLY)
        return
    reading, augmenting, kept = _split(run, share)
    shares = {"waiting": share, "computing": 1 - share, "reading": reading, "augmenting": augmenting, "cache": kept}
    shown = {name: f"{100 * value:.0f}" for name, value in shares.items() if math.isfinite(value)}
    if share < LITTLE or "reading" not in shown or shown["reading"] == shown["augmenting"] == "0":
        yield _("{waiting}% of a step is waiting for data, {computing}% computing.", **shown)
    else:
        yield _(
            "{waiting}% of a step is waiting for data ({reading}% reading, {augmenting}% augmenting), {computing}% "
            "computing.",
            **shown,
        )
    if share >= LITTLE:
        yield from _about_loading(run, shown)
    if is_host_bound(run):
        yield _(HOST_BOUND)
    elif share < 0.95:
        yield _("A cheaper step can save at most {computing}%.", **shown)


def _split(run, share):
    """The shares of a step in which the loop waits for reading and for augmenting, and what a cache can save of it.

    nan if they were not timed. Where batches are prepared ahead, by workers or while a GPU computes, the waiting is
    what is left of both, so it is divided in proportion. A cache may then save all of it: what it takes off a batch is
    the time of reading, of which ``workers`` processes do as many at a time.
    """
    names = ("wait_s", "step_s", "read_s", "augment_s")
    columns = np.array([column[1:] for column in run.columns(*names).values()])
    __, step, read, augment = columns[:, np.isfinite(columns).all(axis=0)].sum(axis=1)
    if not step:
        return math.nan, math.nan, math.nan
    read, augment = read / step, augment / step
    left = min(1.0, share / (read + augment)) if read + augment else 0.0
    return left * read, left * augment, min(share, read / max(1, run.recipe.workers))


def _about_loading(run, shown):
    recipe, cores = run.recipe, run.machine.get("cores", 1)
    for_workers = cores if run.machine.get("device") != "cpu" else cores - 1  # on a CPU, the training itself needs one
    free = recipe.workers < for_workers and not is_disturbed(run)
    cache, workers = recipe.cache == "off" and shown.get("cache") != "0", recipe.cache != "device" and free
    most = {"cache": shown["waiting"]} | shown  # if reading was not timed, it may be all of the waiting
    if cache and workers:
        yield _(BOTH[most["cache"] == most["waiting"], recipe.workers > 0], **most)
    elif cache:
        yield _("A cache can save at most {cache}%.", **most)
    elif workers:
        one, more = N_("Workers can save at most {waiting}%."), N_("More workers can save at most {waiting}%.")
        yield _(more if recipe.workers else one, **most)
    if recipe.cache in ("disk", "ram") and shown.get("reading", "0") != "0":
        yield _("The cache is filled in the first epoch: later ones have less to read.")
    elif not cache and not workers:
        if recipe.cache != "device":
            yield _("No core is free for more workers.") if recipe.workers else _("No core is free for workers.")
        yield _("Smaller images or lighter augmentation can still shorten the waiting.")


def _about_the_end(run):
    epochs, total = len(run.epoch_column("t")), run.total_steps or math.inf
    best = run.scalars.get("best_epoch", math.nan)
    if run.status == "finished" and run.recipe.early_stopping and math.isfinite(best):
        figures = {"epoch": epochs, "epochs": run.recipe.epochs, "best": int(best) + 1}
        if epochs < run.recipe.epochs and run.count < total:
            yield _(
                "Early stopping ended the run after epoch {epoch} of {epochs}, and kept the weights of epoch {best}.",
                **figures,
            )
        else:
            yield _("Early stopping did not end the run; it kept the weights of epoch {best}.", **figures)


def summary(run) -> dict[str, str]:
    """See :meth:`speedkit.Run.summary`."""
    figures, status = run.scalars, _(run.status)
    if run.reason:
        status = _("{what}: {text}", what=status, text=_(run.reason))
    of_processes = run.memory_is_of_processes
    memory = N_("peak memory of the processes") if of_processes else N_("peak memory on the device")
    rows = {
        N_("run"): f"{run.label} ({status})",
        N_("time"): _(
            "{time} for {steps} in {epochs}, after {preparation} of preparation",
            time=seconds(run.seconds),
            steps=ngettext("{n} step", "{n} steps", run.count),
            epochs=ngettext("{n} epoch", "{n} epochs", len(run.epochs["t"])),
            preparation=seconds(figures.get("prepare_s")),
        ),
        N_("time per step"): _(
            "{waiting} waiting for data + {computing} computing (means)",
            waiting=seconds(run.mean("wait_s")),
            computing=seconds(run.mean("compute_s")),
        ),
        N_("throughput"): f"{number(run.mean('images_per_s'))} {_(task_of(run.recipe).unit)}",
        N_("memory of one training step, counted"): size(figures.get("step_memory")),
        memory: size(figures.get("peak_memory")),
        N_("accuracy"): _(
            "validation {validation}, training {training}",
            validation=percent(run.last("validation_accuracy")),
            training=percent(run.last("train_accuracy")),
        ),
        N_("where the time goes"): where_time_goes(run),
    }
    if math.isfinite(figures.get("trivial_accuracy", math.nan)):
        rows["accuracy"] += _(", without learning {trivial}", trivial=percent(figures["trivial_accuracy"]))
    if "test_accuracy" in figures:
        rows["accuracy"] += _(", test {test}", test=percent(figures["test_accuracy"]))
    if math.isfinite(figures.get("energy_j", math.nan)):
        rows[N_("energy")] = _("{joules} J on the GPU", joules=f"{figures['energy_j']:.0f}")
    if run.smoke:
        rows[N_("smoke")] = _("cut to a few steps by SPEEDKIT_SMOKE: these numbers mean nothing")
    return rows


def _table(run):
    first, *rows = ([_(name), text] for name, text in summary(run).items())
    return Table(first, rows)


def text(run) -> str:
    """A run as a terminal shows it: what disturbed it, its figures, the other notes."""
    first, others = _notes(run)
    return printable("\n".join([*first, repr(_table(run)), *others]))


def html(run) -> str:
    """The same as a notebook shows it."""
    first, others = (Markup("").join(Markup("<p>{}</p>").format(note) for note in notes) for notes in _notes(run))
    return first + Markup(_table(run)._repr_html_()) + others


def _notes(run):
    disturbance = other_programs_note(run.notes)
    others = [_(note) for note in run.notes if note != disturbance]
    return ([_(disturbance)] if disturbance else []), others
