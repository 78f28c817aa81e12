"""What a run is: six switches, and everything that a comparison holds equal."""

from typing import Literal

from pydantic import Field, model_validator

from speedkit.support.messages import N_, Message, _, ngettext
from speedkit.support.settings import smoke
from speedkit.support.strict import Strict
from speedkit.tasks import TASKS, name_of, pattern, sources, task_of

SWITCHES = ("precision", "early_stopping", "augment", "batchnorm", "workers", "cache")
SOURCES = sources()
NETWORKS = tuple(network for task in TASKS.values() for network in task.networks)
DEVICES = ("auto", "cpu", "mps", "cuda", "cuda:N")


class Recipe(Strict):
    """One training run, described completely. With no argument it is the baseline: all six switches off.

    ``data`` decides the task: pictures, text or ratings. Each task has its own networks, and its own defaults for some
    fields (:data:`speedkit.tasks.TASKS`).

    Raises:
        ValueError: a value is not allowed, or the task has no use for it; the message names the field, the value and
            what is allowed.
    """

    # The six switches
    precision: Literal["fp32", "tf32", "fp16", "bf16"] = Field(
        "fp32", description=N_("number format of the arithmetic in a step")
    )
    early_stopping: int | None = Field(
        None, ge=1, le=1000, description=N_("patience: epochs without a better validation loss; none = off")
    )
    augment: Literal["off", "light", "heavy"] = Field(
        "off", description=N_("on the fly; light: random crop and flip of images; heavy: RandAugment as well")
    )
    batchnorm: bool = Field(False, description=N_("batch normalisation in the network"))
    workers: int = Field(0, ge=0, le=64, description=N_("worker processes that prepare batches"))
    cache: Literal["off", "disk", "ram", "device"] = Field("off", description=N_("where decoded samples are cached"))

    # The task
    data: str = Field(
        "fashion-mnist",
        pattern=pattern(),
        examples=SOURCES,
        description=N_("what to learn, and where it comes from"),
    )
    subset: int | None = Field(None, ge=1, le=10_000_000, description=N_("number of training samples; none = all"))
    image_size: int | None = Field(
        None, ge=8, le=1024, description=N_("size of the network's input in pixels; none = the source's own")
    )
    stored_size: int = Field(224, ge=28, le=1024, description=N_("size of the stored images in pixels (jpeg, sqlite)"))
    context: int = Field(64, ge=8, le=1024, description=N_("bytes that the network reads before each it predicts"))
    history: int = Field(20, ge=1, le=200, description=N_("most items of a user that the network sees"))
    model: Literal[NETWORKS] = Field("small", description=N_("network"))
    epochs: int = Field(2, ge=1, le=10_000, description=N_("maximum number of passes over the training samples"))
    steps: int | None = Field(None, ge=1, le=100_000_000, description=N_("maximum number of steps; none = no limit"))
    batch_size: int = Field(64, ge=1, le=65_536, description=N_("samples per step"))
    optimizer: Literal["sgd", "adam"] = Field("sgd", description=N_("sgd has Nesterov momentum 0.9"))
    learning_rate: float = Field(0.05, ge=1e-8, le=100, description=N_("learning rate; with one_cycle, its peak"))
    schedule: Literal["constant", "one_cycle"] = Field("constant", description=N_("how the learning rate changes"))
    weight_decay: float = Field(0.0, ge=0, le=10, description=N_("L2 penalty on the weights (not on biases and norms)"))
    seed: int = Field(
        0, ge=0, le=2**31 - 1, description=N_("seed of the weights, the order of the samples and augmentation")
    )
    device: str = Field(
        "auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", examples=DEVICES, description=N_("where to train")
    )

    # Settings of the techniques
    min_delta: float = Field(0.0, ge=0, le=100, description=N_("smallest drop in validation loss that counts"))
    shift: int = Field(2, ge=0, le=64, description=N_("largest shift of the random crop, in pixels"))
    cache_images: int | None = Field(None, ge=1, le=10_000_000, description=N_("samples the cache holds; none = all"))
    prefetch: int = Field(2, ge=1, le=64, description=N_("batches that each worker prepares in advance"))
    pin_memory: bool = Field(True, description=N_("page-locked batches, if the device is a CUDA GPU"))
    start_method: Literal["auto", "fork", "forkserver", "spawn"] = Field("auto", description=N_("how workers start"))
    channels_last: bool = Field(False, description=N_("store images and filters with the channels last"))
    allow_slow: bool = Field(False, description=N_("train even if fp16 was measured more than 3× slower than fp32"))
    test_at_end: bool = Field(False, description=N_("read the test set once, after the run"))

    def __init__(self, **values):  # by name only
        super().__init__(**values)

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_task(cls, values):
        name = name_of(values.get("data", cls.model_fields["data"].default))
        return values if name is None else TASKS[name].defaults | values

    @model_validator(mode="after")
    def _its_task_has_a_use_for_it(self):
        task = task_of(self)
        if self.model not in task.networks:
            words = N_("model={model} is not for data={data}: give {allowed}.")
            raise ValueError(Message(words, model=self.model, data=self.data, allowed=" | ".join(task.networks)))
        if self.batchnorm and self.model in task.without_norm:
            words = N_("batchnorm=True is not for model={model}: {why}.")
            raise ValueError(Message(words, model=self.model, why=Message(task.without_norm[self.model])))
        for name in self.unused():
            if (value := getattr(self, name)) != type(self).model_fields[name].default:
                words = N_("{name}={value} is not for data={data}: leave it out.")
                raise ValueError(Message(words, name=name, value=value, data=self.data))
        return self

    def unused(self) -> tuple[str, ...]:
        """The fields that only other tasks have a use for."""
        return tuple(name for task in TASKS.values() if task is not task_of(self) for name in task.fields)

    @model_validator(mode="after")
    def _a_batch_fits(self):
        if self.subset is not None and self.subset < self.batch_size:
            raise ValueError(
                Message(
                    "subset={subset} is smaller than batch_size={batch}: no whole batch would be left; raise subset or "
                    "lower batch_size.",
                    subset=self.subset,
                    batch=self.batch_size,
                )
            )
        return self

    def but(self, **changes) -> "Recipe":
        """A copy with some fields changed.

        With another task, what stood at the old one's default takes the new one's, and what only the old one had a use
        for is left out.

        Raises:
            ValueError: as for a new one.
        """
        values = self.model_dump()
        if name_of(changes.get("data", self.data)) != name_of(self.data):
            before = type(self)(data=self.data)
            stay = {name for name in values if name not in task_of(self).fields}
            values = {name: value for name, value in values.items() if name in stay and value != getattr(before, name)}
        return type(self)(**values | changes)

    def for_smoke(self) -> "Recipe":
        """The same recipe cut to a few steps on few images, for continuous integration."""
        batch = min(self.batch_size, 32)
        return self.but(
            batch_size=batch,
            subset=min(self.subset or 256, 256),
            stored_size=self.stored_size if "stored_size" in self.unused() else min(self.stored_size, 64),
            epochs=min(self.epochs, 2),
            steps=min(self.steps or 6, 6),
        )

    def effective(self) -> "Recipe":
        """The recipe as it is trained: itself or, with ``SPEEDKIT_SMOKE``, cut to a few steps."""
        return self.for_smoke() if smoke() else self

    def switches(self) -> dict:
        """The six switches and their values, in the order of the lessons."""
        return {name: getattr(self, name) for name in SWITCHES}

    def differences(self, other: "Recipe") -> dict:
        """The fields in which ``other`` differs: name -> (this value, other value)."""
        pairs = {name: (value, getattr(other, name)) for name, value in self}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    @property
    def units_per_step(self) -> int:
        """Images, bytes or samples in a batch, as its task counts them."""
        units = task_of(self).units
        return self.batch_size * (getattr(self, units) if units else 1)

    @property
    def label(self) -> str:
        """The switches that are on, in a few words of the current language; "baseline" if all are off."""
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
        return self.model_dump()

    @classmethod
    def from_dict(cls, values: dict) -> "Recipe":
        """The recipe that :meth:`to_dict` wrote; fields that are missing take their default.

        Raises:
            ValueError: a field is unknown or a value is not allowed.
        """
        return cls(**values)


TITLES = {  # translated where they are shown; a field without a title shows its name
    "precision": N_("Precision"),
    "early_stopping": N_("Early stopping"),
    "augment": N_("Augmentation"),
    "batchnorm": N_("Batch norm"),
    "workers": N_("Workers"),
    "cache": N_("Cache"),
    "data": N_("Data"),
    "subset": N_("Training samples"),
    "epochs": N_("Epochs"),
    "batch_size": N_("Batch size"),
    "learning_rate": N_("Learning rate"),
    "model": N_("Network"),
    "optimizer": N_("Optimizer"),
    "schedule": N_("Schedule"),
    "seed": N_("Seed"),
    "context": N_("Context (bytes)"),
    "history": N_("History (items)"),
}
VALUES = (N_("off"), N_("light"), N_("heavy"), N_("disk"), N_("ram"), N_("device"))  # translated as well
