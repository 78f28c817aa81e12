"""The ``SPEEDKIT_`` variables of a training; all others are read in :mod:`speedkit.support.variables`."""

import os
import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
YES, NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def smoke() -> bool:
    """Whether ``SPEEDKIT_SMOKE`` asks for runs of a few steps only, as continuous integration does."""
    return yes("SPEEDKIT_SMOKE")


def yes(name: str) -> bool:
    """Whether a variable says yes. Raises ValueError if its value is neither a yes nor a no, nor empty."""
    value = os.environ.get(name, "").strip().lower()
    if value not in ("", *YES, *NO):
        raise ValueError(f"{name}={value!r} is not allowed: give {' | '.join(YES + NO)}.")
    return value in YES


def data_folder() -> Path:
    """The folder of the four Fashion-MNIST files: ``SPEEDKIT_DATA``, or ``data`` next to the package."""
    return named_folder("SPEEDKIT_DATA") or REPOSITORY / "data"


def in_repository() -> bool:
    """Whether this package is in its repository, with the images beside it, not among the installed packages."""
    return (REPOSITORY / "pyproject.toml").is_file()


def generated_folder() -> Path:
    """The folder of everything made from them: ``SPEEDKIT_GENERATED``, or ``generated`` in the data folder.

    Never among the installed packages: without a repository it is ``~/.cache/speedkit``.
    """
    beside = in_repository() or named_folder("SPEEDKIT_DATA")
    usual = data_folder() / "generated" if beside else absolute("~/.cache/speedkit")
    return named_folder("SPEEDKIT_GENERATED") or usual


def learner_folder() -> Path:
    """The learner's own folder: ``SPEEDKIT_RUNS``, or ``runs`` next to the notebook.

    In the repository's top folder, for example in a terminal, that is ``notebooks/runs`` too.
    """
    here = Path.cwd()
    return named_folder("SPEEDKIT_RUNS") or (REPOSITORY / "notebooks" if here == REPOSITORY else here) / "runs"


def named_folder(name) -> Path | None:
    """The folder that a variable names; None if it is empty or not set."""
    named = os.environ.get(name, "").strip()
    return absolute(named, f"{name}={named!r}") if named else None


def absolute(folder, named=None):
    """A folder with ~ and $VARIABLE replaced, from the current folder on if it is relative."""
    path = os.path.expanduser(os.path.expandvars(folder))
    if path.startswith("~") or re.search(r"\$\w|\$\{", path):
        raise ValueError(f"{named or folder} is not allowed: it names a user or a variable that is not known here.")
    return Path(path).absolute()
