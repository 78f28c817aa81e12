"""JSON files: written whole or not at all, read with one error that names the file; and the types of their fields."""

import contextlib
import json
import math
import os
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BeforeValidator, FailFast, PlainSerializer, PlainValidator

from speedkit.support.messages import Message

Item = TypeVar("Item")
ListOf = Annotated[list[Item], FailFast()]  # a damaged list may have a million faults: the first is enough
NanAsNull = Annotated[
    float,
    BeforeValidator(lambda value: math.nan if value is None else value),
    PlainSerializer(lambda value: value if math.isfinite(value) else None),
]
StoredMessage = Annotated[
    str,
    PlainValidator(Message.from_json),
    PlainSerializer(lambda text: text.to_json() if isinstance(text, Message) else text),
]


@contextmanager
def reading(path, what: str):
    """A context for reading a file: any fault in it becomes one ValueError that names it. what: such as "a run"."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"{path} is not {what} that this speedkit can read: {error} is missing.") from error
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path} is not {what} that this speedkit can read: {error}") from error


def fields_of(content: bytes, kind: str, newest: int = 1) -> tuple[dict, int]:
    """The fields of a JSON file of this kind, and its format, from 1 to ``newest``.

    Raises:
        ValueError: the content has another kind or format, or is not JSON; the message says why.
    """
    try:
        fields = json.loads(content.decode(), parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise ValueError(Message("it is not text.")) from error
    except json.JSONDecodeError as error:
        raise ValueError(Message("it is not JSON: {error}.", error=error)) from error
    except RecursionError as error:
        raise ValueError(Message("it is nested too deeply.")) from error
    formats = range(1, newest + 1)
    if not isinstance(fields, dict) or fields.get("format") not in formats or fields.pop("kind", kind) != kind:
        allowed = " | ".join(map(str, formats))
        raise ValueError(Message("it does not say format {allowed}, kind {kind}.", allowed=allowed, kind=kind))
    return fields, fields.pop("format")


def _no_number(constant):
    raise ValueError(Message("{constant} is not a number.", constant=constant))


def save_json(path, fields: dict) -> Path:
    """Makes the folder, writes the file as :func:`write_json` does, and returns the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, fields)
    return path


def write_json(path: Path, fields: dict):
    """Writes a JSON file, whole or not at all; raises ValueError for nan and infinity."""
    write_atomically(path, json.dumps(fields, allow_nan=False))


def write_atomically(path: Path, text: str):
    """Writes a text file, whole or not at all: under a temporary name in the same folder, then renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
