"""The ``SPEEDKIT_`` variables that training itself does not need; with ``settings``, the only place that reads them."""

import locale
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from speedkit.support.settings import (
    NO,
    YES,
    absolute,
    data_folder,
    generated_folder,
    learner_folder,
    named_folder,
    smoke,
)


def board_folder(folder=None) -> Path | None:
    """The folder of the class board: the one given, else the one that ``SPEEDKIT_BOARD`` names, else None."""
    return absolute(folder) if folder else named_folder("SPEEDKIT_BOARD")


def queue_folder() -> Path | None:
    """The folder of this machine's queue: ``SPEEDKIT_TURNS``, or one among the temporary files; None if it is "off"."""
    value = os.environ.get("SPEEDKIT_TURNS", "").strip().lower()
    if value in NO:
        return None
    named = None if value in YES else named_folder("SPEEDKIT_TURNS")
    return Path(os.path.realpath(named)) if named else Path(tempfile.gettempdir(), "speedkit-turns")


def processes() -> int:
    """How many processes torchrun has started: ``WORLD_SIZE``, or 1.

    Raises:
        ValueError: it is not a number.
    """
    value = os.environ.get("WORLD_SIZE", "").strip() or "1"
    if not value.isdecimal():
        raise ValueError(f"WORLD_SIZE={value!r} is not allowed: give a whole number, or unset it.")
    return int(value)


def refused() -> Iterator[str]:
    """A sentence for each of our variables whose value is not understood, and for each that does not exist."""
    known = {"SPEEDKIT_SMOKE": smoke, "SPEEDKIT_DATA": data_folder, "SPEEDKIT_GENERATED": generated_folder}
    known |= {"SPEEDKIT_RUNS": learner_folder, "SPEEDKIT_BOARD": board_folder, "SPEEDKIT_TURNS": queue_folder}
    of_tests = {"SPEEDKIT_BROWSER", "SPEEDKIT_SOAK"}
    for name in sorted(os.environ):
        if name.startswith("SPEEDKIT_") and name not in {*known, *of_tests, "SPEEDKIT_LANGUAGE"}:
            yield f"{name} is not a variable of speedkit: there are {', '.join([*known, 'SPEEDKIT_LANGUAGE'])}."
    for read in known.values():
        try:
            read()
        except ValueError as error:
            yield str(error)
    language = os.environ.get("SPEEDKIT_LANGUAGE", "").strip()
    if language and re.split("[_.@:]", language.lower())[0] not in ("en", "fr"):
        yield f"SPEEDKIT_LANGUAGE={language!r} is not allowed: give en | fr."


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
