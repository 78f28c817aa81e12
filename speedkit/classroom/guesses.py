"""What a learner expects of a technique: how it is stored, and how it is scored."""

import math
import numbers
import os
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, model_validator

from speedkit.comparison.metrics import DIRECTIONS, HIGHER, LOWER, METRICS, NO_DIFFERENCE, SAME, WITHOUT_VERDICT
from speedkit.comparison.result import Comparison
from speedkit.comparison.stats import margin_of
from speedkit.recipe import SWITCHES, Recipe
from speedkit.support.files import fields_of, reading, save_json
from speedkit.support.messages import _
from speedkit.support.settings import learner_folder
from speedkit.support.strict import Strict

FORMAT = 1
CASE = r"^([A-Za-z0-9][A-Za-z0-9 -]{0,39})?$"
LARGEST_FILE = 10_000  # bytes; a guess takes about 200
LARGEST_FACTOR, LARGEST_POINTS = 1e6, 100.0


# Storing


class Guess(Strict):
    """One commitment: what a technique will do to a metric.

    size: variant / baseline, or for accuracy the difference in points; None for a direction only. case: tells two
    guesses about the same technique and metric apart. committed: when, ISO 8601 with a time zone; "" before that.

    Raises:
        ValueError: a value is not allowed, or direction and size contradict each other.
    """

    technique: Literal[SWITCHES]
    metric: Literal[tuple(METRICS)]
    direction: Literal[DIRECTIONS]
    size: float | None
    case: str = Field(pattern=CASE, examples=["up to 40 letters, digits, spaces and hyphens"])
    committed: str

    @model_validator(mode="after")
    def _direction_and_size_agree(self):
        if self.size is not None:
            size = _size(self.metric, self.size)
            if _direction(self.metric, size) != self.direction or self.direction == SAME:
                raise ValueError(
                    f"{self.metric}: {self.direction!r} and {_in_words(self.metric, size)} contradict each other: "
                    f"{_how(self.metric)}"
                )
        return self

    @property
    def path(self) -> Path:
        """The file in which it is saved."""
        name = "-".join(filter(None, (self.technique, self.metric, self.case.lower().replace(" ", "_"))))
        return learner_folder() / "predictions" / f"{name}.json"

    def __str__(self):
        direction = _(self.direction)
        return direction if self.size is None else f"{direction}, {_in_words(self.metric, self.size)}"

    def is_late(self, comparison: Comparison) -> bool:
        """Whether it was committed after the comparison had begun."""
        committed, started = moment(self.committed), moment(comparison.started)
        return bool(committed and started and committed > started)

    def save(self):
        """Writes the file, whole or not at all. Anything else of the same name is moved aside.

        Raises:
            OSError: the folder cannot be written.
        """
        if os.path.lexists(self.path):
            asides = (self.path.with_name(f"{self.path.name}.unreadable-{n}") for n in range(1, 1000))
            self.path.rename(next(aside for aside in asides if not os.path.lexists(aside)))
        save_json(self.path, {"format": FORMAT, "kind": "prediction"} | self.model_dump())

    @classmethod
    def load(cls, path) -> "Guess":
        """The guess that :meth:`save` wrote.

        Raises:
            ValueError: the file does not hold a guess; the message names the file and the fault.
            OSError: the file cannot be read.
        """
        path = Path(path)
        with reading(path, "a prediction"):
            if not path.is_file():
                raise ValueError("it is not a file.")
            with open(path, "rb") as file:
                content = file.read(LARGEST_FILE + 1)
            if len(content) > LARGEST_FILE:
                raise ValueError("it is too long.")
            found, __ = fields_of(content, "prediction", FORMAT)
            guess = cls(**found)
            if moment(guess.committed) is None:
                raise ValueError(f"committed={guess.committed[:40]!r} is no moment in time.")
            return guess


def read_guess(metric, value):
    """The value that a learner gave, as (direction, size or None).

    Raises:
        ValueError: the value is not allowed.
    """
    if isinstance(value, str) and value in DIRECTIONS:
        return value, None
    if isinstance(value, tuple | list) and len(value) == 2 and value[0] in DIRECTIONS:
        size = _size(metric, value[1])
        if value[0] != _direction(metric, size):
            raise ValueError(f"{metric}={str(value)[:40]} contradicts itself: {_how(metric)}")
    else:
        size = _size(metric, value)
    direction = _direction(metric, size)
    return direction, None if direction == SAME else size


def _size(metric, value):
    usable = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if METRICS[metric].is_ratio:
        usable = usable and 1 / LARGEST_FACTOR <= value <= LARGEST_FACTOR
    else:
        usable = usable and abs(value) <= LARGEST_POINTS
    if not usable:
        raise ValueError(
            f"{metric}={str(value)[:40]!r} is not allowed: give lower | higher | same, or a number: {_how(metric)}"
        )
    return float(value)


def _direction(metric, size):
    nothing = 1.0 if METRICS[metric].is_ratio else 0.0
    return LOWER if size < nothing else HIGHER if size > nothing else SAME


def _how(metric):
    if METRICS[metric].is_ratio:
        return "0.5 is half of the baseline's, 2 is twice as much."
    return "-1.5 is one and a half points lower than the baseline, 1.5 that much higher."


def _in_words(metric, size):
    if size is None:
        return _(SAME)
    return f"× {size:.3g}" if METRICS[metric].is_ratio else _("{difference} points", difference=f"{size:+.3g}")


def moment(text: str) -> datetime | None:
    """The moment that an ISO 8601 text with a time zone means; None for any other text."""
    try:
        moment = datetime.fromisoformat(text)
    except (ValueError, TypeError):
        return None
    return moment if moment.tzinfo else None


# Scoring


class Score(NamedTuple):
    """``points`` out of ``of``, which is 0 without a score, and a sentence that says why."""

    points: int
    of: int
    sentence: str


def score(guess: Guess | None, comparison: Comparison) -> Score:
    """How far a guess agrees with a comparison, by the rules in :mod:`speedkit.classroom.prediction`."""
    if guess is None:
        return Score(0, 0, _("No prediction was made."))
    row = comparison.row(guess.metric)
    if why := _unscored(guess, comparison, row):
        return Score(0, 0, _("No score: {why}.", why=why))
    effect, right = row.texts()[2], _direction_is_right(guess, row)
    if right is None:
        return Score(0, 0, _("No score: the runs vary too much to tell."))
    of = 1 if guess.size is None else 2
    if not right:
        return Score(0, of, _feedback_for_miss(guess, row, effect))
    if guess.size is None:
        if guess.direction == SAME:
            return Score(1, of, _("The direction is right."))
        return Score(1, of, _("The direction is right. Next time, commit to a size, too."))
    if row.low <= guess.size <= row.high:
        return Score(2, of, _("The direction is right, and the size is inside the interval."))
    if _close(guess, row.effect):
        return Score(2, of, _("The direction is right, and the size is within a factor of two."))
    logs = METRICS[guess.metric].is_ratio
    said, found = (abs(math.log(value)) if logs else abs(value) for value in (guess.size, row.effect))
    if found > said:
        agrees = _(
            "The direction is right. The effect was larger than you predicted: {effect}. Why, on this machine?",
            effect=effect,
        )
    else:
        agrees = _(
            "The direction is right. The effect was smaller than you predicted: {effect}. Why, on this machine?",
            effect=effect,
        )
    return Score(1, of, agrees)


def _unscored(guess, comparison, row):
    before, after = (getattr(recipe, guess.technique) for recipe in (comparison.baseline, comparison.variant))
    if before == after or after == getattr(Recipe(), guess.technique):
        return _(
            "{technique} is {before} in the baseline and {after} in the variant",
            technique=guess.technique,
            before=repr(before),
            after=repr(after),
        )
    if row.verdict in WITHOUT_VERDICT:
        return f"{_(row.verdict)}, {_(row.why)}"
    late = guess.is_late(comparison)
    return _("the prediction was committed after the comparison had started") if late else ""


def _direction_is_right(guess, row):
    """True, False, or None if the runs scatter too much to tell."""
    margin = margin_of(METRICS[guess.metric].is_ratio)
    detected = row.verdict != NO_DIFFERENCE
    if guess.direction == SAME:
        return True if margin.contains(row.low, row.high) else False if detected else None
    if detected:
        return row.verdict == guess.direction
    excluded = margin.excludes(row.low, row.high, guess.direction)
    within = guess.size is not None and row.low <= guess.size <= row.high
    return False if excluded and not within else None


def _close(guess, measured):
    def within_two(a, b):
        return a * b > 0 and 0.5 <= a / b <= 2

    if not METRICS[guess.metric].is_ratio:
        return within_two(guess.size, measured)
    return within_two(guess.size, measured) and within_two(math.log(guess.size), math.log(measured))


def _feedback_for_miss(guess, row, effect):
    if row.verdict == NO_DIFFERENCE:
        if METRICS[guess.metric].is_ratio:
            return _(
                "No difference was detected here, and a change of a tenth in that direction is ruled out. What stays "
                "the same, and why?"
            )
        return _(
            "No difference was detected here, and a change of half a point in that direction is ruled out. What stays "
            "the same, and why?"
        )
    if guess.direction == SAME:
        return _(
            "It did change here: {effect}. Which part of a step, or of memory, does the technique affect?",
            effect=effect,
        )
    return _(
        "It went the other way here: {effect}. Predictions like this teach the most. Which cost did you leave out?",
        effect=effect,
    )
