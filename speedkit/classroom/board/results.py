"""What lies in the folder of a class board: one JSON file a result, written by the learners, read by whoever shows it.

    sk.share(result, name="Ada")

The folder is nothing more than one that all can write: in a shared home, a synced folder, a USB stick. A file is
written under a name that no other has, whole or not at all, and never changed, so that any number of learners can share
at once. It holds the result, the hardware and versions; a nickname if one was given; and a random number, which tells
two learners on equal machines apart and lies beside their predictions. No path, no user, no host.

Whoever reads trusts nothing: a file is opened only if it is an ordinary one and not large, is never more than data,
and what does not fit the format is named, with the reason, and skipped.
"""

import json
import math
import os
import re
import secrets
import stat
import time
import unicodedata
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from speedkit.classroom import guesses as guesses_module
from speedkit.comparison import metrics
from speedkit.comparison.metrics import (
    CANNOT_TELL,
    DID_NOT_HOLD,
    HELD,
    HIGHER,
    LOWER,
    METRICS,
    NO_DIFFERENCE,
    NOT_AVAILABLE,
    OPPOSITE,
    TOO_FEW,
)
from speedkit.comparison.result import MOST_PAIRS, Comparison
from speedkit.recipe import SWITCHES, Recipe
from speedkit.support import settings
from speedkit.support.files import write_atomically
from speedkit.support.messages import N_, Message, _, ngettext
from speedkit.support.settings import board_folder

FORMAT = 1
OTHER = "other"  # where not just one switch changes and no claim says which one it is about
TECHNIQUES = (*SWITCHES, OTHER)
LONGEST_NAME = 40  # of a nickname, in characters
LARGEST_FILE = 1_000_000  # bytes; a result takes about 4,000
MOST_FILES = 5_000
LEARNER = r"[0-9a-f]{16}"
NO_FOLDER = N_(
    "No folder is named for the class board: give folder=..., or set the environment variable SPEEDKIT_BOARD to a "
    "folder that everybody in the room can write."
)


# A result


@dataclass(frozen=True)
class Outcome:
    """One metric of a result: ``effect``, ``low``, ``high`` as in a comparison's row, None where there is none.

    ``claimed``: the direction that a claim says, "" without one; ``outcome``: what the comparison says to it.
    ``predicted``: lower, same or higher, "" without a prediction; ``predicted_size``: as ``effect``, or None.
    """

    metric: str
    title: str
    is_ratio: bool
    effect: float | None
    low: float | None
    high: float | None
    verdict: str
    why: str
    claimed: str = ""
    outcome: str = ""
    predicted: str = ""
    predicted_size: float | None = None


@dataclass(frozen=True)
class Hardware:
    """What a learner's machine is. Bytes for memory; None where it does not say."""

    name: str
    kind: str  # "cpu", "cuda", "mps"; "" where it is not known
    system: str
    cores: int | None
    memory: int | None
    device_memory: int | None


@dataclass(frozen=True)
class Result:
    """One shared comparison. ``file`` is where it was read; everything else is what the file says."""

    technique: str
    changes: str  # "cache off → ram"
    task: str  # where the baseline differs from the default recipe, in words
    nickname: str
    learner: str
    shared: str  # ISO 8601 with a time zone
    pairs: int  # that are done
    smoke: bool
    machine: Hardware
    versions: dict[str, str]
    rows: tuple[Outcome, ...]
    file: str = field(default="", compare=False)

    @property
    def seat(self) -> tuple:
        """Who shared it, and on which machine: two with the same nickname stay apart."""
        return self.learner, self.nickname, self.machine

    def row(self, metric: str) -> Outcome | None:
        return next((row for row in self.rows if row.metric == metric), None)


def latest(results: list[Result]) -> list[Result]:
    """One result for each nickname, machine, technique and setting: the one that was shared last counts."""
    newest = {}
    for result in in_order(results):
        newest[result.seat, result.technique, result.changes, result.task] = result
    return in_order(newest.values())


def in_order(results) -> list[Result]:
    """The results in the order in which they were shared."""
    return sorted(results, key=lambda result: (datetime.fromisoformat(result.shared), result.file))


# Sharing


class Receipt:
    """What :func:`share` wrote, and where; it shows itself as a sentence, in the language in which it was shared."""

    def __init__(self, path: Path, sentence: str):
        self.path, self.sentence = path, sentence

    def __repr__(self):
        return self.sentence


def share(comparison: Comparison, name: str = "", folder=None, *, prediction=None) -> Receipt:
    """Puts a comparison on the class board, for everybody to see: ``sk.share(result, name="Ada")``.

    Written are the result, the hardware and versions, and nothing that says who or where you are but the nickname,
    which is optional and cut to 40 characters. The same comparison may be shared again, after more pairs, say: of one
    nickname, machine, technique and setting the latest counts.

    folder: where the board lies; without it, ``SPEEDKIT_BOARD`` says it. prediction: what :func:`predict` gave, to be
    shown beside the result; what was committed after the comparison had begun is left out.

    Raises:
        ValueError: no folder is named, it cannot be written, or no pair of the comparison is done yet.
    """
    folder = board_folder(folder)
    if folder is None:
        raise ValueError(NO_FOLDER)
    if not isinstance(comparison, Comparison):
        raise ValueError(f"Only a comparison can be shared, as compare(...) gives it, not {type(comparison).__name__}.")
    if not isinstance(name, str):
        raise ValueError(f"name={str(name)[:40]!r} should be text: a nickname, or nothing.")
    if not comparison.done:
        raise ValueError(N_("No pair of this comparison is done yet: there is nothing to share."))
    result = _result(comparison, plain(name)[:LONGEST_NAME].strip(), prediction)
    path = folder / f"{result.technique}-{secrets.token_hex(8)}.json"
    kept = {"format": FORMAT, "kind": "board", **asdict(result)}
    del kept["file"]
    try:
        write_atomically(path, json.dumps(kept, allow_nan=False))
        with suppress(OSError):
            path.chmod(0o644)  # whoever shows the board may be another user
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
    chosen = Recipe().differences(recipe).items()
    words = [f"{name} {_value(name, value)}" for name, (__, value) in chosen if name not in ("seed", "device")]
    return ", ".join(words) or N_("the default recipe")


def _value(name, value):
    if name == "data":
        return value.partition(":")[0]  # where one's own pictures lie is nobody's business
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
    if guess is not None and guesses_module.too_late(guess, comparison):
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
    """A random number that lies in the learner's own folder; where that cannot be written, one of this process."""
    path = settings.learner_folder() / "board-number.txt"
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), open(path, "x", encoding="ascii") as file:
            file.write(secrets.token_hex(8))
    for __ in range(4):
        with suppress(OSError, ValueError), open(path, encoding="ascii") as file:
            if re.fullmatch(LEARNER, kept := file.read(100).strip()):
                return kept
        time.sleep(0.02)  # another kernel may be writing it just now
    return _of_process(os.getpid())


@cache
def _of_process(number):
    return secrets.token_hex(8)


# Reading


class Folder:
    """A board's folder as it was seen last: ``results``, and ``problems``, a reason for each file that was skipped.

    ``found`` and ``why``: whether the folder could be listed, and why not. Reasons are English, for whoever shows them
    to retell. What was read once is not read again.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self.found, self.why = False, ""
        self._seen: dict[str, tuple] = {}  # name -> (what changes with the file, its result or the reason)

    def look(self) -> bool:
        """Looks into the folder; whether anything has changed since the last time."""
        before = (self.found, self.why, dict(self._seen))
        try:
            entries = sorted(self._entries(), key=lambda entry: entry.name)
        except OSError as error:
            self.found, self.why = False, f"{error.strerror or type(error).__name__}"
            return before != (self.found, self.why, self._seen)
        seen = {}
        for entry in entries[:MOST_FILES]:
            with suppress(FileNotFoundError):  # it is gone already
                seen[entry.name] = self._one(entry)
        self._seen, self.found = seen, True
        self.why = ""
        if len(entries) > MOST_FILES:
            self.why = Message("only the first {count} files were read", count=f"{MOST_FILES:,}")
        return before != (self.found, self.why, self._seen)

    @property
    def results(self) -> list[Result]:
        """What could be read, in the order in which it was shared."""
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
            return mark, Message("it cannot be read: {why}", why=error.strerror or type(error).__name__)
        except ValueError as error:
            return mark, _short(str(error), 200)
        except Exception as error:  # whatever a file does to its reader, the board goes on
            return mark, Message("it cannot be read: {why}", why=type(error).__name__)


def read(path: Path) -> Result:
    """The result that :func:`share` wrote.

    Raises:
        ValueError: the file is no such result; the message says why.
        OSError: it cannot be read.
    """
    try:
        return _from_dict(json.loads(_text_of(path)), path.name)
    except UnicodeDecodeError as error:
        raise ValueError(N_("it is no text")) from error
    except json.JSONDecodeError as error:
        raise ValueError(Message("it is not JSON: {error}", error=error)) from error
    except RecursionError as error:
        raise ValueError(N_("it is nested too deeply")) from error


def _text_of(path):
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise ValueError(N_("it is not an ordinary file"))
    # Should it become something else in between: follow no link, and wait for no pipe.
    safely = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(path, safely), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError(N_("it is not an ordinary file"))
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise ValueError(Message("it is larger than {size} MB", size=LARGEST_FILE // 1_000_000))
    return content.decode()


def _from_dict(kept, name):
    _is(kept, dict, "the content")
    if kept.get("format") != FORMAT or kept.get("kind") != "board":
        raise ValueError(Message("it does not say format {format}, kind board", format=FORMAT))
    del kept["format"], kept["kind"]
    kept = _checked(kept, Result, _RESULT)
    kept["machine"] = Hardware(**_checked(_is(kept["machine"], dict, "machine"), Hardware, _HARDWARE))
    rows = [Outcome(**_checked(_is(row, dict, "a row"), Outcome, _OUTCOME)) for row in kept["rows"]]
    for row in rows:
        _check_effects(row)
    if len({row.metric for row in rows}) < len(rows):
        raise ValueError(N_("a metric is there twice"))
    return Result(**kept | {"rows": tuple(rows), "file": plain(name)})


def _checked(kept, kind, rules):
    names = {f.name for f in fields(kind)} - {"file"}
    if odd := sorted(names ^ kept.keys()):
        name = repr(plain(odd[0])[:40])
        raise ValueError(Message(N_("{name} is missing") if odd[0] in names else N_("{name} is unknown"), name=name))
    return {name: rules[name](kept[name], name) for name in names}


def _is(value, kind, what):
    if type(value) is not kind:
        kinds = {"kind": kind.__name__, "other": type(value).__name__}
        raise ValueError(Message("{what} should be {kind}, not {other}", what=what, **kinds))
    return value


def _text(longest):
    def check(value, what):
        if len(_is(value, str, what)) > longest:
            raise ValueError(Message("{what} is longer than {longest} characters", what=what, longest=longest))
        return plain(value)

    return check


def _one_of(*choices):
    def check(value, what):
        if not isinstance(value, str) or value not in choices:
            found = {"value": repr(plain(str(value)[:40])), "allowed": " | ".join(filter(None, choices))}
            raise ValueError(Message("{what} is {value}, not one of {allowed}", what=what, **found))
        return value

    return check


def _whole(most, optional=True):
    def check(value, what):
        if value is None and optional:
            return None
        if not 0 <= _is(value, int, what) <= most:
            raise ValueError(Message("{what} is not a number from 0 to {most}", what=what, most=most))
        return value

    return check


def _real(value, what):
    if value is None:
        return None
    if type(value) not in (int, float) or not abs(value) < 1e300 or not math.isfinite(float(value)):
        raise ValueError(Message("{what} is no number", what=what))
    return float(value)


def _flag(value, what):
    return _is(value, bool, what)


def _learner_number(value, what):
    if not re.fullmatch(LEARNER, _is(value, str, what)):
        raise ValueError(Message("{what} is not a number as share() draws it", what=what))
    return value


def _time(value, what):
    _is(value, str, what)
    with suppress(ValueError, OverflowError):
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC).isoformat()
    raise ValueError(Message("{what} is no moment in time", what=what))


def _version_texts(value, what):
    if len(_is(value, dict, what)) > 20:
        raise ValueError(Message("{what} are more than 20", what=what))
    return {_text(40)(name, "a version's name"): _text(40)(text, "a version") for name, text in value.items()}


def _some_rows(value, what):
    if not 0 < len(_is(value, list, what)) <= len(METRICS):
        raise ValueError(Message("there are not 1 to {most} {what}", most=len(METRICS), what=what))
    return value


def _check_effects(row):
    """Whether effect and interval are in order, within what a chart can show."""
    if row.is_ratio is not METRICS[row.metric].is_ratio:
        is_ratio = METRICS[row.metric].is_ratio
        raise ValueError(Message("{metric} should say is_ratio {is_ratio}", metric=row.metric, is_ratio=is_ratio))
    if (row.low is None) is not (row.high is None) or (row.effect is None and row.low is not None):
        raise ValueError(Message("{metric} has half an interval", metric=row.metric))
    given = [value for value in (row.effect, row.low, row.high, row.predicted_size) if value is not None]
    if any(not value > 0 if row.is_ratio else abs(value) > 100 for value in given):
        raise ValueError(Message("{metric} has an effect that there cannot be", metric=row.metric))
    if row.low is not None and not row.low <= row.effect <= row.high:
        raise ValueError(Message("{metric} has an interval without its effect", metric=row.metric))


_RESULT = {
    "technique": _one_of(*TECHNIQUES),
    "changes": _text(200),
    "task": _text(300),
    "nickname": _text(LONGEST_NAME),
    "learner": _learner_number,
    "shared": _time,
    "pairs": _whole(MOST_PAIRS, optional=False),
    "smoke": _flag,
    "machine": lambda value, what: value,  # these two are checked by their own tables
    "rows": _some_rows,
    "versions": _version_texts,
}
_HARDWARE = {
    "name": _text(80),
    "kind": _text(20),
    "system": _text(40),
    "cores": _whole(100_000),
    "memory": _whole(2**60),
    "device_memory": _whole(2**60),
}
_OUTCOME = {
    "metric": _one_of(*METRICS),
    "title": _text(120),
    "is_ratio": _flag,
    "effect": _real,
    "low": _real,
    "high": _real,
    "verdict": _one_of(LOWER, HIGHER, NO_DIFFERENCE, TOO_FEW, NOT_AVAILABLE),
    "why": _text(120),
    "claimed": _one_of(LOWER, HIGHER, ""),
    "outcome": _one_of(HELD, DID_NOT_HOLD, OPPOSITE, CANNOT_TELL, ""),
    "predicted": _one_of(*metrics.DIRECTIONS, ""),
    "predicted_size": _real,
}


def plain(text: str) -> str:
    """A text in one line without control characters, half characters and marks that turn the direction of reading."""
    spaced = re.sub(r"\s", " ", text)
    return "".join(char for char in spaced if not unicodedata.category(char).startswith("C"))


def _short(value, longest):
    text = plain(str(value))
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
