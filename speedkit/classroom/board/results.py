"""The folder of a class board: one JSON file per result, written by the learners, read by the instructor's notebook.

    sk.share(result, name="Ada")

Any folder that everybody can write to will do: in a shared home, a synced folder, a USB stick. A file is written under
a unique name, whole or not at all, and never changed, so that any number of learners can share at the same time. It
holds the result, the hardware and versions; a nickname if one was given; and a random number, which tells two learners
on equal machines apart and is stored next to their predictions. It holds no path, user name or host name.

The reader trusts nothing: it opens a file only if it is an ordinary one and not large, and treats it as data only. A
file that does not fit the format is named, with the reason, and skipped.
"""

import math
import os
import re
import secrets
import stat
import time
import unicodedata
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, FailFast, Field, PlainValidator, model_validator

from speedkit.comparison.metrics import (
    CANNOT_TELL,
    DID_NOT_HOLD,
    DIRECTIONS,
    HELD,
    HIGHER,
    LOWER,
    METRICS,
    NO_DIFFERENCE,
    NOT_AVAILABLE,
    NOT_JUDGED,
    OPPOSITE,
    TOO_FEW,
)
from speedkit.comparison.result import MOST_PAIRS, Comparison
from speedkit.recipe import SWITCHES, Recipe
from speedkit.run import DISTURBED
from speedkit.support import settings
from speedkit.support.files import StoredMessage, fields_of, write_json
from speedkit.support.messages import N_, Message, _, message_of, ngettext
from speedkit.support.strict import Strict
from speedkit.support.variables import board_folder

FORMAT = 1
OTHER = "other"  # unless just one switch changes or a claim names the technique
TECHNIQUES = (*SWITCHES, OTHER)
LONGEST_NAME = 40  # of a nickname, in characters
LARGEST_FILE = 1_000_000  # bytes; a result takes about 4,000
MOST_FILES = 5_000
LEARNER = r"^[0-9a-f]{16}$"
NO_FOLDER = N_(
    "No folder is named for the class board: give folder=..., or set the environment variable SPEEDKIT_BOARD to a "
    "folder that everybody in the room can write."
)


# A result


def plain(text: str) -> str:
    """A text in one line, without control characters, lone surrogates and marks that change the reading direction."""
    spaced = re.sub(r"\s", " ", text)
    return "".join(char for char in spaced if not unicodedata.category(char).startswith("C"))


def _moment(text):
    with suppress(ValueError, OverflowError):
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC).isoformat()
    raise ValueError(Message("{text} is not a moment in time.", text=repr(text[:40])))


def _text(longest):
    cleaned = BeforeValidator(lambda value: plain(value) if isinstance(value, str) else value)
    return Annotated[str, Field(max_length=longest), cleaned]


def _message(longest):
    """The type of a message, whose values others may have written: refused if it is not plain, or too long."""

    def checked(stored):
        text = plain(stored) if type(stored) is str else Message.from_json(stored)
        if len(text) > longest or plain(text) != text:
            raise ValueError(Message("a text is not plain, or is longer than {longest} characters.", longest=longest))
        return text

    return Annotated[StoredMessage, PlainValidator(checked)]


class Outcome(Strict):
    """One metric of a result: ``effect``, ``low``, ``high`` as in a comparison's row, None if there is none.

    ``claimed``: the direction of a claim, "" without one; ``outcome``: what the comparison says about it.
    ``predicted``: lower, same or higher, "" without a prediction; ``predicted_size``: as ``effect``, or None.
    """

    metric: Literal[tuple(METRICS)]
    title: _message(120)
    is_ratio: bool
    effect: float | None
    low: float | None
    high: float | None
    verdict: Literal[LOWER, HIGHER, NO_DIFFERENCE, TOO_FEW, NOT_AVAILABLE, NOT_JUDGED]
    why: _message(120)
    claimed: Literal[LOWER, HIGHER, ""]
    outcome: Literal[HELD, DID_NOT_HOLD, OPPOSITE, CANNOT_TELL, ""]
    predicted: Literal[*DIRECTIONS, ""]
    predicted_size: float | None

    @model_validator(mode="after")
    def _fits_in_a_chart(self):
        metric, is_ratio = self.metric, METRICS[self.metric].is_ratio
        if self.is_ratio is not is_ratio:
            raise ValueError(Message("{metric} should say is_ratio {is_ratio}.", metric=metric, is_ratio=is_ratio))
        if (self.low is None) is not (self.high is None) or (self.effect is None and self.low is not None):
            raise ValueError(Message("{metric} has an incomplete interval.", metric=metric))
        given = [size for size in (self.effect, self.low, self.high, self.predicted_size) if size is not None]
        if not all(0 < size < 1e300 if is_ratio else abs(size) <= 100 for size in given):
            raise ValueError(Message("{metric} has an impossible effect.", metric=metric))
        if self.low is not None and not self.low <= self.effect <= self.high:
            raise ValueError(Message("{metric} has an interval that does not contain its effect.", metric=metric))
        return self


class Hardware(Strict):
    """A learner's machine. Bytes for memory; None if it is unknown."""

    name: _text(80)
    kind: _text(20)  # "cpu", "cuda", "mps"; "" if it is unknown
    system: _text(40)
    cores: int | None = Field(ge=0, le=100_000)
    memory: int | None = Field(ge=0, le=2**60)
    device_memory: int | None = Field(ge=0, le=2**60)


class Result(Strict):
    """One shared comparison. ``file`` is its name on the board; everything else is what the file says."""

    technique: Literal[TECHNIQUES]
    changes: _text(200)  # "cache off → ram"
    task: _text(300)  # how the baseline differs from the default recipe, in words
    nickname: _text(LONGEST_NAME)
    learner: str = Field(pattern=LEARNER, examples=["a number as share() draws it"])
    shared: Annotated[str, AfterValidator(_moment)]  # ISO 8601 with a time zone
    pairs: int = Field(ge=0, le=MOST_PAIRS)  # finished ones
    smoke: bool
    others_share: float | None = Field(None, ge=0, le=1)  # of a run's processor time, taken by other programs
    machine: Hardware
    versions: dict[_text(40), _text(40)] = Field(max_length=20)
    rows: Annotated[tuple[Outcome, ...], FailFast(), Field(strict=False, min_length=1, max_length=len(METRICS))]
    file: str = Field("", exclude=True)

    @model_validator(mode="after")
    def _each_metric_once(self):
        if len({row.metric for row in self.rows}) < len(self.rows):
            raise ValueError(N_("a metric appears twice."))
        return self

    @property
    def seat(self) -> tuple:
        """Who shared it, and on which machine: two learners with the same nickname stay apart."""
        return self.learner, self.nickname, self.machine

    @property
    def is_disturbed(self) -> bool:
        """Whether other programs took much of the processor time that a run needed."""
        return (self.others_share or 0.0) > DISTURBED

    def row(self, metric: str) -> Outcome | None:
        return next((row for row in self.rows if row.metric == metric), None)


def latest(results: list[Result]) -> list[Result]:
    """One result for each nickname, machine, technique and setting: the one that was shared last."""
    newest = {}
    for result in in_order(results):
        newest[result.seat, result.technique, result.changes, result.task] = result
    return in_order(newest.values())


def in_order(results) -> list[Result]:
    """The results in the order in which they were shared."""
    return sorted(results, key=lambda result: (datetime.fromisoformat(result.shared), result.file))


# Sharing


class Receipt:
    """Where :func:`share` wrote a result; shown as a sentence, in the language in which it was shared."""

    def __init__(self, path: Path, sentence: str):
        self.path, self.sentence = path, sentence

    def __repr__(self):
        return self.sentence


def share(comparison: Comparison, name: str = "", folder=None, *, prediction=None) -> Receipt:
    """Puts a comparison on the class board, for everybody to see: ``sk.share(result, name="Ada")``.

    The file holds the result, the hardware and versions, and nothing that says who or where you are except the
    nickname, which is optional and cut to 40 characters. You may share a comparison again, for example after more
    pairs: for each nickname, machine, technique and setting the latest result counts.

    folder: the board's folder; without it, ``SPEEDKIT_BOARD`` names it. prediction: what :func:`predict` returned, to
    be shown next to the result; a guess that was committed after the comparison had begun is left out.

    Raises:
        ValueError: no folder is named, it cannot be written to, no pair of the comparison is done yet, or an argument
            is of the wrong type.
    """
    folder = board_folder(folder)
    if folder is None:
        raise ValueError(NO_FOLDER)
    if not isinstance(comparison, Comparison):
        raise ValueError(
            f"Only a comparison can be shared, as compare(...) returns it, not {type(comparison).__name__}."
        )
    if comparison.loops:
        raise ValueError(_("Loops of your own have no place on the class board: it shows comparisons of recipes."))
    if not isinstance(name, str):
        raise ValueError(f"name={str(name)[:40]!r} should be text: a nickname, or nothing.")
    if not comparison.done:
        raise ValueError(N_("No pair of this comparison is done yet: there is nothing to share."))
    result = _result(comparison, plain(name)[:LONGEST_NAME].strip(), prediction)
    path = folder / f"{result.technique}-{secrets.token_hex(8)}.json"
    try:
        write_json(path, {"format": FORMAT, "kind": "board"} | result.model_dump())
        with suppress(OSError):
            path.chmod(0o644)  # the instructor may be another user
    except OSError as error:
        raise ValueError(
            Message(
                "The class board's folder {folder} cannot be written ({why}): it has to be there, and everybody must "
                "be allowed to write in it.",
                folder=folder,
                why=error.strerror or error,
            )
        ) from error
    predicted = sum(bool(row.predicted) for row in result.rows)
    beside = ""
    if predicted:
        beside = ngettext(", with {n} prediction beside it", ", with {n} predictions beside it", predicted)
    what = f"{_(result.changes)}{beside}"
    if result.nickname:
        return Receipt(path, _("On the board as {name}: {what}.", name=result.nickname, what=what))
    return Receipt(path, _("On the board: {what}.", what=what))


def _result(comparison, nickname, prediction):
    technique = _technique(comparison)
    guesses = prediction.guesses if prediction is not None and prediction.technique == technique else {}
    return Result(
        technique=technique,
        changes=_short(_changes(comparison), 200) or N_("two equal recipes"),
        task=_short(_task(comparison.baseline), 300),
        nickname=nickname,
        learner=_learner(),
        shared=datetime.now(UTC).isoformat(),
        pairs=len(comparison.done),
        smoke=comparison.smoke,
        others_share=comparison.others_share if math.isfinite(comparison.others_share) else None,
        machine=_hardware(comparison.machine),
        versions=_versions(comparison.machine),
        rows=tuple(_outcome(row, comparison, guesses) for row in comparison.rows),
    )


def _technique(comparison):
    if comparison.claims:
        return comparison.claims[0].technique
    changed = [name for name in comparison.changes if name in SWITCHES]
    return changed[0] if len(changed) == 1 else OTHER


def _changes(comparison):
    return ", ".join(
        f"{name} {_value(name, before)} → {_value(name, after)}" for name, (before, after) in comparison.changes.items()
    )


def _task(recipe):
    chosen = {name: value for name, (__, value) in Recipe(data=recipe.data).differences(recipe).items()}
    chosen = ({"data": recipe.data} if recipe.data != Recipe().data else {}) | chosen
    words = [f"{name} {_value(name, value)}" for name, value in chosen.items() if name not in ("seed", "device")]
    return ", ".join(words) or N_("the default recipe")


def _value(name, value):
    if name == "data":
        return value.partition(":")[0]  # the folder of a learner's pictures is private
    if isinstance(value, bool):
        return "on" if value else "off"
    return "none" if value is None else value


def _hardware(machine):
    def whole(name):
        value = machine.get(name)
        return int(value) if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None

    return Hardware(
        name=_short(machine.get("name") or N_("unknown machine"), 80),
        kind=_short(str(machine.get("device") or "").partition(":")[0], 20),
        system=_short(machine.get("system") or "", 40),
        cores=whole("cores"),
        memory=whole("memory"),
        device_memory=whole("device_memory"),
    )


def _versions(machine):
    found = {"python": machine.get("python"), **(machine.get("versions") or {})}
    return {_short(name, 40): _short(version, 40) for name, version in list(found.items())[:20] if version}


def _outcome(row, comparison, guesses):
    claim = next((claim for claim in comparison.claims if claim.metric == row.metric), None)
    guess = guesses.get(row.metric)
    if guess is not None and guess.is_late(comparison):
        guess = None
    is_ratio = METRICS[row.metric].is_ratio
    figures = (row.effect, row.low, row.high)
    effect, low, high = (float(value) if _usable(value, is_ratio) else None for value in figures)
    if None in (effect, low, high):
        low = high = None
    return Outcome(
        metric=row.metric,
        title=_short(row.title, 120),
        is_ratio=is_ratio,
        effect=effect,
        low=low,
        high=high,
        verdict=row.verdict,
        why=_short(row.why, 120),
        claimed=claim.direction if claim else "",
        outcome=comparison.judge(claim).outcome if claim else "",
        predicted=guess.direction if guess else "",
        predicted_size=guess.size if guess else None,
    )


def _usable(value, is_ratio):
    return math.isfinite(value) and (not is_ratio or 0 < value < 1e300)


def _learner():
    """A random number stored in the learner's own folder; if that cannot be written, one for this process."""
    path = settings.learner_folder() / "board-number.txt"
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), open(path, "x", encoding="ascii") as file:
            file.write(secrets.token_hex(8))
    for __ in range(4):
        with suppress(OSError, ValueError), open(path, encoding="ascii") as file:
            if re.fullmatch(LEARNER, number := file.read(100).strip()):
                return number
        time.sleep(0.02)  # another kernel may be writing it just now
    return _of_process(os.getpid())


@cache
def _of_process(number):
    return secrets.token_hex(8)


# Reading


class Folder:
    """A board's folder as it was last seen: ``results``, and ``problems``, a reason for each file that was skipped.

    ``found`` and ``why``: whether the folder could be listed, and why not. Reasons are messages, to be translated when
    they are shown. A file that has not changed is not read again.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self.found, self.why = False, ""
        self._seen: dict[str, tuple] = {}  # name -> (its state, its result or the reason)

    def look(self) -> bool:
        """Looks into the folder; returns whether anything has changed since the last time."""
        before = (self.found, self.why, dict(self._seen))
        try:
            entries = sorted(self._entries(), key=lambda entry: entry.name)
        except OSError as error:
            self.found, self.why = False, f"{error.strerror or type(error).__name__}"
            return before != (self.found, self.why, self._seen)
        seen = {}
        for entry in entries[:MOST_FILES]:
            with suppress(FileNotFoundError):  # already deleted
                seen[entry.name] = self._one(entry)
        self._seen, self.found = seen, True
        self.why = ""
        if len(entries) > MOST_FILES:
            self.why = Message("only the first {count} files were read", count=f"{MOST_FILES:,}")
        return before != (self.found, self.why, self._seen)

    @property
    def results(self) -> list[Result]:
        """The results that could be read, in the order in which they were shared."""
        return in_order(found for __, found in self._seen.values() if isinstance(found, Result))

    @property
    def problems(self) -> dict[str, str]:
        """The files that were skipped: name -> reason."""
        return {plain(name): found for name, (__, found) in self._seen.items() if isinstance(found, str)}

    def _entries(self):
        with os.scandir(self.folder) as entries:  # a hidden file is a result that is still being written
            return [entry for entry in entries if entry.name.endswith(".json") and not entry.name.startswith(".")]

    def _one(self, entry):
        status = entry.stat(follow_symlinks=False)
        mark = (status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if entry.name in self._seen and self._seen[entry.name][0] == mark:
            return self._seen[entry.name]
        try:
            return mark, read(Path(entry.path))
        except FileNotFoundError:
            raise
        except OSError as error:
            return mark, Message("it cannot be read: {why}.", why=error.strerror or type(error).__name__)
        except ValueError as error:
            return mark, _short(message_of(error), 200)
        except Exception as error:  # whatever a file does to its reader, the board goes on
            return mark, Message("it cannot be read: {why}.", why=type(error).__name__)


def read(path: Path) -> Result:
    """The result that :func:`share` wrote.

    Raises:
        ValueError: the file does not hold a shared result; the message says why.
        OSError: it cannot be read.
    """
    found, __ = fields_of(_content(path), "board", FORMAT)
    return Result(**found | {"file": plain(path.name)})


def _content(path):
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise ValueError(N_("it is not an ordinary file."))
    # In case it is replaced in between: follow no link, and wait for no pipe.
    safely = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(path, safely), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError(N_("it is not an ordinary file."))
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise ValueError(Message("it is larger than {size} MB.", size=LARGEST_FILE // 1_000_000))
    return content


def _short(value, longest):
    text = plain(str(value))
    if len(text) > longest:
        return f"{text[: longest - 1]}…"
    return value if value == text else text  # a message stays a message
