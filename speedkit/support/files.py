"""JSON files: written whole or not at all, read with one error that names the file."""

import contextlib
import math
import os
import threading
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def reading(path, what: str):
    """Around the reading of a file that :func:`write_atomically` wrote: whatever is wrong becomes one ValueError."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"{path} is not {what} that this speedkit can read: {error} is missing.") from error
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path} is not {what} that this speedkit can read: {error}") from error


def write_atomically(path: Path, text: str):
    """Writes a text file under a temporary name beside it and renames it: whole, or not there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def nullable(values):
    if isinstance(values, dict):
        return {name: nullable([value])[0] for name, value in values.items()}
    return [value if math.isfinite(value) else None for value in values]


def real(value):
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{str(value)[:40]!r} is not a number.")
    return float(value)
