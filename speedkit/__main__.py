"""Recipes from a terminal: ``python -m speedkit --precision bf16 --cache ram``.

``python -m speedkit check`` says whether this machine is ready.
"""

import argparse
import contextlib
import os
import sys
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
from speedkit.support.messages import language
from speedkit.support.settings import learner_folder
from speedkit.support.strict import choices
from speedkit.support.typed import parse
from speedkit.tasks import Progress
from speedkit.train import train

KINDS = {bool: "on|off", int: "WHOLE", float: "NUMBER", str: "TEXT"}


def parser() -> argparse.ArgumentParser:
    """One option for each field of :class:`Recipe`."""
    options = argparse.ArgumentParser(
        prog="python -m speedkit",
        usage="%(prog)s check | [--option value ...] [--out FOLDER]",
        description="Train one recipe, show where its time goes, and save the run as JSON. "
        "With 'check': say whether this machine is ready, or what to fix.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    for name, field in Recipe.model_fields.items():
        kind, *__ = get_args(field.annotation) or [field.annotation]  # the first of an optional field's two types
        options.add_argument(
            f"--{name.replace('_', '-')}",
            default=field.default,
            type=partial(_typed, name),
            help=field.description,
            metavar=KINDS.get(kind) or "|".join(choices(field)),
        )
    options.add_argument("--out", type=Path, default=learner_folder(), help="folder for the run's JSON file")
    return options


def _typed(name, text):
    try:
        return parse(Recipe, name, text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def main(arguments=None) -> int:
    """Trains and writes the run's JSON, or checks the machine; returns 0 on success, 1 on failure, 130 if interrupted.

    However a run ends, its measurements are saved. All output is English, whatever the environment asks for.
    arguments: a list of texts; default: those of the command line.
    """
    language("en")
    with contextlib.suppress(ImportError):  # announces this training to the kernels on this machine
        import speedkit.lab.queue  # noqa: F401
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments == ["check"]:
        from speedkit.classroom import check

        return check.main()
    options = vars(parser().parse_args(arguments))
    out = options.pop("out")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        print("speedkit trains on one device: start it without torchrun, or with --nproc-per-node=1.", file=sys.stderr)
        return 1
    run, code = None, 1
    try:
        run = Run(Recipe(**options))
        out.mkdir(parents=True, exist_ok=True)
        print(f"{machine(run.recipe.device).sentence()}.")
        follow(run)
        code = 0
    except (ValueError, NotFinite, OSError) as error:
        print(f"speedkit: {error}", file=sys.stderr)
    except Exception as error:
        if not (known := advice(error)):
            raise
        print(f"speedkit: {known}", file=sys.stderr)
    except KeyboardInterrupt:
        print("Stopped.")
        code = 130
    finally:
        if run is not None and run.count:
            print(run)
            print(f"The run is in {run.save(out / f'{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}.json')}")
    return code


def follow(run: Run):
    """Trains ``run.recipe`` with a progress bar in the terminal."""
    with contextlib.closing(train(run.recipe, run)) as records, tqdm(unit=" steps", dynamic_ncols=True) as bar:
        for record in records:
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
