"""Every environment variable and folder that speedkit reads, in one place."""

import locale
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def smoke() -> bool:
    """Whether ``SPEEDKIT_SMOKE=1`` asks for runs of a few steps only, as continuous integration does."""
    return os.environ.get("SPEEDKIT_SMOKE", "") not in ("", "0")


def data_folder() -> Path:
    """The folder of the four Fashion-MNIST files: ``SPEEDKIT_DATA``, or ``data`` beside the package."""
    return Path(os.environ.get("SPEEDKIT_DATA") or REPOSITORY / "data")


def generated_folder() -> Path:
    """The folder of everything that is made from them: ``SPEEDKIT_GENERATED``, or ``generated`` in the data folder."""
    return Path(os.environ.get("SPEEDKIT_GENERATED") or data_folder() / "generated")


def learner_folder() -> Path:
    """The learner's own folder: ``SPEEDKIT_RUNS``, or ``runs`` beside the notebook.

    In a terminal in the repository's own folder, that is ``notebooks/runs``, too.
    """
    beside = REPOSITORY / "notebooks" if Path.cwd() == REPOSITORY else Path()
    return Path(os.environ.get("SPEEDKIT_RUNS") or beside / "runs").absolute()


def board_folder(folder=None) -> Path | None:
    """The folder that is given, else the one that ``SPEEDKIT_BOARD`` names, else None."""
    named = folder or os.environ.get("SPEEDKIT_BOARD")
    return Path(named).expanduser().absolute() if named else None


def queue_folder() -> Path | None:
    """The folder of the queue of this machine: ``SPEEDKIT_TURNS``, or one beside the temporary files; "off" is None."""
    named = os.environ.get("SPEEDKIT_TURNS", "")
    if named.lower() == "off":
        return None
    return Path(os.path.realpath(named) if named else os.path.join(tempfile.gettempdir(), "speedkit-turns"))


def wanted_language(available: tuple[str, ...]) -> str:
    """The language that the environment asks for, or on Windows the system, among those that there are."""
    system = (locale.getlocale()[0] or "") if sys.platform == "win32" else ""
    return language_of(os.environ, system, available)


def language_of(environment: Mapping[str, str], system: str = "", available: tuple[str, ...] = ("en", "fr")) -> str:
    """The language that environment variables ask for, in gettext's order; ``system``: where they say nothing.

    The first of SPEEDKIT_LANGUAGE, LC_ALL, LC_MESSAGES and LANG that is not empty counts. LANGUAGE, a list by
    preference, comes before all locales but C. What is not ``available`` is "en".
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
