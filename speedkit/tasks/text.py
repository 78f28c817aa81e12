"""The text task: predict the next byte. Where texts come from, how they are split, and the networks.

Sources of the networks: Vaswani et al. 2017, "Attention Is All You Need", with the layer norm first as in Xiong et al.
2020; Bai et al. 2018, "An empirical evaluation of generic convolutional and recurrent networks for sequence modeling".
"""

import os
import zlib
from collections.abc import Iterable
from functools import lru_cache, partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from speedkit.support.errors import DataError
from speedkit.support.messages import N_, Message, plural_message
from speedkit.support.settings import data_folder
from speedkit.support.units import size
from speedkit.tasks.data import OnDevice, Source, bundled, drawn, held_out, prepared, split

VOCABULARY = 256  # every byte is a class
HELD = 2_000  # windows at most that are validated on, and tested on
PAGE = 4096  # bytes in a row of the database, before they are deflated
DROPPED = 10  # of a hundred bytes that heavy augmentation replaces by a zero
WIDTH, LAYERS, HEADS, CONVOLUTIONS, KERNEL = 96, 2, 4, 5, 3


# Sources


class Windows(Source):
    """Windows of a text, uint8 [bytes]: one begins every ``context`` bytes.

    A sample is twice as long as a window, so that it holds the window from any offset. The labels of a window are the
    same bytes, one further on.
    """

    def __init__(self, text: torch.Tensor, context: int, count: int | None = None, found: tuple = ()):
        """count: windows at most; found: messages on what the text is."""
        self.text, self.context, self.found = text, context, found
        self.stored = (2 * context,)
        self.count = min(max(0, len(text) // context - 1), count or len(text))

    def __len__(self):
        return self.count

    def read(self, position: int) -> torch.Tensor:
        return self.text[position * self.context :][: 2 * self.context]

    def examples(self, samples, positions, keys=None, augment=None):
        """Inputs uint8 [B, context] and labels int64 [B, context]. augment: (keys, context) -> offsets and a mask."""
        return self.gathered(samples, torch.arange(len(samples), device=samples.device), keys, augment)

    def gathered(self, samples, positions, keys, augment):
        offsets, dropped = augment(keys, self.context) if augment else (0, None)
        lines = samples.as_strided((samples.numel() - self.context, self.context + 1), (1, 1), samples.storage_offset())
        windows = lines.index_select(0, positions * (2 * self.context) + offsets)
        inputs, labels = windows[:, :-1], windows[:, 1:].long()
        return inputs.contiguous() if dropped is None else inputs.masked_fill(dropped, 0), labels

    def identity(self) -> tuple:
        return self.context, self.text

    def notes(self) -> tuple:
        return self.found


class Pages(Windows):
    """The same text from a SQLite database: ``read`` is one query, and inflates each page that it needs."""

    def __init__(self, path: Path, *args, **options):
        from speedkit.tasks.made import Database

        super().__init__(*args, **options)
        self.database, self.text = Database(path), None

    def read(self, position: int) -> torch.Tensor:
        begin = position * self.context
        pages = begin // PAGE, (begin + 2 * self.context - 1) // PAGE
        query = "SELECT deflated FROM pages WHERE number BETWEEN ? AND ? ORDER BY number"
        try:
            found = b"".join(zlib.decompress(row[0]) for row in self.database.rows(query, pages))
            window = found[begin - pages[0] * PAGE :][: 2 * self.context]
            if len(window) < 2 * self.context:
                raise ValueError(f"page {pages[0]} is missing or too short")
        except Exception as error:
            raise self.database.damaged(error) from None
        return torch.frombuffer(bytearray(window), dtype=torch.uint8)

    def identity(self) -> tuple:
        from speedkit.tasks.cache_file import stamps

        return self.context, stamps([self.database.path])

    def close(self):
        self.database.close()


# What a recipe trains on


def load(recipe):
    """The data of a recipe. A generator: it yields :class:`Progress` while it works and returns :class:`Data`.

    Raises:
        DataError: texts are missing, too short or not UTF-8.
    """
    kind, __, path = recipe.data.partition(":")
    texts = _of_files(path) if path else _plays(data_folder())
    parts = _split(texts, 3 * recipe.context)
    found = _found(recipe, texts, parts, bool(path))
    train, held, test = (torch.frombuffer(bytearray(part), dtype=torch.uint8) for part in parts)
    options = {"context": recipe.context, "count": recipe.subset, "found": found}
    source, making_s = Windows(train, **options), 0.0
    if kind == "text-sqlite":
        path, making_s = yield from _database(train)
        source = Pages(path, train, **options)
    return (
        yield from prepared(
            recipe,
            source,
            *(Windows(part, recipe.context, held_out(len(source), HELD)) for part in (held, test)),
            map(chr, range(VOCABULARY)),
            trivial=partial(accuracy_of_pairs, train),
            numbers=VOCABULARY * recipe.context,
            making_s=making_s,
            augment=augmentation(recipe),
            on_device=lambda recipe, source, samples: OnDevice(source, samples, augmentation(recipe)),
        )
    )


@lru_cache(maxsize=1)
def _plays(folder):  # another folder may hold others
    return tuple(bundled("plays.txt.gz").split(b"\f"))


def _of_files(path) -> tuple[bytes, ...]:
    """The texts of a file, or of all .txt files below a folder.

    Raises:
        DataError: there is none, or one cannot be read.
    """
    from speedkit.support.faults import reason, shown

    path, files = Path(os.path.expanduser(path)).absolute(), []
    try:
        files = [path] if path.is_file() else sorted(_text_files(path))
        texts = [file.read_bytes().removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n") for file in files]
    except OSError as error:
        where = shown(error.filename or path)
        raise DataError(Message("{path} cannot be read ({why}).", path=where, why=reason(error))) from None
    if not files:
        words = N_('{path} does not exist: give a .txt file, or a folder of them, as data="text:PATH".')
        if path.exists():
            words = N_('There are no .txt files in {path}: give a file, or a folder of them, as data="text:PATH".')
        raise DataError(Message(words, path=shown(path)))
    for file, text in zip(files, texts, strict=True):
        try:
            text.decode()
        except UnicodeDecodeError as error:
            line = text.count(b"\n", 0, error.start) + 1
            words = N_("{path} is not UTF-8 text (line {line}): save it as UTF-8, for example in an editor.")
            raise DataError(Message(words, path=shown(file), line=line)) from None
    return tuple(text for text in texts if text.strip())


def _text_files(folder) -> Iterable[Path]:
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() == ".txt" and not hidden and path.is_file():
            yield path


def _split(texts, least: int) -> list[bytes]:
    """Three texts, to train on, to validate on and to test on: whole texts, so that no window is in two of them.

    Where there are too few, one after the other is cut at a tenth and at two tenths from the end.
    """
    held = max(1, len(texts) // 19)
    order = split(len(texts)).tolist()
    parts = [b"\n\n".join(texts[i] for i in order[some]) for some in _thirds(held)]
    if min(map(len, parts)) >= least:
        return parts
    whole = b"\n\n".join(texts)
    held = len(whole) // 10
    return [whole[: -2 * held], whole[-2 * held : -held], whole[-held:]] if held else [whole, b"", b""]


def _thirds(held):
    return slice(2 * held, None), slice(0, held), slice(held, 2 * held)


def _found(recipe, texts, parts, own):
    """What was taken, as messages.

    Raises:
        DataError: it is too little.
    """
    total, context = sum(map(len, texts)), recipe.context
    if min(map(len, parts)) < 3 * context:
        words = N_(
            "{data} holds only {bytes} bytes of text: too few for windows of {context}. Lower context, or add text."
        )
        raise DataError(Message(words, data=recipe.data, bytes=total, context=context))
    count = min(len(parts[0]) // context - 1, recipe.subset or len(parts[0]))
    number = (
        plural_message("{n} text", "{n} texts", len(texts))
        if own
        else plural_message("{n} play", "{n} plays", len(texts))
    )
    words = N_("{texts}, {size}; {train} to train on, of which {used} are used ({count} windows of {context} bytes).")
    sizes = {"size": size(total), "train": size(len(parts[0])), "used": size(count * context)}
    return (Message(words, texts=number, count=f"{count:,}", context=context, **sizes),)


def _database(text):
    """The path of the text in a database, made if it is missing, and the seconds that took."""
    import time

    from speedkit.tasks.cache_file import digest
    from speedkit.tasks.made import made, write_table

    start, whole = time.perf_counter(), text.numpy().tobytes()
    pages = (zlib.compress(whole[begin : begin + PAGE]) for begin in range(0, len(whole), PAGE))
    write = partial(
        write_table, create="pages (number INTEGER PRIMARY KEY, deflated BLOB NOT NULL)", rows=enumerate(pages)
    )
    name = f"text-{digest(text)[:8]}.sqlite"
    path = yield from made(name, write, -(-len(whole) // PAGE), N_("pages written into the database, once"))
    return path, time.perf_counter() - start


def accuracy_of_pairs(text: torch.Tensor, inputs: torch.Tensor, labels: torch.Tensor) -> float:
    """The accuracy of whoever always says the byte that most often follows the one before it in ``text``."""
    pairs = text[:-1].long() * VOCABULARY + text[1:]
    likeliest = pairs.bincount(minlength=VOCABULARY**2).view(VOCABULARY, VOCABULARY).argmax(1)
    return float((likeliest[inputs.long()] == labels).double().mean())


# Augmentation on the fly


def augmentation(recipe):
    """What :meth:`Windows.examples` takes: "light" moves each window, "heavy" also drops bytes of the input."""
    return None if recipe.augment == "off" else Moved(recipe.seed, recipe.augment == "heavy")


class Moved:
    """A fresh offset for each window in every epoch, as a crop is for an image. It costs next to nothing."""

    def __init__(self, seed: int, drop: bool):
        self.seed, self.drop = seed, drop

    def __call__(self, keys: torch.Tensor, context: int):
        """Offsets int64 [B] below ``context`` and, if bytes are dropped, which: bool [B, context], else None."""
        offsets = drawn(context, self.seed, keys)
        if not self.drop:
            return offsets, None
        bytes_ = keys.unsqueeze(1) * context + torch.arange(context, device=keys.device)
        return offsets, drawn(100, self.seed, bytes_, salt=1) < DROPPED


# The networks


def network(recipe, shape, classes: int, inputs=None) -> nn.Module:
    """The network of a recipe, see :mod:`speedkit.tasks`: bytes uint8 [B, T] -> logits [B, classes, T].

    The output at a position depends only on the input up to there.
    """
    if recipe.model == "transformer":
        return Transformer(shape[0], classes)
    layers = [Embedded(classes), *(Causal(2**i, recipe.batchnorm) for i in range(CONVOLUTIONS))]
    return nn.Sequential(*layers, nn.Conv1d(WIDTH, classes, 1))


class Transformer(nn.Module):
    """A small decoder: bytes and positions are embedded, then blocks of attention and a perceptron."""

    def __init__(self, context: int, classes: int):
        super().__init__()
        self.byte, self.position = nn.Embedding(classes, WIDTH), nn.Parameter(0.02 * torch.randn(context, WIDTH))
        self.blocks = nn.Sequential(*(Block() for __ in range(LAYERS)))
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, classes))

    def forward(self, inputs):
        embedded = self.byte(inputs.int()) + self.position[: inputs.shape[1]]
        return self.head(self.blocks(embedded)).transpose(1, 2)


class Block(nn.Module):
    """Causal attention, then a perceptron; each is added to what came in."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.question, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.perceptron = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x):
        parts = self.question(self.first(x)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(*parts, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        return x + self.perceptron(self.second(x))


class Embedded(nn.Embedding):
    """Bytes uint8 [B, T] -> [B, WIDTH, T], as convolutions take them."""

    def __init__(self, classes: int):
        super().__init__(classes, WIDTH)

    def forward(self, inputs):
        return super().forward(inputs.int()).transpose(1, 2)


class Causal(nn.Module):
    """A dilated convolution that sees nothing later than itself, a norm if wanted, and ReLU; added to what came in."""

    def __init__(self, dilation: int, with_norm: bool):
        super().__init__()
        self.before = (KERNEL - 1) * dilation
        self.convolution = nn.Conv1d(WIDTH, WIDTH, KERNEL, dilation=dilation)
        self.norm = nn.BatchNorm1d(WIDTH) if with_norm else nn.Identity()
        if with_norm:  # the bias is drawn and then dropped, so both variants start from the same random weights
            self.convolution.register_parameter("bias", None)

    def forward(self, x):
        return x + F.relu(self.norm(self.convolution(F.pad(x, (self.before, 0)))))
