"""Files and databases that are made once, on demand, from the data that the kit brings."""

import contextlib
import os
import shutil
import socket
import sqlite3
from pathlib import Path

import psutil

from speedkit.support.errors import DataError
from speedkit.support.faults import reason, shown
from speedkit.support.messages import N_, Message
from speedkit.support.settings import generated_folder
from speedkit.tasks import Progress


def made(name: str, write, count: int, what: str):
    """The path of what ``name`` stands for, made now if it is missing: under a temporary name, then renamed.

    So it is whole or absent, also if it is interrupted, or if two kernels make it at once. write: (path) -> an iterator
    over the numbers of the pieces done, of ``count``. A generator: it yields :class:`Progress` on ``what``.

    Raises:
        DataError: it cannot be made, or was made by another user and cannot be read; the message says what to do.
    """
    target = generated_folder() / name
    if os.path.exists(target):
        if not os.access(target, os.R_OK):
            words = N_(
                "{path} was made by another user, and cannot be read: name a folder of your own in the environment "
                "variable SPEEDKIT_GENERATED."
            )
            raise DataError(Message(words, path=target))
        return target
    temporary = target.with_name(f".{target.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target.parent)
        for done in write(temporary):
            if done % 50 == 0:
                yield Progress(what, done, count)
        try:
            os.rename(temporary, target)
        except OSError:
            if not target.exists():  # else another kernel was faster: its set is whole, and ours is not needed
                raise
    except (OSError, sqlite3.OperationalError) as error:
        words = N_(
            "{path} could not be made ({why}): free some disk space, or name a folder that can be written in the "
            "environment variable SPEEDKIT_GENERATED."
        )
        raise DataError(Message(words, path=target, why=reason(error))) from error
    finally:
        _remove(temporary)
    return target


def write_table(path, create: str, rows, index: str = ""):
    """Writes the rows of a new SQLite table; an iterator over the number of rows done. index: a statement, at last."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute(f"CREATE TABLE {create}")
        table, places = create.split()[0], ", ".join("?" * (create.count(",") + 1))
        for done, row in enumerate(rows):
            connection.execute(f"INSERT INTO {table} VALUES ({places})", row)
            yield done
        if index:
            connection.execute(index)


class Database:
    """A SQLite database that is only read. Each process that reads it has a connection of its own."""

    def __init__(self, path: Path):
        self.path, self.owner, self.connection = path, None, None

    def rows(self, query: str, values: tuple) -> list:
        """The rows that a query finds.

        Raises:
            sqlite3.Error: the database cannot be read; call :meth:`damaged` with it.
        """
        if self.owner != os.getpid():
            uri = f"{self.path.resolve().as_uri()}?mode=ro&immutable=1"
            self.connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
            self.owner = os.getpid()
        return self.connection.execute(query, values).fetchall()

    def damaged(self, error: Exception) -> DataError:
        """Closes the database, and returns an error that says what is wrong with it."""
        self.close()
        words = N_("{path} is damaged ({why}): delete it, and it will be made again.")
        return DataError(Message(words, path=shown(self.path), why=reason(error)))

    def close(self):
        if self.owner == os.getpid() and self.connection is not None:
            self.connection.close()
        self.owner, self.connection = None, None

    def __getstate__(self):
        return self.__dict__ | {"owner": None, "connection": None}


def _remove_leftovers(folder):
    """Removes half-made sets of processes killed on this machine; in a container one may have had our number."""
    for path in folder.glob(f".*.{socket.gethostname()}.*.tmp"):
        pid = path.name.split(".")[-2]
        if pid.isdigit() and (int(pid) == os.getpid() or not psutil.pid_exists(int(pid))):
            _remove(path)


def _remove(path):
    if os.path.isdir(path):  # path.is_dir() would raise if another user's folder may not be read
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
