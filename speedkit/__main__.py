"""Recipes from a terminal: ``python -m speedkit --precision bf16 --cache ram``.

``python -m speedkit check`` says whether this machine is ready.
"""

import argparse
import contextlib
import os
import sys
import tempfile
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import get_args

from tqdm import tqdm

from speedkit.hardware import machine
from speedkit.recipe import Recipe
from speedkit.run import Run
from speedkit.support.errors import NotFinite
from speedkit.support.explain import advice
from speedkit.support.messages import Message, _, language
from speedkit.support.output import EndingSignals, safe_output
from speedkit.support.settings import learner_folder
from speedkit.support.strict import choices
from speedkit.support.typed import parse
from speedkit.support.variables import processes
from speedkit.tasks import TASKS, Progress
from speedkit.train import train

KINDS = {bool: "on|off", int: "WHOLE", float: "NUMBER", str: "TEXT"}


def parser() -> argparse.ArgumentParser:
    """One option for each field of :class:`Recipe`."""
    options = argparse.ArgumentParser(
        prog="python -m speedkit",
        usage="%(prog)s check | [--option value ...] [--out FOLDER]",
        description="Train one recipe, show where its time goes, and save the run as JSON. "
        "With 'check': say whether this machine is ready, or what to fix.",
        argument_default=argparse.SUPPRESS,  # the task of the data decides some defaults
    )
    for name, field in Recipe.model_fields.items():
        kind, *__ = get_args(field.annotation) or [field.annotation]  # the first of an optional field's two types
        options.add_argument(
            f"--{name.replace('_', '-')}",
            type=partial(_typed, name),
            help=f"{field.description} (default: {_defaults(name)})",
            metavar=KINDS.get(kind) or "|".join(choices(field)),
        )
    folder = learner_folder()
    options.add_argument("--out", type=Path, default=folder, help=f"folder for the run's JSON file (default: {folder})")
    return options


def _defaults(name):
    first, *others = (getattr(Recipe(data=task.sources[0]), name) for task in TASKS.values())
    more = zip(list(TASKS)[1:], others, strict=True)
    return "".join([str(first), *(f"; {task}: {value}" for task, value in more if value != first)])


def _typed(name, text):
    try:
        return parse(Recipe, name, text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def main(arguments=None) -> int:
    """Trains and writes the run's JSON, or checks the machine.

    Returns 0 on success, 1 on failure, and 128 + its number if a signal ended the run (130 for an interrupt). However a
    run ends, its measurements are saved, and only then printed. All output is English, whatever the environment asks
    for. arguments: a list of texts; default: those of the command line.
    """
    with safe_output():
        return _main(sys.argv[1:] if arguments is None else list(arguments))


def _main(arguments):
    language("en")
    with contextlib.suppress(ImportError):  # announces this training to the kernels on this machine
        import speedkit.lab.queue  # noqa: F401
    try:
        options = vars(parser().parse_args(arguments)) if arguments != ["check"] else None
        several = processes() > 1
    except ValueError as error:
        print(f"speedkit: {error}", file=sys.stderr)
        return 1
    if options is None:
        from speedkit.classroom import check

        return check.main()
    out = options.pop("out")
    if several:
        print("speedkit trains on one device: start it without torchrun, or with --nproc-per-node=1.", file=sys.stderr)
        return 1
    run, code, said = None, 1, ""
    with EndingSignals() as signals:
        try:
            run = Run(Recipe(**options))
            out.mkdir(parents=True, exist_ok=True)
            print(f"{machine(run.recipe.device).sentence()}.")
            follow(run, signals)
            code = 0
        except (ValueError, NotFinite, OSError) as error:
            said = f"speedkit: {error}"
        except Exception as error:
            said = f"speedkit: {advice(error)}" if advice(error) else ""
            if not said and not signals.name:
                raise
        except KeyboardInterrupt:
            code = 130
        finally:
            signals.only_remember()
            if signals.name:  # a worker that got the same signal may have ended first
                said, code = "", 128 + signals.number
                if run is not None:
                    run.status, run.reason = "stopped", Message("stopped by {signal}", signal=signals.name)
            path = keep(run, out) if run is not None and run.count else None
            if said := "Stopped." if code >= 128 else said:
                print(said, file=sys.stdout if code >= 128 else sys.stderr)
            if path is not None:
                print(f"{run}\nThe run is in {path}")
    return code


def keep(run: Run, folder: Path) -> Path:
    """Saves a run in ``folder``, or among the temporary files if that fails; returns the path.

    Raises:
        OSError: neither folder can be written.
    """
    name = f"{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}.json"
    try:
        return run.save(folder / name)
    except OSError as error:
        print(f"speedkit: {folder} cannot be written ({error.strerror}).", file=sys.stderr)
        return run.save(Path(tempfile.gettempdir(), f"speedkit-{name}"))


def follow(run: Run, signals: EndingSignals):
    """Trains ``run.recipe`` with a progress bar in the terminal, to its end or until a signal has come."""
    with contextlib.closing(train(run.recipe, run)) as records, tqdm(unit=" steps", dynamic_ncols=True) as bar:
        said = 0
        for record in records:
            if signals.name:  # the exception was lost, for example in a destructor
                break
            for note in run.notes[said:]:  # what was taken, while there is still time to stop
                bar.write(_(note), file=sys.stderr)
                said += 1
            if isinstance(record, Progress):
                bar.set_description(f"{record.done:,} of {record.total:,} {record.what}", refresh=False)
                bar.update(0)
                continue
            bar.total = run.total_steps
            bar.update(run.count - bar.n)
            accuracy = run.last("validation_accuracy")
            bar.set_description(
                f"validation accuracy {accuracy:.1%}" if accuracy == accuracy else "training", refresh=False
            )


if __name__ == "__main__":
    sys.exit(main())
