"""What a run is: six switches, and everything else that a comparison holds equal."""

import dataclasses
import difflib
import math
import numbers
import re
from dataclasses import dataclass, field

from speedkit.support.messages import Message, N_, _, ngettext
from speedkit.support.settings import smoke

SWITCHES = ("precision", "early_stopping", "augment", "batchnorm", "workers", "cache")
DATA = ("fashion-mnist", "jpeg", "sqlite", "folder:PATH", "torchvision:NAME", "torchvision:NAME:PATH")


def _field(default, help, **rule):
    return field(default=default, metadata={"help": help, **rule})


def _choice(default, choices, help):
    return _field(default, help, kind="choice", choices=choices)


def _whole(default, low, high, help, optional=False):
    return _field(default, help, kind="whole", low=low, high=high, optional=optional)


def _number(default, low, high, help):
    return _field(default, help, kind="number", low=low, high=high)


def _flag(default, help):
    return _field(default, help, kind="flag")


def _text(default, pattern, allowed, help):
    return _field(default, help, kind="text", pattern=pattern, allowed=allowed)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training run, described completely. With no argument it is the baseline: all six switches off.

    Raises:
        ValueError: a value is not allowed; the message names the field, the value and what is allowed.
    """

    # The six switches
    precision: str = _choice("fp32", ("fp32", "tf32", "fp16", "bf16"), "number format of the arithmetic in a step")
    early_stopping: int | None = _whole(
        None, 1, 1000, "epochs without a better validation loss after which the run ends; none = off", optional=True
    )
    augment: str = _choice("off", ("off", "light", "heavy"), "light: random crop and flip; heavy: RandAugment")
    batchnorm: bool = _flag(False, "batch normalisation in the network")
    workers: int = _whole(0, 0, 64, "processes that prepare batches beside the training process")
    cache: str = _choice("off", ("off", "disk", "ram", "device"), "where decoded images are kept")

    # The task
    data: str = _text(
        "fashion-mnist",
        r"fashion-mnist|jpeg|sqlite|folder:.+|torchvision:\w+(:.+)?",
        " | ".join(DATA),
        "where the images come from",
    )
    subset: int | None = _whole(None, 1, 10_000_000, "number of training images; none = all", optional=True)
    image_size: int | None = _whole(
        None, 8, 1024, "pixels a side that the network sees; none = the source's own", optional=True
    )
    stored_size: int = _whole(224, 28, 1024, "pixels a side of the stored images, for jpeg and sqlite")
    model: str = _choice("small", ("small", "wide", "mlp", "resnet18"), "network")
    epochs: int = _whole(2, 1, 10_000, "passes over the training images, at most")
    steps: int | None = _whole(None, 1, 100_000_000, "steps, at most; none = no limit", optional=True)
    batch_size: int = _whole(64, 1, 65_536, "images a step")
    optimizer: str = _choice("sgd", ("sgd", "adam"), "sgd has Nesterov momentum 0.9")
    learning_rate: float = _number(0.05, 1e-8, 100.0, "learning rate; with one_cycle, its peak")
    schedule: str = _choice("constant", ("constant", "one_cycle"), "how the learning rate moves during the run")
    weight_decay: float = _number(0.0, 0.0, 10.0, "L2 penalty on the weights (not on biases and norms)")
    seed: int = _whole(0, 0, 2**31 - 1, "seed of the weights, the order of images and the augmentation")
    device: str = _text("auto", r"auto|cpu|mps|cuda(:\d+)?", "auto | cpu | mps | cuda | cuda:N", "where to train")

    # Settings of the techniques
    min_delta: float = _number(0.0, 0.0, 100.0, "smallest fall of the validation loss that counts as better")
    shift: int = _whole(2, 0, 64, "largest shift of the random crop, in pixels")
    cache_images: int | None = _whole(None, 1, 10_000_000, "images that fit in the cache; none = all", optional=True)
    prefetch: int = _whole(2, 1, 64, "batches that each worker prepares ahead")
    pin_memory: bool = _flag(True, "page-locked batches, where the device is a CUDA GPU")
    start_method: str = _choice("auto", ("auto", "fork", "forkserver", "spawn"), "how worker processes are started")
    channels_last: bool = _flag(False, "store images and filters channels last")
    allow_slow: bool = _flag(False, "train also where three steps in fp16 were timed at over three times fp32's here")
    test_at_end: bool = _flag(False, "read the test set once, after the run")

    def __post_init__(self):
        for f in dataclasses.fields(self):
            object.__setattr__(self, f.name, _checked(f, getattr(self, f.name)))
        if self.subset is not None and self.subset < self.batch_size:
            raise ValueError(
                Message(
                    "subset={subset} is smaller than batch_size={batch}: no whole batch would be left; raise subset or "
                    "lower batch_size.",
                    subset=self.subset,
                    batch=self.batch_size,
                )
            )

    def but(self, **changes) -> "Recipe":
        """A copy with some fields changed: ``recipe.but(precision="bf16")``.

        Raises:
            ValueError: a field is unknown or a value is not allowed.
        """
        known = [f.name for f in dataclasses.fields(self)]
        for name in changes:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"the fields are {', '.join(known)}."
                raise ValueError(f"Recipe has no field {name!r}: {hint}")
        return dataclasses.replace(self, **changes)

    def for_smoke(self) -> "Recipe":
        """The same recipe cut to a few steps on few images, for continuous integration."""
        batch = min(self.batch_size, 32)
        return self.but(
            batch_size=batch,
            subset=min(self.subset or 256, 256),
            stored_size=min(self.stored_size, 64),
            epochs=min(self.epochs, 2),
            steps=min(self.steps or 6, 6),
        )

    def effective(self) -> "Recipe":
        """What a run of it trains: the same recipe or, where ``SPEEDKIT_SMOKE`` asks for it, its cut."""
        return self.for_smoke() if smoke() else self

    def switches(self) -> dict:
        """The six switches and their values, in the order of the lessons."""
        return {name: getattr(self, name) for name in SWITCHES}

    def differences(self, other: "Recipe") -> dict:
        """The fields in which ``other`` differs: name -> (this value, other value)."""
        pairs = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in dataclasses.fields(self)}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    @property
    def label(self) -> str:
        """The switches that are on, in a few words of the language in force; "baseline" where none is."""
        words = [
            self.precision if self.precision != "fp32" else "",
            _("early stopping {patience}", patience=self.early_stopping) if self.early_stopping else "",
            _("{kind} augmentation", kind=_(self.augment)) if self.augment != "off" else "",
            _("batch norm") if self.batchnorm else "",
            ngettext("{n} worker", "{n} workers", self.workers) if self.workers else "",
            _("{place} cache", place=_(self.cache)) if self.cache != "off" else "",
        ]
        return " + ".join(filter(None, words)) or _("baseline")

    def to_dict(self) -> dict:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "Recipe":
        """The recipe that :meth:`to_dict` wrote; fields that are missing take their default.

        Raises:
            ValueError: a field is unknown or a value is not allowed.
        """
        return cls().but(**values)


def parse(f: dataclasses.Field, text: str):
    """The value that ``text``, typed in a terminal, means for a field of :class:`Recipe`.

    Raises:
        ValueError: the text does not fit the field.
    """
    rule = f.metadata
    value = text
    try:
        if rule["kind"] == "flag":
            value = {"true": True, "on": True, "false": False, "off": False}.get(text.lower(), text)
        elif rule.get("optional") and text.lower() in ("none", "off", "all", ""):
            value = None
        elif rule["kind"] == "whole":
            value = int(text)
        elif rule["kind"] == "number":
            value = float(text)
    except ValueError:
        pass  # the check below says what is allowed
    return _checked(f, value)


def _checked(f, value):
    rule, kind = f.metadata, f.metadata["kind"]
    if value is None and rule.get("optional"):
        return None
    if kind == "choice":
        if isinstance(value, str) and value in rule["choices"]:
            return str(value)
        allowed = " | ".join(rule["choices"])
    elif kind == "flag":
        if isinstance(value, bool):
            return value
        allowed = "True | False"
    elif kind == "text":
        if isinstance(value, str) and re.fullmatch(rule["pattern"], value):
            return str(value)
        allowed = rule["allowed"]
    else:
        number = _number_of(value, whole=kind == "whole")
        if number is not None and rule["low"] <= number <= rule["high"]:
            return number
        ends = {"low": rule["low"], "high": rule["high"]}
        if rule.get("optional"):
            allowed = Message("a whole number from {low} to {high}, or None", **ends)
        elif kind == "whole":
            allowed = Message("a whole number from {low} to {high}", **ends)
        else:
            allowed = Message("a number from {low} to {high}", **ends)
    try:
        shown = repr(value)
    except ValueError:  # Python does not write out whole numbers of more than 4,300 digits
        shown = "a number of thousands of digits"
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    values = {"name": f.name, "value": shown, "allowed": allowed}
    raise ValueError(Message("{name}={value} is not allowed: give {allowed}.", **values))


def _number_of(value, whole):
    if isinstance(value, bool) or not isinstance(value, numbers.Integral if whole else numbers.Real):
        return None
    try:
        number = int(value) if whole else float(value)
    except OverflowError:
        return None
    return number if whole or math.isfinite(number) else None


TITLES = {  # retold where they are shown; a field without a title shows its name
    "precision": N_("Precision"),
    "early_stopping": N_("Early stopping"),
    "augment": N_("Augmentation"),
    "batchnorm": N_("Batch norm"),
    "workers": N_("Workers"),
    "cache": N_("Cache"),
    "data": N_("Images from"),
    "subset": N_("Training images"),
    "epochs": N_("Epochs"),
    "batch_size": N_("Batch size"),
    "learning_rate": N_("Learning rate"),
    "model": N_("Network"),
    "optimizer": N_("Optimizer"),
    "schedule": N_("Schedule"),
    "seed": N_("Seed"),
}
