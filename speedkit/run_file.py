"""The file of a run: its recipe, its machine, and its columns as JSON."""

import math
from array import array
from pathlib import Path

from pydantic import field_validator

from speedkit.recipe import Recipe
from speedkit.run import EPOCH_COLUMNS, STEP_COLUMNS, Run
from speedkit.support.files import ListOf, NanAsNull, StoredMessage, fields_of, reading, save_json
from speedkit.support.messages import N_
from speedkit.support.strict import Strict

LATER = ("load_s", "read_s", "augment_s")  # columns that the first files of this format lack
FORMAT = 2  # in format 1, scalars were called figures, and notes and reason were plain English


class RunFile(Strict):
    """What the file holds, by the names of the run's attributes."""

    recipe: Recipe
    name: str = ""
    machine: dict
    status: str
    reason: StoredMessage
    started: str
    notes: ListOf[StoredMessage]
    smoke: bool
    total_steps: int | None
    scalars: dict[str, NanAsNull]
    steps: dict[str, ListOf[NanAsNull]]
    epochs: dict[str, ListOf[NanAsNull]]

    @field_validator("steps", "epochs")
    @classmethod
    def _one_length(cls, columns):
        if len({len(column) for column in columns.values()}) > 1:
            raise ValueError(N_("the columns differ in length."))
        return columns


def save(run: Run, path) -> Path:
    """Writes a run as JSON, the whole file or none, and returns the path."""
    columns = {"steps": run.columns(*STEP_COLUMNS), "epochs": run.epoch_columns(*EPOCH_COLUMNS)}
    lists = {name: {each: column.tolist() for each, column in some.items()} for name, some in columns.items()}
    content = RunFile.model_construct(**vars(run) | lists)
    return save_json(path, {"format": FORMAT, "kind": "run"} | content.model_dump())


def load(path) -> Run:
    """The run that :func:`save` wrote; errors as in :meth:`speedkit.Run.load`."""
    with reading(path, "a run"):
        fields, format = fields_of(Path(path).read_bytes(), "run", FORMAT)
        if format == 1:
            fields["scalars"] = fields.pop("figures")
        content = RunFile(**fields)
        run = Run(content.recipe)
        vars(run).update(content)
        run.steps = _columns(content.steps, STEP_COLUMNS)
        run.epochs = _columns(content.epochs, EPOCH_COLUMNS)
    run.count = len(run.steps["t"])
    return run


def _columns(stored, names):
    unknown = dict.fromkeys(LATER, [math.nan] * len(stored["t"]))
    return {name: array("d", (unknown | stored)[name]) for name in names}
