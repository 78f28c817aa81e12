"""What is learnt: for each task its data, split and networks, in the module of its name.

A new task is a module here and a row in :data:`TASKS`. The module offers two functions: ``load(recipe)``, a generator
that yields :class:`Progress` and returns :class:`speedkit.tasks.data.Data`, and ``network(recipe, shape, classes,
inputs=None)``, which returns inputs [B, ...] -> logits [B, classes, ...], its weights drawn from torch's generator.
``shape``: of one input; ``inputs``: some of them, to normalise by, None if only the shapes matter.
"""

import re
from importlib import import_module
from typing import NamedTuple

from speedkit.support.messages import N_


class Progress(NamedTuple):
    """Work before the first step or after an epoch: ``done`` of ``total`` pieces of ``what``."""

    what: str
    done: int
    total: int


class Task(NamedTuple):
    """What a recipe and those who show it have to know of a task. The words are English, translated when shown."""

    sources: tuple[str, ...]  # what Recipe.data may be
    networks: tuple[str, ...]
    fields: tuple[str, ...]  # of a recipe, which only this task has a use for
    defaults: dict  # of a recipe's fields, where they are not its own
    without_norm: dict  # network -> why it has no batch norm
    unit: str  # what is counted per second
    rate: str  # the title of that figure
    accuracy: str
    target: str  # the title of the time until it is reached
    reads: str
    right: str = N_("accuracy")  # in a word or two
    units: str = ""  # the field of a recipe that says how many units a sample has; "": one


IMAGES = Task(
    sources=("fashion-mnist", "jpeg", "sqlite", "folder:PATH", "torchvision:NAME", "torchvision:NAME:PATH"),
    networks=("small", "wide", "mlp", "resnet18"),
    fields=("image_size", "stored_size", "shift", "channels_last"),
    defaults={},
    without_norm={},
    unit=N_("images/s"),
    rate=N_("images per second: {rate}"),
    accuracy=N_("validation accuracy"),
    target=N_("time to {share}% validation accuracy, preparation included"),
    reads=N_("images read from the source while training"),
)
TEXT = Task(
    sources=("text", "text-sqlite", "text:PATH"),
    networks=("transformer", "tcn"),
    fields=("context",),
    defaults={"model": "transformer", "optimizer": "adam", "learning_rate": 0.003, "subset": 10_000},
    without_norm={
        "transformer": N_(
            "a transformer normalises each position by itself (layer norm): the statistics of a batch of text vary too "
            "much, and would mix later positions into earlier ones"
        )
    },
    unit=N_("bytes/s"),
    rate=N_("bytes per second: {rate}"),
    accuracy=N_("validation accuracy, next byte"),
    right=N_("next byte"),
    target=N_("time to {share}% of next bytes right, preparation included"),
    reads=N_("windows read from the source while training"),
    units="context",
)
RATINGS = Task(
    sources=("ratings", "ratings-sqlite", "ratings:PATH"),
    networks=("embedding",),
    fields=("history",),
    defaults={"model": "embedding", "optimizer": "adam", "learning_rate": 0.003, "batch_size": 256, "epochs": 3},
    without_norm={},
    unit=N_("samples/s"),
    rate=N_("samples per second: {rate}"),
    accuracy=N_("validation hit@10"),
    right=N_("hit@10"),
    target=N_("time to {share}% validation hit@10, preparation included"),
    reads=N_("histories read from the source while training"),
)
TASKS = {"images": IMAGES, "text": TEXT, "ratings": RATINGS}
PARTS = {"PATH": ".+", "NAME": r"\w+"}  # of a source


def sources() -> tuple[str, ...]:
    """What ``Recipe.data`` may be, in all tasks."""
    return tuple(source for task in TASKS.values() for source in task.sources)


def name_of(data) -> str | None:
    """The name of the task of ``Recipe.data``; None if it is no source of any task."""
    for name, task in TASKS.items():
        if isinstance(data, str) and re.fullmatch("|".join(map(_pattern, task.sources)), data):
            return name
    return None


def _pattern(source):
    return re.sub("|".join(PARTS), lambda part: PARTS[part[0]], source)


def pattern() -> str:
    """What ``Recipe.data`` has to match."""
    return f"^({'|'.join(map(_pattern, sources()))})$"


def task_of(recipe) -> Task:
    """The row of a recipe's task."""
    return TASKS[name_of(recipe.data)]


def module_of(recipe):
    """The module of a recipe's task. It is loaded only now: no recipe needs the others."""
    return import_module(f"speedkit.tasks.{name_of(recipe.data)}")
