"""Why a file could not be read, and its name, as a sentence can hold them."""

import os
import sqlite3

from speedkit.support.messages import Message


def reason(error: Exception) -> str:
    """Why something could not be read, in a few words on one line."""
    if type(error).__name__ == "UnidentifiedImageError":
        return Message("its content is in no format that Pillow knows")
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, MemoryError):
        return Message("there is too little memory for it")
    words = " ".join(str(error).split())[:200]
    words = words if words.isprintable() else ascii(words)
    plain = isinstance(error, OSError | ValueError | SyntaxError | RuntimeError | sqlite3.Error)
    plain = words and (plain or type(error).__name__ == "DecompressionBombError")
    return words if plain else f"{type(error).__name__}: {words}".rstrip(": ")


def shown(path) -> str:
    """A path or a name as a sentence can hold it: with escapes if there is anything in it that does not print."""
    text = os.fsdecode(path)
    return text if text.isprintable() else repr(text)
