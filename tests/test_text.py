"""The text task: what is read, how it is split, what a network may see, and what a learner's own files do."""

import gzip
import sqlite3
import zlib
from pathlib import Path

import pytest
import torch

from speedkit import fit
from speedkit.loading import drain
from speedkit.recipe import Recipe
from speedkit.support.errors import DataError
from speedkit.tasks import text
from speedkit.train import new_model

DATA = Path(__file__).resolve().parent.parent / "data"
PLAYS = gzip.decompress((DATA / "plays.txt.gz").read_bytes()).split(b"\f")


def small(**changes):
    return Recipe(**{"data": "text", "subset": 64, "batch_size": 16, "context": 16, "device": "cpu"} | changes)


def loaded(recipe):
    return drain(text.load(recipe))


def words(window):
    return bytes(window.tolist())


def test_a_window_predicts_the_byte_after_each_of_its_own():
    source = text.Windows(torch.arange(1, 101, dtype=torch.uint8), context=10)
    assert len(source) == 9
    assert source.read(8).tolist() == list(range(81, 101))
    inputs, labels = source.examples(torch.stack([source.read(0), source.read(3)]), torch.tensor([0, 3]))
    assert inputs.tolist() == [list(range(1, 11)), list(range(31, 41))]
    assert labels.tolist() == [list(range(2, 12)), list(range(32, 42))]


def test_light_augmentation_begins_anywhere_within_a_window_and_heavy_also_drops_bytes():
    source, keys = text.Windows(torch.arange(1, 101, dtype=torch.uint8), context=10), torch.arange(9 * 300)
    samples, positions = torch.stack([source.read(i) for i in range(9)]).repeat(300, 1), keys % 9
    inputs, labels = source.examples(samples, positions, keys, text.Moved(0, drop=False))
    assert torch.equal(labels, inputs.long() + 1)
    offsets = inputs[:, 0].long() - 1 - 10 * positions
    assert offsets.unique().tolist() == list(range(10))
    heavy, same = source.examples(samples, positions, keys, text.Moved(0, drop=True))
    assert torch.equal(same, labels)
    dropped = heavy == 0
    assert torch.equal(heavy[~dropped], inputs[~dropped])
    assert 0.09 < dropped.float().mean() < 0.11  # a tenth of 27,000: five deviations are 0.009


def test_the_plays_are_split_whole():
    parts = text._split(tuple(PLAYS), 48)
    found = [[play for play in PLAYS if play in part] for part in parts]
    assert list(map(len, found)) == [34, 2, 2]
    assert sum(map(len, parts)) == sum(map(len, PLAYS)) + 2 * (38 - 3)


def test_what_was_taken_is_said():
    (note,) = loaded(small()).notes
    assert note.startswith("38 plays, 4.8 MiB; 4.") or note.startswith("38 plays, 5.0 MB"), note
    assert "1.0 KiB are used (64 windows of 16 bytes)" in note


def test_the_trivial_accuracy_is_that_of_a_table_of_pairs():
    train = torch.tensor(list(b"abababac"), dtype=torch.uint8)
    inputs, labels = torch.tensor([list(b"abz")], dtype=torch.uint8), torch.tensor([list(b"bab")])
    assert text.accuracy_of_pairs(train, inputs, labels) == pytest.approx(2 / 3)


@pytest.mark.parametrize("name", ["transformer", "tcn"])
def test_no_output_depends_on_a_later_byte(name):
    model = new_model(small(model=name), loaded(small())).eval()
    inputs = torch.randint(256, (2, 16), dtype=torch.uint8)
    changed = inputs.clone()
    changed[:, 9:] = torch.randint(256, (2, 7), dtype=torch.uint8)
    with torch.no_grad():
        first, second = model(inputs), model(changed)
    assert torch.allclose(first[:, :, :9], second[:, :, :9], atol=1e-5)
    assert not torch.allclose(first[:, :, 9:], second[:, :, 9:], atol=1e-3)


def test_batch_norm_lets_later_bytes_in_while_training():
    """Why a causal model is better off without: the statistics are taken over all positions."""
    recipe = small(model="tcn", batchnorm=True)
    model = new_model(recipe, loaded(recipe)).train()
    inputs = torch.randint(256, (2, 16), dtype=torch.uint8)
    changed = inputs.clone()
    changed[:, 9:] = 0
    assert not torch.allclose(model(inputs)[:, :, :9], model(changed)[:, :, :9], atol=1e-3)


@pytest.mark.parametrize("name", ["transformer", "tcn"])
def test_a_network_learns_more_than_the_table_of_pairs_says(name):
    """A text of one sentence again and again: the byte before does not say what follows, the sentence does."""
    run = fit(small(model=name, subset=512, epochs=8, context=32))
    assert run.column("loss")[-1] < run.column("loss")[0] / 2
    assert run.last("validation_accuracy") > 0.15


# From a database


def test_the_database_holds_the_training_text_in_pages(generated):
    recipe = small(data="text-sqlite")
    assert loaded(recipe).making_s > 0
    (path,) = generated.glob("text-*.sqlite")
    pages = sqlite3.connect(path).execute("SELECT deflated FROM pages ORDER BY number").fetchall()
    assert b"".join(zlib.decompress(page) for (page,) in pages) == text._split(tuple(PLAYS), 48)[0]
    assert loaded(recipe).train.database.path == path
    assert [file.name for file in generated.iterdir()] == [path.name]


def test_a_damaged_database_says_what_to_delete(generated):
    recipe = small(data="text-sqlite")
    loaded(recipe)
    (path,) = generated.glob("text-*.sqlite")
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:5000])
    for workers in (0, 2):
        with pytest.raises(DataError, match=f"{path} is damaged .*: delete it, and it will be made again"):
            fit(recipe.but(workers=workers))


# One's own


def test_a_file_of_ones_own_is_cut_into_three(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("".join(f"Line {i}: ça va\r\n" for i in range(2000)), encoding="utf-8-sig", newline="")
    found = loaded(small(data=f"text:{path}"))
    assert found.notes[0].startswith("1 text, ")
    assert words(found.train.read(0)).startswith(b"Line 0: \xc3\xa7a va\nLine 1")
    assert words(found.test.text[-3:]) == b"va\n"
    assert len(found.validation[0]) > 100


def test_a_folder_of_ones_own_is_split_by_file(tmp_path):
    for i in range(20):
        folder = tmp_path / "sub" if i % 2 else tmp_path
        folder.mkdir(exist_ok=True)
        (folder / f"{i:02d}.{'TXT' if i % 3 else 'txt'}").write_text(f"{chr(97 + i)} " * 300)
    (tmp_path / ".hidden.txt").write_text("#" * 300)
    (tmp_path / "notes.md").write_text("#" * 300)
    found = loaded(small(data=f"text:{tmp_path}", subset=None))
    parts = [set(words(part.text).replace(b" ", b"").replace(b"\n", b"")) for part in (found.train, found.test)]
    assert found.notes[0].startswith("20 texts, ")
    assert (len(parts[0]), len(parts[1]), parts[0] & parts[1]) == (18, 1, set())


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: None, "does not exist: give a .txt file, or a folder of them"),
        (lambda path: path.mkdir(), "There are no .txt files in "),
        (lambda path: path.write_bytes(b""), "holds only 0 bytes of text"),
        (
            lambda path: path.write_bytes(b"short"),
            "holds only 5 bytes of text: too few for windows of 16. Lower context",
        ),
        (
            lambda path: path.write_bytes(b"one\ntwo\n\xe9t\xe9\n" * 50),
            r"is not UTF-8 text \(line 3\): save it as UTF-8",
        ),
        (lambda path: path.write_bytes("wide\n".encode("utf-16") * 99), r"is not UTF-8 text \(line 1\)"),
        (lambda path: path.write_bytes(b"x" * 600), "training samples, fewer than batch_size=64: lower it"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_sentence(tmp_path, make, sentence):
    path = tmp_path / "given"
    make(path)
    with pytest.raises(DataError, match=sentence) as refusal:
        fit(small(data=f"text:{path}", batch_size=64, subset=None))
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("text " * 100)

    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(DataError, match=r"a\.txt cannot be read \(Permission denied\)"):
        loaded(small(data=f"text:{tmp_path}"))


def test_a_damaged_file_of_the_kit_says_how_to_get_it_back(tmp_path, monkeypatch):
    for path in DATA.glob("*"):
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "plays.txt.gz").write_bytes(b"not the plays")
    monkeypatch.setenv("SPEEDKIT_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"plays\.txt\.gz is damaged .*get it back with: git checkout"):
        loaded(small())
