"""Every ``SPEEDKIT_`` variable, and the folders that speedkit uses: read here and nowhere else."""

import locale
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
YES, NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def smoke() -> bool:
    """Whether ``SPEEDKIT_SMOKE`` asks for runs of a few steps only, as continuous integration does."""
    return yes("SPEEDKIT_SMOKE")


def yes(name: str) -> bool:
    """Whether a variable says yes; it does not if it is empty or not set.

    Raises:
        ValueError: its value is neither a yes nor a no.
    """
    value = os.environ.get(name, "").strip().lower()
    if value not in ("", *YES, *NO):
        raise ValueError(f"{name}={value!r} is not allowed: give {' | '.join(YES + NO)}.")
    return value in YES


def processes() -> int:
    """How many processes torchrun has started: ``WORLD_SIZE``, or 1.

    Raises:
        ValueError: it is not a number.
    """
    value = os.environ.get("WORLD_SIZE", "").strip() or "1"
    if not value.isdecimal():
        raise ValueError(f"WORLD_SIZE={value!r} is not allowed: give a whole number, or unset it.")
    return int(value)


def data_folder() -> Path:
    """The folder of the four Fashion-MNIST files: ``SPEEDKIT_DATA``, or ``data`` next to the package."""
    return _folder("SPEEDKIT_DATA") or REPOSITORY / "data"


def generated_folder() -> Path:
    """The folder of everything made from them: ``SPEEDKIT_GENERATED``, or ``generated`` in the data folder."""
    return _folder("SPEEDKIT_GENERATED") or data_folder() / "generated"


def learner_folder() -> Path:
    """The learner's own folder: ``SPEEDKIT_RUNS``, or ``runs`` next to the notebook.

    In the repository's top folder, for example in a terminal, that is ``notebooks/runs`` too.
    """
    here = Path.cwd()
    return _folder("SPEEDKIT_RUNS") or (REPOSITORY / "notebooks" if here == REPOSITORY else here) / "runs"


def board_folder(folder=None) -> Path | None:
    """The folder of the class board: the one given, else the one that ``SPEEDKIT_BOARD`` names, else None."""
    return _absolute(folder) if folder else _folder("SPEEDKIT_BOARD")


def queue_folder() -> Path | None:
    """The folder of this machine's queue: ``SPEEDKIT_TURNS``, or one among the temporary files; None if it is "off"."""
    value = os.environ.get("SPEEDKIT_TURNS", "").strip().lower()
    if value in NO:
        return None
    named = None if value in YES else _folder("SPEEDKIT_TURNS")
    return Path(os.path.realpath(named)) if named else Path(tempfile.gettempdir(), "speedkit-turns")


def _folder(name):
    named = os.environ.get(name, "").strip()
    return _absolute(named, f"{name}={named!r}") if named else None


def _absolute(folder, named=None):
    """A folder with ~ and $VARIABLE replaced, from the current folder on if it is relative."""
    path = os.path.expanduser(os.path.expandvars(folder))
    if path.startswith("~") or re.search(r"\$\w|\$\{", path):
        raise ValueError(f"{named or folder} is not allowed: it names a user or a variable that is not known here.")
    return Path(path).absolute()


def wanted_language(available: tuple[str, ...]) -> str:
    """The language that the environment, or on Windows the system, asks for, among those available."""
    system = (locale.getlocale()[0] or "") if sys.platform == "win32" else ""
    return language_of(os.environ, system, available)


def language_of(environment: Mapping[str, str], system: str = "", available: tuple[str, ...] = ("en", "fr")) -> str:
    """The language that environment variables ask for, in gettext's order; ``system`` counts if none is set.

    The first of SPEEDKIT_LANGUAGE, LC_ALL, LC_MESSAGES and LANG that is not empty counts. LANGUAGE, a list in order of
    preference, overrides every locale except C. If no language is ``available``, the answer is "en".
    """
    names = ("SPEEDKIT_LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")
    name, value = next(((name, environment[name]) for name in names if environment.get(name)), ("", system))
    if name != "SPEEDKIT_LANGUAGE" and value.split(".")[0] not in ("", "C", "POSIX"):
        value = environment.get("LANGUAGE") or value
    for wanted in value.lower().split(":"):
        code = re.split("[_.@]", wanted)[0]
        code = locale.locale_alias.get(code, code)[:2]  # Windows says "French_France"
        if code in available:
            return code
    return "en"
