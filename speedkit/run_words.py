"""What a run says of itself: its summary, its notes, and where the time of a step goes."""

import math

from markupsafe import Markup

from speedkit.meter import other_programs_note
from speedkit.support.messages import N_, _, ngettext
from speedkit.support.output import printable
from speedkit.support.table import Table
from speedkit.support.units import number, percent, seconds, size

EARLY = 20  # steps: before that, a few slow ones decide
LITTLE = 0.05  # of a step: waiting that nobody needs advice about


def where_time_goes(run) -> str:
    """See :meth:`speedkit.Run.where_time_goes`.

    A share of the step is the most that a technique can save: all of the reading by a cache, all of the waiting by
    workers, all of the computing by a cheaper step (Amdahl 1967). What is on already is not advised again.
    """
    share = run.waiting_share
    if run.count < EARLY or not math.isfinite(share):
        return _("Where the time goes is known from step {step} on.", step=EARLY)
    if run.scalars.get("host_bound", 0.0) >= 0.5:
        return _(
            "The GPU had nothing queued after most steps: the processor orders work more slowly than the GPU does it. "
            "A larger batch or a larger network helps; a cheaper format does not."
        )
    reading, augmenting = _split(run, share)
    shares = {"waiting": share, "computing": 1 - share, "reading": reading, "augmenting": augmenting}
    shown = {name: f"{100 * value:.0f}" for name, value in shares.items() if math.isfinite(value)}
    if share < LITTLE or "reading" not in shown:
        words = [_("{waiting}% of a step is waiting for data, {computing}% computing.", **shown)]
    else:
        split = _(
            "{waiting}% of a step is waiting for data ({reading}% reading, {augmenting}% augmenting), {computing}% "
            "computing.",
            **shown,
        )
        words = [split]
    if share >= LITTLE:
        words.append(_about_loading(run, shown))
    if share < 0.95:
        words.append(_("A cheaper step can save at most {computing}%.", **shown))
    return " ".join([*words, *_about_the_end(run)])


def _split(run, share):
    """The shares of a step in which the loop waits for reading and for augmenting; nan if they were not timed."""
    read, augment = (column[1:].sum() for column in run.columns("read_s", "augment_s").values())
    known = read + augment > 0 and math.isfinite(read + augment)
    return (share * read / (read + augment), share * augment / (read + augment)) if known else (math.nan, math.nan)


def _about_loading(run, shown):
    recipe, cores = run.recipe, run.machine.get("cores", 1)
    cache = recipe.cache == "off" and shown.get("reading", "?") != "0"
    most = cores if run.machine.get("device") != "cpu" else cores - 1  # on a CPU, the training itself needs one
    workers = recipe.cache != "device" and recipe.workers < most
    if cache and workers and "reading" in shown:
        return _("A cache can save at most {reading}%, workers at most {waiting}%.", **shown)
    if cache and workers:
        return _("A cache or workers can save at most {waiting}%.", **shown)
    if cache:
        return _("A cache can save at most {reading}%.", reading=shown.get("reading", shown["waiting"]))
    if workers and recipe.workers:
        return _("More workers can save at most {waiting}%.", **shown)
    if workers:
        return _("Workers can save at most {waiting}%.", **shown)
    return _("Only smaller images or lighter augmentation can still shorten the waiting.")


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
        N_("throughput"): f"{number(run.mean('images_per_s'))} images/s",
        N_("memory of one training step, counted"): size(figures.get("step_memory")),
        memory: size(figures.get("peak_memory")),
        N_("accuracy"): _(
            "validation {validation}, training {training}",
            validation=percent(run.last("validation_accuracy")),
            training=percent(run.last("train_accuracy")),
        ),
        N_("where the time goes"): where_time_goes(run),
    }
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
