"""The rating task: layouts of files, splits without leaks, what is asked for, and what a learner's own files do."""

import sqlite3

import numpy as np
import pytest
import torch

from speedkit import fit
from speedkit.loading import drain
from speedkit.recipe import Recipe
from speedkit.support.errors import DataError
from speedkit.tasks import ratings


def small(**changes):
    values = {"data": "ratings", "subset": 64, "batch_size": 16, "history": 5, "device": "cpu"}
    return Recipe(**values | changes)


def loaded(recipe):
    return drain(ratings.load(recipe))


def parsed(text):
    return ratings.parsed(text, "shop.csv")


def pairs(found):
    return sorted(zip(found.users.tolist(), [found.names[item] for item in found.items], strict=True))


SAME = [(0, "a"), (0, "b"), (1, "a")]


@pytest.mark.parametrize(
    "text",
    [
        "u,a\nu,b\nv,a\n",
        "user,item\nu,a\nu,b\nv,a\n",
        "customer_id,Product\nu,a\nu,b\nv,a",
        "item,user\na,u\nb,u\na,v\n",
        "userId,movieId,rating\nu,a,5\nu,b,3.5\nv,a,1\n",
        "u\ta\t5\r\nu\tb\t3\r\nv\ta\t1\r\n",
        "u::a::5\nu::b::4\nv::a::3\n",
        "u;a\n\nu;b\n  \nv;a\n",
        '"u","a"\n"u","b"\n"v","a"\n',
        "u,a\nu,b\nu,b\nv,a\n",
        " u , a \nu, b\nv,a\n",
    ],
)
def test_every_layout_without_a_time_gives_the_same_pairs(text):
    assert pairs(parsed(text)) == SAME
    assert parsed(text).times is None


@pytest.mark.parametrize(
    "text",
    [
        "userId,movieId,rating,timestamp\nu,a,5,300\nu,b,3,100\nv,a,1,200\n",
        "u\ta\t5\t300\nu\tb\t3\t100\nv\ta\t1\t200\n",
        "u::a::5::300\nu::b::3::100\nv::a::1::200\n",
        "customer,product,time\nu,a,1970-01-01 00:05:00\nu,b,1970-01-01T00:01:40\nv,a,1970-01-01 00:03:20+00:00\n",
        "u,a,978300760\nu,b,978300560\nv,a,978300660\n",
        "date,customer,product\n300,u,a\n100,u,b\n200,v,a\n",
    ],
)
def test_every_layout_with_a_time_is_in_its_order(text):
    found = parsed(text)
    assert [(int(user), found.names[item]) for user, item in zip(found.users, found.items, strict=True)] == [
        (0, "b"),
        (0, "a"),
        (1, "a"),
    ]
    assert np.diff(found.times[:2]) == 200


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "shop.csv is empty: give a CSV file with users and items."),
        ("\n \n", "shop.csv is empty: give a CSV file with users and items."),
        ("u,a\nu\nv,a\n", "Line 2 of shop.csv cannot be used: it has 1 column, not 2."),
        ("user,item\nu,a\n\nu,\n", "Line 4 of shop.csv cannot be used: the user or the item is empty."),
        (
            "u,a,1970-01-01\nu,b,yesterday\n",
            "Line 2 of shop.csv cannot be used: the time 'yesterday' is neither a number nor a date such as 2026-01-31 "
            "12:00:00.",
        ),
        ("u,a,1000\nu,b,nan\n", "Line 2 of shop.csv cannot be used: the time 'nan' is neither"),
        ("word\nanother\n", "Line 1 of shop.csv cannot be used: it has 1 column: name those of the user and the item"),
        ("a,b,c,d,e\n", "Line 1 of shop.csv cannot be used: it has 5 columns: name those of the user and the item"),
    ],
)
def test_a_row_that_does_not_fit_is_named(text, sentence):
    with pytest.raises(DataError, match="shop") as refusal:
        parsed(text)
    assert str(refusal.value).startswith(sentence.rstrip("."))


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (None, "cannot be read (No such file or directory): give a CSV file"),
        (b"user,item\nu,a\nu,\xe9\n", "is not UTF-8 text (line 3): save it as UTF-8"),
        (b"", "is empty: give a CSV file with users and items."),
        (b"u,a\nv,b\n", "has too few users with two items to train, validate and test on."),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path, raw, sentence):
    path = tmp_path / "shop.csv"
    if raw is not None:
        path.write_bytes(raw)
    with pytest.raises(DataError, match="shop") as refusal:
        fit(small(data=f"ratings:{path}"))
    assert sentence in str(refusal.value)
    assert str(path) in str(refusal.value)


def test_a_file_with_a_mark_of_its_encoding_is_read(tmp_path):
    path = tmp_path / "shop.csv"
    lines = ["user,item", *(f"u{i},{item}" for i in range(40) for item in "abçd"[: 2 + i % 3])]
    path.write_text("\n".join(lines), encoding="utf-8-sig")
    found = loaded(small(data=f"ratings:{path}", batch_size=8, subset=None))
    assert found.classes == ("", "a", "b", "ç", "d")
    assert found.notes == (f"{len(lines) - 1} ratings by 40 users of 4 items, split by user.",)


# The split


def test_what_the_kit_brings_is_counted_and_split_by_package():
    found = loaded(small(subset=None))
    assert found.notes == ("231,586 dependencies of 32,098 packages on 11,745 libraries.",)
    assert len(found.classes) == 11_746
    everything = ratings._dependencies(ratings.data_folder())
    parts = ratings._by_user(everything)
    users = [set(part[0].tolist()) for part in parts]
    assert not users[0] & users[1] | users[0] & users[2] | users[1] & users[2]
    assert list(map(len, users)) == [32_098 - 2 * 3_209, 3_209, 3_209]


def test_each_pair_of_a_training_user_is_in_one_row_but_those_left_alone():
    users, items = np.repeat([3, 5, 8], [7, 1, 6]), np.arange(1, 15)
    rows, keys = ratings._rows(users, items, 3, np.uint16)
    assert sorted(map(tuple, rows.tolist())) == [(1, 2, 3), (4, 5, 6), (9, 10, 11), (12, 13, 14)]  # 7 and 8 are alone
    assert sorted(map(tuple, keys.tolist())) == [(3, 0), (3, 3), (8, 0), (8, 3)]
    assert rows.dtype == np.uint16


def test_with_times_nothing_that_came_later_is_trained_on(tmp_path):
    path, draw = tmp_path / "log.csv", np.random.default_rng(0)
    lines = [f"u{draw.integers(50)},i{draw.integers(30)},{time}" for time in range(10_000, 12_000)]
    path.write_text("\n".join(draw.permutation(lines)))
    found = ratings._of_file(path)
    first, second = np.quantile(found.times, (0.8, 0.9))
    train, held, test = ratings._by_time(found)
    assert len(train[0]) == (found.times < first).sum() == 1600
    order = {(user, time): item for user, time, item in zip(found.users, found.times, found.items, strict=True)}
    for (users, items), (begin, end) in ((held, (first, second)), (test, (second, np.inf))):
        for user in np.unique(users):
            mine = [(time, item) for (who, time), item in order.items() if who == user]
            known = [item for time, item in mine if time < begin]
            new = [item for time, item in mine if begin <= time < end]
            assert items[users == user].tolist() == [*known, new[0]] or not known
    data = loaded(small(data=f"ratings:{path}", batch_size=8))
    assert data.train.in_order
    assert data.notes[0].endswith("split by time.")


def test_of_long_histories_the_latest_part_is_scored():
    users, items = ratings._latest(np.repeat([0, 1], [5, 2]), np.arange(1, 8), 3)
    assert (users.tolist(), items.tolist()) == ([0, 0, 0, 1, 1], [3, 4, 5, 6, 7])


# What is asked for


def example(rows, in_order, augment=None, keys=None):
    source = ratings.Histories(np.array(rows, np.uint16), in_order)
    positions = torch.arange(len(rows))
    return source.examples(source.rows.clone(), positions, positions if keys is None else keys, augment)


def test_the_item_to_find_is_never_among_those_given():
    rows = np.zeros((500, 8), np.uint16)
    counts = np.random.default_rng(0).integers(2, 9, 500)
    for row, count in zip(rows, counts, strict=True):
        row[:count] = np.random.default_rng(count).permutation(90)[:count] + 1
    for in_order in (False, True):
        for augment in (None, ratings.Fresh(0, half=False), ratings.Fresh(0, half=True)):
            inputs, labels = example(rows, in_order, augment)
            assert ((inputs > 0).sum(1) < torch.from_numpy(counts)).all()
            assert not (inputs == labels.unsqueeze(1)).any()
            assert (labels > 0).all()
            assert all(label in row for label, row in zip(labels.tolist(), rows.tolist(), strict=True))


def test_in_order_only_earlier_items_are_given():
    inputs, labels = example([[1, 2, 3, 4, 0], [5, 6, 0, 0, 0]], in_order=True)
    assert (inputs.tolist(), labels.tolist()) == ([[1, 2, 3, 0, 0], [5, 0, 0, 0, 0]], [4, 6])
    rows = [[1, 2, 3, 4, 5]] * 400
    inputs, labels = example(rows, True, ratings.Fresh(0, half=False))
    assert labels.unique().tolist() == [2, 3, 4, 5]
    assert torch.equal((inputs > 0).sum(1), labels - 1)


def test_without_an_order_all_others_are_given_and_each_item_is_asked_for():
    rows = [[1, 2, 3, 4, 5]] * 400
    inputs, labels = example(rows, False, ratings.Fresh(0, half=False))
    assert labels.bincount()[1:].min() > 50  # 80 of 400 each; four deviations are 32
    assert ((inputs > 0).sum(1) == 4).all()
    inputs, labels = example(rows, False, ratings.Fresh(0, half=True))
    assert abs(int((inputs > 0).sum()) - 800) < 120  # half of 1,600
    again = example(rows, False, None)
    assert torch.equal(again[1], example(rows, False, None)[1])


def test_the_trivial_accuracy_is_the_ten_most_popular_in_training():
    found = loaded(small(subset=None))
    train = ratings._by_user(ratings._dependencies(ratings.data_folder()))[0][1]
    counts = np.bincount(train)
    popular = {item for item in np.argsort(-counts, kind="stable")[:10]}
    names = {found.classes[item] for item in popular}
    assert "libc6" in names
    labels = found.validation[1].tolist()
    assert found.trivial == pytest.approx(sum(label in popular for label in labels) / len(labels), abs=0.01)


def test_groups_are_learnt(tmp_path):
    """Each item belongs to one of ten groups of eight, and a user has items of one group only."""
    path, draw = tmp_path / "groups.csv", np.random.default_rng(0)
    lines = [f"u{user},g{user % 10}-{item}" for user in range(900) for item in draw.permutation(8)[:5]]
    path.write_text("\n".join(lines))
    run = fit(small(data=f"ratings:{path}", batch_size=32, subset=None, epochs=15, learning_rate=0.01))
    assert run.last("validation_accuracy") > 0.95  # the four others of a group are among the first ten
    assert run.scalars["trivial_accuracy"] < 0.3


# From a database


def test_the_database_holds_the_training_pairs_with_an_index(generated):
    recipe = small(data="ratings-sqlite")
    found = loaded(recipe)
    (path,) = generated.glob("ratings-*.sqlite")
    connection = sqlite3.connect(path)
    train = ratings._by_user(ratings._dependencies(ratings.data_folder()))[0]
    assert connection.execute("SELECT count(*), count(DISTINCT user) FROM pairs").fetchone() == (
        len(train[0]),
        len(set(train[0].tolist())),
    )
    (plan,) = connection.execute(f"EXPLAIN QUERY PLAN {found.train.QUERY}", (0, 0, 1)).fetchall()
    assert "USING INDEX by_user" in plan[3]


def test_a_damaged_database_says_what_to_delete(generated):
    recipe = small(data="ratings-sqlite")
    loaded(recipe)
    (path,) = generated.glob("ratings-*.sqlite")
    path.write_bytes(b"not a database" * 400)
    for workers in (0, 2):
        with pytest.raises(DataError, match=f"{path} is damaged .*: delete it, and it will be made again"):
            fit(recipe.but(workers=workers))


def test_many_items_are_cut_to_the_commonest(monkeypatch):
    monkeypatch.setattr(ratings, "MOST", 2)
    found = parsed("u,rare\nu,a\nu,b\nv,a\nv,b\n")
    assert pairs(found) == [(0, "a"), (0, "b"), (1, "a"), (1, "b")]
    assert found.found == ("Only the 2 commonest items are used.",)


def test_many_items_need_wider_numbers():
    names = tuple(map(str, range(2**16 + 1)))
    rows, _ = ratings._rows(np.zeros(2, np.int64), np.array([1, 2**16]), 3, np.int32)
    assert len(names) > 2**16
    assert rows.tolist() == [[1, 2**16, 0]]
