"""Whatever a decoder raises becomes one sentence with the file's name, wherever the picture is read."""

import io
import os
import pickle
import sqlite3
import struct
import subprocess
import sys
import traceback
import zlib
from pathlib import Path

import pytest
import torch
from conftest import run_through
from PIL import Image, PngImagePlugin
from test_folders import fill

import speedkit as sk
from speedkit.lab.runner import Runner
from speedkit.recipe import Recipe
from speedkit.support.errors import DataError
from speedkit.support.faults import shown
from speedkit.support.messages import Message, _, language
from speedkit.tasks import data as tasks_data
from speedkit.tasks import decoding
from speedkit.tasks import images as data
from speedkit.train import first_batch, fit


def png(*chunks):
    """A PNG of 8 x 8 pixels with these chunks after its header."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    content = file.getvalue()
    made = b""
    for kind, body in chunks:
        made += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return content[:33] + made + content[33:]


def long_text():
    text = PngImagePlugin.PngInfo()
    text.add_text("workflow", "x" * (5 << 20), zip=True)
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG", pnginfo=text)
    return file.getvalue()


def picture(kind, **options):
    file = io.BytesIO()
    Image.effect_noise((64, 64), 80).convert("RGB").save(file, kind, **options)
    return file.getvalue()


def short_header():
    """A PNG whose header chunk is too short: struct's own error."""
    body = b"\x00\x00\x00\x08"
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 4) + b"IHDR" + body + struct.pack(">I", zlib.crc32(b"IHDR" + body))


def bomb():
    """A picture of 60,000 x 60,000 pixels in a few bytes."""
    body = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    header = struct.pack(">I", 13) + b"IHDR" + body + struct.pack(">I", zlib.crc32(b"IHDR" + body))
    return b"\x89PNG\r\n\x1a\n" + header + png()[33:]


DAMAGED = {
    "a long text": (long_text, "png"),
    "nothing": (lambda: b"", "png"),
    "text": (lambda: b"<html>404 Not Found</html>", "jpg"),
    "half a JPEG": (lambda: picture("JPEG")[:900], "jpg"),
    "half a PNG": (lambda: picture("PNG")[:900], "png"),
    "half a GIF": (lambda: picture("GIF")[:700], "gif"),
    "half a WebP": (lambda: picture("WEBP")[:300], "webp"),
    "half a TIFF": (lambda: picture("TIFF")[:3000], "tif"),
    "half a BMP": (lambda: picture("BMP")[:3000], "bmp"),
    "a short header": (short_header, "png"),
    "a wrong checksum": (lambda: png()[:30] + b"\x00" + png()[31:], "png"),
    "a bomb": (bomb, "png"),
    "a HEIC called JPEG": (lambda: b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(200), "jpg"),
}


def sentence_of(error, path):
    """The words of an error, which must be one line with the file's name and advice."""
    words = str(error)
    assert isinstance(error, DataError)
    assert "\n" not in words
    assert words.startswith(f"{shown(path)} cannot be read as a picture (")
    assert words.endswith("): replace or remove it.")
    assert words.count(Path(path).name) == 1
    return words


@pytest.mark.parametrize("harm", DAMAGED)
def test_a_damaged_file_is_one_sentence(tmp_path, harm):
    make, ext = DAMAGED[harm]
    fill(tmp_path, ext=ext)
    path = run_through(data.load(recipe_for(tmp_path)))[1].train.paths[3]
    Path(path).write_bytes(make())
    with pytest.raises(DataError) as refused:
        run_through(data.load(recipe_for(tmp_path)))
    sentence_of(refused.value, path)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("Decompressed data too large"),
        struct.error("unpack requires a buffer of 4 bytes"),
        EOFError(),
        MemoryError(),
        IndexError("list index out of range"),
        KeyError("tile"),
        TypeError("no"),
        AssertionError(),
        ZeroDivisionError("division by zero"),
        OverflowError("too large"),
        RecursionError("too deep"),
        NotImplementedError("codec"),
        SyntaxError("not a TIFF file"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        zlib.error("Error -3 while decompressing"),
        RuntimeError("several\nlines\n\nof text"),
        UserWarning("raised by -W error"),
        OSError("broken data stream"),
        OSError(5, "Input/output error", "a name"),
        Image.DecompressionBombError("bomb"),
        Exception("\x1b[31m\u202e"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_decoder_raises(tmp_path, monkeypatch, error):
    fill(tmp_path)

    def fails(*_, **__):
        raise error

    monkeypatch.setattr(Image, "open", fails)
    found = tmp_path / "circle" / "00.png"
    words = sentence_of(decoding.unreadable(found, error), found)
    assert words.isprintable()
    with pytest.raises(DataError) as refused:
        run_through(data.load(recipe_for(tmp_path)))
    assert str(refused.value).isprintable()


def recipe_for(folder, **changes):
    values = {"image_size": 8, "batch_size": 4, "epochs": 1, "model": "mlp", "device": "cpu"}
    return Recipe(data=f"folder:{folder}", **values | changes)


@pytest.fixture
def late(tmp_path, monkeypatch):
    """A folder with a picture that turns out to be damaged only while training, and that picture's path."""
    monkeypatch.setattr(tasks_data, "PROBE", 4)

    def make(name=".png"):
        fill(tmp_path, count=20)
        last = Path(run_through(data.load(recipe_for(tmp_path)))[1].train.paths[-1])
        bad = last.with_name(f"{last.stem}{name}")  # which has the same place in the order of names
        last.rename(bad)
        bad.write_bytes(long_text())
        assert run_through(data.load(recipe_for(tmp_path)))[1].train.paths[-1] == str(bad)
        return bad

    return make


METHODS = [(0, "auto"), (1, "fork"), (2, "forkserver"), (1, "spawn")]


@pytest.mark.parametrize(("workers", "method"), METHODS)
def test_at_any_number_of_workers_under_any_start_method(tmp_path, late, no_children, workers, method):
    bad = late()
    recipe = recipe_for(tmp_path, workers=workers, start_method=method)
    with pytest.raises(DataError) as refused:
        fit(recipe)
    words = sentence_of(refused.value, bad)
    told = "".join(traceback.format_exception(refused.value))
    assert "Original Traceback" not in told
    assert "direct cause" not in told
    assert len(told.splitlines()) < 20
    runner = Runner(recipe, lambda record: None)
    runner.in_background()
    assert runner.problem == words
    assert runner.run.reason == words


@pytest.mark.parametrize(
    "name", ["a\nb.png", "tab\t.png", "\x1b[31mred.png", "\u202egnp.exe.png", "a\udcff.png", "{x}%s.png"]
)
@pytest.mark.parametrize("workers", [0, 1])
def test_names_with_odd_characters(tmp_path, late, workers, name):
    bad = late(name)
    with pytest.raises(DataError) as refused:
        fit(recipe_for(tmp_path, workers=workers))
    words = str(refused.value)
    assert words.isprintable()
    assert words.startswith(f"{shown(bad)} cannot be read as a picture (")
    assert words.endswith("replace or remove it.")


def test_a_sentence_from_a_worker_can_be_translated(tmp_path, late):
    late()
    with pytest.raises(DataError) as refused:
        fit(recipe_for(tmp_path, workers=1))
    assert isinstance(refused.value.args[0], Message)
    assert refused.value.args[0].msgid == "{path} cannot be read as a picture ({why}): {fix}"
    language("en")
    assert _(refused.value.args[0]) == str(refused.value)
    assert str(pickle.loads(pickle.dumps(refused.value))) == str(refused.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_first_batch_is_guarded_too(tmp_path, monkeypatch, workers):
    monkeypatch.setattr(tasks_data, "PROBE", 1)
    fill(tmp_path, count=20)
    recipe = recipe_for(tmp_path, workers=workers, batch_size=32)
    found = run_through(data.load(recipe))[1].train.paths
    for path in found[1:]:
        Path(path).write_bytes(b"")
    with pytest.raises(DataError) as refused:
        first_batch(recipe)
    assert "cannot be read as a picture" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len("".join(traceback.format_exception(refused.value)).splitlines()) < 20


@pytest.mark.parametrize("workers", [0, 1])
def test_the_panel_says_it_in_a_cell_and_on_the_page(tmp_path, late, workers):
    bad = late()
    panel = sk.Panel(recipe_for(tmp_path, workers=workers))
    with pytest.raises(DataError) as refused:
        panel.run()
    sentence_of(refused.value, bad)
    assert len("".join(traceback.format_exception(refused.value)).splitlines()) < 25
    assert bad.name in panel.problem.value
    assert "Traceback" not in panel.problem.value


@pytest.mark.parametrize("workers", [0, 1])
def test_the_command_line_says_it_in_one_line(tmp_path, late, workers):
    bad = late()
    options = ["--data", f"folder:{tmp_path}", "--image-size", "8", "--batch-size", "4", "--device", "cpu"]
    options += ["--epochs", "1", "--workers", str(workers), "--out", str(tmp_path.parent / "runs")]
    code = "import sys\nfrom speedkit.tasks import data\nfrom speedkit.__main__ import main\ndata.PROBE = 4\n"
    code += "if __name__ == '__main__':\n    sys.exit(main())"
    script = tmp_path.parent / "script.py"
    script.write_text(code)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, script, *options], capture_output=True, text=True, timeout=120, env=environment, check=False
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    said = [line for line in done.stderr.replace("\r", "\n").splitlines() if line.startswith("speedkit:")]
    assert len(said) == 1
    assert bad.name in said[0]


def test_a_file_that_is_gone_or_denied(tmp_path, late, monkeypatch):
    bad = late()
    bad.unlink()
    bad.mkdir()
    recipe = recipe_for(tmp_path)
    found = run_through(data.load(recipe))[1]
    gone = Path(found.train.paths[-1])
    gone.unlink()
    with pytest.raises(DataError, match=r"cannot be read as a picture \(No such file or directory\)"):
        found.train.read(len(found.train.paths) - 1)


# The database


@pytest.mark.parametrize("harm", ["no row", "no picture", "no table", "another type", "cut"])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_database_is_one_sentence(quick, generated, workers, harm):
    recipe = quick.but(data="sqlite", workers=workers)
    run_through(data.load(recipe))
    (path,) = generated.glob("sqlite-*.sqlite")
    if harm == "cut":
        os.truncate(path, 5000)
    else:
        with sqlite3.connect(path) as connection:
            change = {
                "no row": "DELETE FROM images WHERE position = 40",
                "no picture": "UPDATE images SET jpeg = x'00112233' WHERE position = 40",
                "no table": "DROP TABLE images",
                "another type": "UPDATE images SET jpeg = 7 WHERE position = 40",
            }[harm]
            connection.execute(change)
        connection.close()
    with pytest.raises(DataError) as refused:
        fit(recipe)
    words = str(refused.value)
    assert "\n" not in words
    assert words.startswith(f"{path} is damaged (")
    assert words.endswith("): delete it, and it will be made again.")


def test_an_error_that_is_no_sentence_of_ours_keeps_its_traceback(quick, fail_after):
    fail_after(6)
    with pytest.raises(RuntimeError, match="made up") as failed:
        fit(quick)
    assert "cross_entropy" in "".join(traceback.format_exception(failed.value))


def test_a_sentence_about_an_error_of_a_worker_is_not_cut():
    error = DataError("a: b\nTraceback: c")
    assert str(DataError(str(error))) == str(error)
    assert torch.utils.data.get_worker_info() is None
