"""The rating task: which item comes next to those that a user has? Where ratings come from, their split, the network.

Sources: Covington et al. 2016, "Deep neural networks for YouTube recommendations" (the network); Liang et al. 2018,
"Variational autoencoders for collaborative filtering" (users are held out whole); Krichene and Rendle 2020, "On sampled
metrics for item recommendation" (why hit@10 ranks all items).
"""

import csv
import io
import os
import time
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from speedkit.support.errors import DataError
from speedkit.support.messages import N_, Message, plural_message
from speedkit.support.settings import data_folder
from speedkit.tasks.data import SPLIT_SEED, OnDevice, Source, bundled, drawn, held_out, prepared, split

TOP = 10  # guesses that the network has
HELD = 5_000  # users at most that are validated on, and tested on
MOST = 50_000  # items: the commonest ones
WIDTH = 64
NAMES = {  # of columns, in lower case and without anything but letters
    "user": "user userid uid customer customerid client clientid member memberid visitor visitorid buyer package",
    "item": "item itemid iid movie movieid product productid article articleid sku stockcode asin book isbn library",
    "time": "time timestamp date datetime day ts unixtime eventtime ordertime orderdate invoicedate purchased",
}
SEPARATORS = ("::", "\t", ";", ",")


class Ratings(NamedTuple):
    """Who has what: numbers of users from 0 and of items from 1, int64 [pairs], in order of time if that is known."""

    users: np.ndarray
    items: np.ndarray
    times: np.ndarray | None  # float64 [pairs]
    names: tuple[str, ...]  # of the items; the first is no item's
    found: tuple  # messages


# Sources


class Histories(Source):
    """Up to ``history`` + 1 items of a user, [N, history + 1], 0 = none: one is to be found by the others."""

    def __init__(self, rows: np.ndarray, in_order: bool, found: tuple = ()):
        """in_order: an item is to be found only by those before it."""
        self.rows, self.in_order, self.found = torch.from_numpy(rows), in_order, found
        self.dtype = self.rows.dtype

    def __len__(self):
        return len(self.rows)

    def read(self, position: int) -> torch.Tensor:
        return self.rows[position]

    def examples(self, samples, positions, keys=None, augment=None):
        """Inputs int32 [B, history + 1] and labels int64 [B]. augment: see :class:`Fresh`."""
        items = samples.int()
        count, places = items.count_nonzero(1), torch.arange(items.shape[1], device=items.device)
        if augment:
            target = augment.target(keys, count, self.in_order)
        else:
            target = count - 1 if self.in_order else drawn(count, SPLIT_SEED, positions)
        target = target.unsqueeze(1)
        kept = places < target if self.in_order else places != target
        if augment and augment.half:
            kept &= augment.kept(keys, places)
        return items * kept, items.gather(1, target).squeeze(1).long()

    def identity(self) -> tuple:
        return self.in_order, self.rows.view(torch.uint8)

    def notes(self) -> tuple:
        return self.found


class Queries(Histories):
    """The same from a SQLite database: ``read`` is one query."""

    QUERY = "SELECT item FROM pairs WHERE user = ? AND place >= ? ORDER BY place LIMIT ?"

    def __init__(self, path: Path, keys: np.ndarray, length: int, dtype, in_order: bool, found: tuple):
        """keys: user and first place of each sample, int64 [N, 2]."""
        from speedkit.tasks.made import Database

        self.database, self.keys, self.stored, self.dtype = Database(path), keys, (length,), dtype
        self.in_order, self.found = in_order, found

    def __len__(self):
        return len(self.keys)

    def read(self, position: int) -> torch.Tensor:
        user, place = self.keys[position].tolist()
        try:
            rows = self.database.rows(self.QUERY, (user, place, *self.stored))
            if len(rows) < 2:
                raise ValueError(f"the pairs of user {user} are missing")
        except Exception as error:
            raise self.database.damaged(error) from None
        items = [row[0] for row in rows]
        return torch.tensor(items + [0] * (self.stored[0] - len(items)), dtype=self.dtype)

    def identity(self) -> tuple:
        from speedkit.tasks.cache_file import stamps

        return self.in_order, torch.from_numpy(self.keys), stamps([self.database.path])

    def close(self):
        self.database.close()


# What a recipe trains on


def load(recipe):
    """The data of a recipe. A generator: it yields :class:`Progress` while it works and returns :class:`Data`.

    Raises:
        DataError: ratings are missing, damaged or too few; the message names the file and the line.
    """
    kind, __, path = recipe.data.partition(":")
    ratings = _of_file(path) if path else _dependencies(data_folder())
    dtype = np.uint16 if len(ratings.names) <= 2**16 else np.int32
    in_order, length = ratings.times is not None, recipe.history + 1
    parts = _by_time(ratings) if in_order else _by_user(ratings)
    train, keys = (part[: recipe.subset] for part in _rows(*parts[0], length, dtype))
    held = [_rows(*_latest(*part, length), length, dtype)[0][: held_out(len(train), HELD)] for part in parts[1:]]
    if not min(map(len, (train, *held))):
        raise DataError(
            Message("{data} has too few users with two items to train, validate and test on.", data=recipe.data)
        )
    source, making_s = Histories(train, in_order, ratings.found), 0.0
    if kind == "ratings-sqlite":
        path, making_s = yield from _database(*parts[0])
        source = Queries(path, keys, length, source.dtype, in_order, ratings.found)
    popular = np.bincount(parts[0][1])[1:].argsort(kind="stable")[::-1][:TOP] + 1
    return (
        yield from prepared(
            recipe,
            source,
            *(Histories(rows, in_order) for rows in held),
            ratings.names,
            trivial=lambda __, labels: float(np.isin(labels, popular).mean()),
            numbers=len(ratings.names),
            making_s=making_s,
            augment=augmentation(recipe),
            on_device=lambda recipe, source, samples: OnDevice(source, samples, augmentation(recipe)),
            top=TOP,
        )
    )


@lru_cache(maxsize=1)
def _dependencies(folder):  # another folder may hold others
    ratings = parsed(bundled("dependencies.csv.gz").decode(), "dependencies.csv.gz")
    words = N_("{pairs} dependencies of {users} packages on {items} libraries.")
    return ratings._replace(found=(_counted(words, ratings),))


def _of_file(path):
    """The ratings in a CSV file.

    Raises:
        DataError: it cannot be read; the message names the file and the line.
    """
    from speedkit.support.faults import reason, shown

    path = Path(os.path.expanduser(path)).absolute()
    try:
        raw = path.read_bytes()
    except OSError as error:
        words = N_('{path} cannot be read ({why}): give a CSV file as data="ratings:PATH".')
        raise DataError(Message(words, path=shown(path), why=reason(error))) from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        words = N_("{path} is not UTF-8 text (line {line}): save it as UTF-8, for example in an editor.")
        raise DataError(Message(words, path=shown(path), line=line)) from None
    ratings = parsed(text, shown(path))
    words = N_("{pairs} ratings by {users} users of {items} items, split by user.")
    if ratings.times is not None:
        words = N_("{pairs} ratings by {users} users of {items} items, split by time.")
    return ratings._replace(found=(_counted(words, ratings), *ratings.found))


def _counted(words, ratings):
    counts = {"pairs": len(ratings.users), "users": len(np.unique(ratings.users)), "items": len(ratings.names) - 1}
    return Message(words, **{name: f"{count:,}" for name, count in counts.items()})


def parsed(text: str, where: str) -> Ratings:
    """The ratings in a CSV: user, item[, rating][, time], with or without a heading, in columns that its names tell.

    Raises:
        DataError: a row does not fit; the message names the line.
    """
    first = text.lstrip("\r\n").partition("\n")[0]
    separator = next((each for each in SEPARATORS if each in first), ",")
    if len(separator) > 1:  # the csv module takes one character
        text, separator = text.replace(separator, "\t"), "\t"
    reader = csv.reader(io.StringIO(text), delimiter=separator)
    try:
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise _wrong(where, reader.line_num, str(error)) from None
    if not rows:
        raise DataError(Message("{path} is empty: give a CSV file with users and items.", path=where))
    columns = _named(rows[0][1])
    if columns:
        rows = rows[1:]
    else:
        columns = _unnamed(rows, where)
    wanted, users, items, times = max(columns.values()) + 1, {}, {}, []
    pairs = np.empty((len(rows), 2), np.int64)
    for i, (line, row) in enumerate(rows):
        if len(row) < wanted:
            raise _wrong(
                where,
                line,
                plural_message(
                    "it has {n} column, not {wanted}", "it has {n} columns, not {wanted}", len(row), wanted=wanted
                ),
            )
        user, item = row[columns["user"]], row[columns["item"]]
        if not (user and item):
            raise _wrong(where, line, N_("the user or the item is empty"))
        pairs[i] = users.setdefault(user, len(users)), items.setdefault(item, len(items) + 1)
        if "time" in columns:
            times.append(_seconds(row[columns["time"]], where, line))
    return _tidy(pairs, np.array(times) if times else None, ("", *items))


def _named(heading):
    """The columns that a heading names: {"user": 0, "item": 1 ...}; {} if it is no heading."""
    plain = ["".join(filter(str.isalpha, name.lower())) for name in heading]
    found = {part: plain.index(name) for part, names in NAMES.items() for name in names.split()[::-1] if name in plain}
    return found if {"user", "item"} <= found.keys() else {}


def _unnamed(rows, where):
    line, first = rows[0]
    if not 2 <= len(first) <= 4:
        why = plural_message(
            "it has {n} column: name those of the user and the item in a heading, such as user,item",
            "it has {n} columns: name those of the user and the item in a heading, such as user,item",
            len(first),
        )
        raise _wrong(where, line, why)
    columns = {"user": 0, "item": 1}
    if len(first) == 4 or (len(first) == 3 and not all(_is_rating(row[2:3]) for __, row in rows[:100])):
        columns["time"] = len(first) - 1
    return columns


def _is_rating(cells):
    try:
        return bool(cells) and abs(float(cells[0])) <= 100
    except ValueError:
        return False


def _seconds(cell, where, line):
    from datetime import UTC, datetime

    try:
        number = float(cell)
        if np.isfinite(number):
            return number
    except ValueError:
        pass
    try:
        when = datetime.fromisoformat(cell)
    except ValueError:
        words = N_("the time {time} is neither a number nor a date such as 2026-01-31 12:00:00")
        raise _wrong(where, line, Message(words, time=repr(cell)[:40])) from None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _wrong(where, line, why):
    return DataError(Message("Line {line} of {path} cannot be used: {why}.", line=line, path=where, why=why))


def _tidy(pairs, times, names):
    """Ratings in order: by user, then by time or shuffled; without repeats if there is no time; the commonest items."""
    found = ()
    if len(names) - 1 > MOST:
        commonest = np.sort(np.bincount(pairs[:, 1]).argsort(kind="stable")[::-1][:MOST])
        number = np.zeros(len(names), np.int64)
        number[commonest] = np.arange(1, MOST + 1)
        pairs[:, 1] = number[pairs[:, 1]]
        times = times[pairs[:, 1] > 0] if times is not None else None
        pairs, names = pairs[pairs[:, 1] > 0], ("", *(names[item] for item in commonest))
        found = (Message("Only the {count} commonest items are used.", count=f"{MOST:,}"),)
    if times is None:
        pairs = np.unique(pairs, axis=0)
        pairs = pairs[split(len(pairs)).numpy()]
        order = pairs[:, 0].argsort(kind="stable")
    else:
        order = np.lexsort((times, pairs[:, 0]))
        times = times[order]
    return Ratings(*pairs[order].T, times, names, found)


def _by_user(ratings):
    """Three parts, (users, items, whether the pair is one to find): each user is in one of them."""
    order = split(int(ratings.users.max()) + 1).numpy()
    held = max(1, len(order) // 10)
    part = np.zeros(len(order), np.int64)
    part[order[:held]], part[order[held : 2 * held]] = 1, 2
    return [(ratings.users[mine], ratings.items[mine]) for mine in (part[ratings.users] == i for i in range(3))]


def _by_time(ratings):
    """Three parts: up to a time, what came next until a second one, and what came after that.

    In the last two, a user has one row: the first new item, after all before it.
    """
    first, second = np.quantile(ratings.times, (0.8, 0.9))
    parts = [ratings.times < first]
    for begin, end in ((first, second), (second, np.inf)):
        new = (ratings.times >= begin) & (ratings.times < end)
        where = np.flatnonzero(new)
        ends = np.full(int(ratings.users.max()) + 1, -1)
        ends[ratings.users[where[::-1]]] = where[::-1]  # of each user the first
        parts.append(np.arange(len(new)) <= ends[ratings.users])
    return [(ratings.users[mine], ratings.items[mine]) for mine in parts]


def _rows(users, items, length, dtype):
    """The items of each user in rows of ``length``, [rows, length], and user and first place of each, int64 [rows, 2].

    A row with one item is left out: there is nothing to find it by.
    """
    if not len(users):
        return np.zeros((0, length), dtype), np.zeros((0, 2), np.int64)
    begins = np.flatnonzero(np.diff(users, prepend=-1))
    counts = np.diff(np.append(begins, len(users)))
    places = np.arange(len(users)) - np.repeat(begins, counts)
    new = np.flatnonzero(places % length == 0)
    rows = np.zeros((len(new), length), dtype)
    rows[np.cumsum(places % length == 0) - 1, places % length] = items
    keys = np.stack((users[new], places[new]), axis=1)
    some = rows[:, 1] > 0
    order = split(int(some.sum())).numpy()
    return rows[some][order], keys[some][order]


def _latest(users, items, length):
    """The last ``length`` items of each user."""
    begins = np.flatnonzero(np.diff(users, prepend=-1))
    counts = np.diff(np.append(begins, len(users)))
    left = np.repeat(begins + counts, counts) - np.arange(len(users))
    return users[left <= length], items[left <= length]


def _database(users, items):
    """The path of the pairs in a database, made if it is missing, and the seconds that took."""
    from speedkit.tasks.cache_file import digest
    from speedkit.tasks.made import made, write_table

    start = time.perf_counter()
    begins = np.flatnonzero(np.diff(users, prepend=-1))
    places = np.arange(len(users)) - np.repeat(begins, np.diff(np.append(begins, len(users))))
    rows = zip(users.tolist(), places.tolist(), items.tolist(), strict=True)
    index = "CREATE INDEX by_user ON pairs (user, place)"
    write = partial(write_table, create="pairs (user INTEGER, place INTEGER, item INTEGER)", rows=rows, index=index)
    name, what = f"ratings-{digest(users, items)[:8]}.sqlite", N_("pairs written into the database, once")
    path = yield from made(name, write, len(users), what)
    return path, time.perf_counter() - start


# Augmentation on the fly


def augmentation(recipe):
    """What :meth:`Histories.examples` takes: "light" asks for a fresh item, "heavy" by fewer others."""
    return None if recipe.augment == "off" else Fresh(recipe.seed, recipe.augment == "heavy")


class Fresh:
    """A fresh item to find in every epoch, and if wanted a fresh half of the others to find it by."""

    def __init__(self, seed: int, half: bool):
        self.seed, self.half = seed, half

    def target(self, keys, count, in_order: bool):
        """The place of the item to find, int64 [B], among ``count`` int64 [B] items; in order, it is not the first."""
        first = int(in_order)
        return first + drawn(count - first, self.seed, keys)

    def kept(self, keys, places):
        """Which of the other items the network gets, if it is not all of them: bool [B, history + 1]."""
        return drawn(2, self.seed, keys.unsqueeze(1) * len(places) + places, salt=1) > 0


# The network


def network(recipe, shape, classes: int, inputs=None) -> nn.Module:
    """The network of a recipe, see :mod:`speedkit.tasks`: item numbers [B, history + 1], 0 = none -> logits."""
    return Embedding(classes, recipe.batchnorm)


class Embedding(nn.Module):
    """The mean of the items' vectors, then a perceptron, then the product with the same vectors: near is likely."""

    def __init__(self, classes: int, with_norm: bool):
        super().__init__()
        self.items = nn.EmbeddingBag(classes, WIDTH, mode="mean", padding_idx=0)
        nn.init.normal_(self.items.weight, std=WIDTH**-0.5)
        self.bias = nn.Parameter(torch.zeros(classes))
        norm = nn.BatchNorm1d(2 * WIDTH) if with_norm else nn.Identity()
        self.perceptron = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), norm, nn.ReLU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, inputs):
        return F.linear(self.perceptron(self.items(inputs)), self.items.weight, self.bias)
