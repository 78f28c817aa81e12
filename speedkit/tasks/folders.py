"""What a folder of pictures holds: its classes, the pictures that are used, and what is left out."""

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from speedkit.support.errors import DataError
from speedkit.support.faults import shown
from speedkit.support.messages import N_, Message, plural_message

SYSTEM = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "$recycle.bin", "#recycle"}
SYSTEM |= {"system volume information", "lost+found", "__pycache__", "@recycle", "network trash folder"}
UNREADABLE = {"BUFR", "GRIB", "HDF5", "WMF", "MPEG", "EPS", "PDF"}  # Pillow knows them, but needs another program
PARTS = {"train", "training", "trainval", "test", "testing", "val", "valid", "validation", "validate", "eval"}
PARTS |= {"evaluation", "dev", "holdout", "traintest", "unlabeled", "unlabelled", "trainset", "testset", "valset"}
AROUND = {"set", "data", "dataset", "images", "image", "imgs", "img", "pictures", "photos", "part", "split", "seg"}
AROUND |= {"the", "my", "folder", "files", "new", "old", "final", "raw", "processed", "subset", "all", "sub", "x"}
LISTED = 8  # names of classes in a sentence
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".xz", ".bz2")


@dataclass
class Folder:
    """``classes``: name -> paths of its pictures, both in order. ``left_out``: extension -> number of files."""

    path: Path
    classes: dict = field(default_factory=dict)
    empty: list = field(default_factory=list)  # folders without a file
    without: list = field(default_factory=list)  # folders without a picture
    left_out: Counter = field(default_factory=Counter)
    loose: list = field(default_factory=list)  # pictures in no class folder


def found_in(path: Path) -> Folder:
    """The classes of a folder, one for each folder in it, with all pictures below.

    Raises:
        DataError: there are fewer than two, they are not classes, or something cannot be read.
    """
    folder = _looked_into(path)
    if len(folder.classes) < 2:
        raise _not_classes(path, _why_too_few(folder), _meant(folder))
    parts = [name for name in folder.classes if _is_part(name)]
    nested = [name for name in parts if len(_folders_in(path / name)) > 1]
    vehicle = len(parts) == 1 and not nested and parts[0].lower() in ("train", "valid", "dev")  # beside bus and car
    if parts and not vehicle:
        names = _listed(parts)
        if len(parts) == 1 and not nested:
            why = Message("{names} is called like a part of a split; if it is a class, rename it", names=names)
        else:
            why = Message("{names} are called like the parts of a split, not like classes", names=names)
        raise _not_classes(path, why, _meant(folder))
    if folder.empty:
        words = N_("{path} has empty class folders ({names}): fill or remove them.")
        raise DataError(Message(words, path=shown(path), names=_listed(folder.empty)))
    return folder


def notes(folder: Folder) -> tuple:
    """What was taken and what was not, as messages."""
    count = sum(map(len, folder.classes.values()))
    taken = Message(
        "{pictures} in {classes} classes ({names})",
        pictures=plural_message("{n} picture", "{n} pictures", count),
        classes=len(folder.classes),
        names=_listed(folder.classes),
    )
    said = [_and_left_out(taken, folder.left_out)]
    if folder.loose:
        said.append(
            plural_message(
                "{n} picture was left out because it is in no class folder ({example}).",
                "{n} pictures were left out because they are in no class folder ({example}, ...).",
                len(folder.loose),
                example=shown(folder.loose[0]),
            )
        )
    if folder.without:
        said.append(
            plural_message(
                "{n} folder was left out because there is no picture in it ({names}).",
                "{n} folders were left out because there is no picture in them ({names}).",
                len(folder.without),
                names=_listed(folder.without),
            )
        )
    return tuple(said)


def _and_left_out(taken, left_out):
    if not left_out:
        return Message("{taken}.", taken=taken)
    files = plural_message("{n} file left out", "{n} files left out", sum(left_out.values()))
    kinds = ", ".join(sorted(left_out, key=lambda kind: (-left_out[kind], kind))[:LISTED])
    return Message("{taken}; {files} ({kinds}).", taken=taken, files=files, kinds=kinds)


def _looked_into(path):
    """All that is in a folder, whether it makes sense or not."""
    try:
        path.stat()
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        raise _not_classes(path, N_("it does not exist") if missing else error.strerror) from None
    if not path.is_dir():
        archive = path.suffix.lower() in ARCHIVES
        raise _not_classes(path, N_("it is an archive: unpack it") if archive else N_("it is a file"))
    folder, extensions = Folder(path), picture_extensions()
    for entry in _entries(path):
        if not _is(entry.is_dir):
            _sort(entry, extensions, folder.loose, folder.left_out)
            continue
        pictures, files = [], list(_files_below(entry.path, set()))
        for file in files:
            _sort(file, extensions, pictures, folder.left_out)
        if pictures:
            folder.classes[entry.name] = pictures
        else:
            (folder.without if files else folder.empty).append(entry.name)
    return folder


def picture_extensions() -> set:
    """The extensions of the formats that Pillow reads here, with a dot, in lower case."""
    known = Image.registered_extensions()
    return {end for end, kind in known.items() if kind in Image.OPEN and kind not in UNREADABLE}


def _entries(path):
    """What is in a folder, by name, without what systems and programs hide there."""
    try:
        with os.scandir(path) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        words = N_("The folder {folder} cannot be read ({why}): give yourself the right to read it, or move it away.")
        raise DataError(Message(words, folder=shown(path), why=error.strerror)) from None
    return [each for each in entries if not each.name.startswith((".", "~$")) and each.name.lower() not in SYSTEM]


def _files_below(path, above):
    """All files below a folder, its own first; ``above``: the real paths of the folders around it."""
    real = os.path.realpath(path)
    if real in above:
        return
    entries = _entries(path)
    yield from (entry for entry in entries if not _is(entry.is_dir))
    for entry in entries:
        if _is(entry.is_dir):
            yield from _files_below(entry.path, above | {real})


def _is(what):
    """Whether an entry is what its method asks; a link is what it leads to, or nothing if it leads in a circle."""
    try:
        return what()
    except OSError:
        return False


def _sort(entry, extensions, pictures, left_out):
    extension = os.path.splitext(entry.name)[1].lower()
    if not _is(entry.is_file):
        left_out["broken links" if entry.is_symlink() else "no ordinary files"] += 1
    elif extension in extensions:
        pictures.append(entry.path)
    else:
        left_out[shown(extension) if extension else "without extension"] += 1


def _not_classes(path, why, meant=None):
    values = {"path": shown(path), "why": why if isinstance(why, Message) else Message(why)}
    if meant is None:
        return DataError(Message("{path} is not a folder of class folders with pictures: {why}.", **values))
    words = N_("{path} is not a folder of class folders with pictures: {why}. Did you mean folder:{meant}?")
    return DataError(Message(words, meant=shown(meant), **values))


def _why_too_few(folder):
    if folder.classes:
        return Message("it has only one class ({name})", name=shown(*folder.classes))
    if folder.loose:
        return N_("its pictures are in no class folder")
    if folder.left_out:
        kinds = ", ".join(sorted(folder.left_out))
        return Message("there are no pictures that Pillow can read in it, only {kinds}", kinds=kinds)
    return N_("there are no pictures in it")


def _folders_in(path):
    """The names of the folders in a folder that may be classes; those for training first."""
    try:
        names = [entry.name for entry in _entries(path) if _is(entry.is_dir)]
    except DataError:
        return []
    return sorted(names, key=_training_first)


def _training_first(name):
    return "train" not in name.lower(), name


def _meant(folder):
    """The folder that was probably meant: the one around, or the nearest one below with folders like classes."""
    path = folder.path
    if not folder.classes and folder.loose:
        above = [name for name in _folders_in(path.parent) if not _is_part(name)]
        return path.parent if len(above) > 1 and not _is_part(path.name) else None
    below = sorted(folder.classes, key=_training_first)
    for __ in range(4):
        for name in below:
            inside = _folders_in(path / name)
            if len(inside) > 1 and not any(map(_is_part, inside)):
                return path / name
        below = [f"{name}/{inner}" for name in below for inner in _folders_in(path / name)[:50]]
    return None


def _is_part(name):
    """Whether a folder is called like a part of a split: train, Test_set, val2017 ..., not like a train station."""
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if word]
    return any(word in PARTS for word in words) and all(word in PARTS | AROUND for word in words)


def _listed(names):
    names = list(map(shown, names))
    more = ["..."] if len(names) > LISTED else []
    return ", ".join(names[: LISTED - len(more)] + more)
