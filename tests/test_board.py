"""The class board: thirty write while it reads, nothing is lost, nothing hostile is believed, and all can be read."""

import contextlib
import csv
import getpass
import json
import math
import multiprocessing
import os
import re
import shutil
import socket
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pandas
import pytest

import speedkit as sk
from speedkit.classroom.board import chart
from speedkit.classroom.board import results as board_files
from speedkit.classroom.board.results import LARGEST_FILE, LONGEST_NAME, Folder, latest, read, share
from speedkit.classroom.board.widget import COLUMNS, Board, Sharing
from speedkit.classroom.prediction import predict
from speedkit.classroom.saved import save_result
from speedkit.comparison.metrics import CLAIMS, LOWER, METRICS, NO_DIFFERENCE, TOO_FEW
from speedkit.comparison.result import ARMS, Comparison, RunResult
from speedkit.lab import runner, svg
from speedkit.recipe import Recipe

SVG = "{http://www.w3.org/2000/svg}"
SCRIPT = "<script>alert(1)</script><img src=x onerror='alert(2)'>\"&"
LEARNERS = 30
CHANGES = {"cache": {"cache": "ram"}, "workers": {"workers": 2}, "precision": {"precision": "bf16"}}
CHIPS = ("Core i7", "EPYC", "Tesla T4", "RTX 4060", "M2")


def card(i=0, **more):
    """The hardware of a made-up machine, as a run would say it: five chips, each with its own number of cores."""
    device = ("cpu", "cpu", "cuda:0", "cuda:0", "mps")[i % 5]
    own = {"device": device, "name": CHIPS[i % 5], "cores": 1 + i, "memory": 2**34}
    own["device_memory"] = 2**33 if device != "cpu" else None
    versions = {"torch": "2.9.0", "numpy": "2.3.0", "speedkit": "0.1.0", "torchvision": None}
    return own | {"system": "Linux", "python": "3.12.1", "versions": versions} | more


def compared(technique="cache", ratio=0.5, machine=None, pairs=5, spread=0.01, base=None, **more):
    """A real comparison whose pairs scatter around ratios that are known."""
    base = base or Recipe(data="sqlite", subset=960)
    variant = base.but(**CHANGES[technique])
    comparison = Comparison(base, variant, max(pairs, 5), claims=CLAIMS[technique], status="finished", **more)
    comparison.machine = card() if machine is None else machine
    for pair, off in enumerate(np.linspace(-spread, spread, pairs)):
        for arm, factor in zip(ARMS, (1.0, ratio * math.exp(off)), strict=True):
            values = dict.fromkeys(METRICS, math.nan) | {"step_s": 0.01 * factor, "wait_s": 0.004 * factor}
            values |= {"seconds": 3.0 * factor, "validation_accuracy": 0.8 + 0.01 * (factor - 1), "reads": 960 * factor}
            comparison.measured.append(RunResult(pair, arm, pair, values))
    return comparison


@pytest.fixture(autouse=True)
def apart(monkeypatch, tmp_path):
    """What a learner keeps goes to a folder of this test, and no board is named by the environment."""
    monkeypatch.setenv("SPEEDKIT_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("SPEEDKIT_BOARD", raising=False)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "board").mkdir()
    return tmp_path / "board"


@pytest.fixture
def learner(monkeypatch, tmp_path):
    """Makes what follows the doing of another learner."""
    return lambda name: monkeypatch.setenv("SPEEDKIT_RUNS", str(tmp_path / "learners" / name))


def seen(folder):
    files = Folder(folder)
    files.look()
    return files


def content(folder):
    (path,) = folder.glob("*.json")
    return json.loads(path.read_text(encoding="utf-8"))


def drawn(board):
    return ElementTree.fromstring(board.picture.value)


def words(root):
    return [text.text for text in root.iter(f"{SVG}text")]


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


# A class of thirty


def share_two(i, folder, runs, machine, name, ready):
    os.environ["SPEEDKIT_RUNS"] = str(runs)
    ratio = 0.4 * 1.05**i
    results = [compared(technique, ratio, machine) for technique in ("cache", "workers")]
    ready.wait(120)
    for result in results:
        share(result, name, folder)


@pytest.mark.parametrize("room", ["different cards, one runs folder", "equal cards, no nicknames"])
def test_thirty_who_share_at_once_while_the_board_reads_lose_nothing(folder, tmp_path, room):
    alike = room.startswith("equal")
    context = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn")
    ready = context.Barrier(LEARNERS + 1)
    processes = []
    for i in range(LEARNERS):
        runs = tmp_path / (f"runs-{i}" if alike else "runs")
        machine, name = (card(), "") if alike else (card(i), f"learner {i}" if i % 3 else "")
        processes.append(context.Process(target=share_two, args=(i, folder, runs, machine, name, ready)))
        processes[-1].start()
    files, counts, partial, over = Folder(folder), [], [], threading.Event()

    def reading():
        while not over.is_set():
            files.look()
            counts.append(len(files.results))
            partial.extend(files.problems.items())
            for path in folder.glob("[!.]*.json"):
                with contextlib.suppress(FileNotFoundError):
                    json.loads(path.read_text(encoding="utf-8"))

    reader = threading.Thread(target=reading)
    try:
        ready.wait(120)
        reader.start()
        for process in processes:
            process.join(120)
    finally:
        over.set()
        reader.join() if reader.ident else None
        for process in processes:
            process.kill()
    assert [process.exitcode for process in processes] == [0] * LEARNERS
    assert partial == []
    assert counts == sorted(counts)
    assert [path.name for path in folder.iterdir() if path.suffix != ".json"] == []

    board = Board(folder)
    assert board.problems == {}
    assert len(board.results) == 2 * LEARNERS
    for technique in ("cache", "workers"):
        board.technique.value = technique
        root = drawn(board)
        rows = [group for group in root.iter(f"{SVG}g") if group.get("class") == "sk-board-row"]
        assert root.get("data-n") == str(LEARNERS) == str(len(rows))
        effects = [seen.row.effect for seen in chart.rows(board.results, technique, "seconds")]
        assert effects == pytest.approx([0.4 * 1.05**i for i in range(LEARNERS)])
        assert len({seen.who for seen in chart.rows(board.results, technique, "seconds")}) == LEARNERS
    if not alike:
        assert {result.machine.cores for result in board.results} == {1 + i for i in range(LEARNERS)}


# What is written, and what is not


def test_the_file_holds_the_result_the_hardware_and_versions_and_nothing_else(folder, tmp_path):
    comparison = compared(base=Recipe(data=f"folder:{tmp_path}/jane", subset=960), machine=card(host="secret-host"))
    comparison.notes, comparison.reason = [f"a note about {tmp_path}"], f"it failed in {tmp_path}"
    share(comparison, folder=folder)
    kept = content(folder)
    assert set(kept) == {
        *("format", "kind", "technique", "changes", "task", "nickname", "learner", "shared", "pairs", "smoke"),
        *("others_share", "machine", "versions", "rows"),
    }
    assert set(kept["machine"]) == {"name", "kind", "system", "cores", "memory", "device_memory"}
    assert kept["versions"] == {"python": "3.12.1", "torch": "2.9.0", "numpy": "2.3.0", "speedkit": "0.1.0"}
    assert kept["task"] == "data folder, subset 960"
    everything = json.dumps(kept)
    for secret in (str(tmp_path), "jane", "secret-host", socket.gethostname(), str(Path.home()), "note", "failed"):
        assert secret not in everything
    assert not re.search(rf"\b{re.escape(getpass.getuser())}\b", everything)


def test_a_file_is_named_by_technique_and_chance_never_by_the_nickname(folder):
    paths = {share(compared(), "../../Ada", folder).path for _ in range(5)}
    assert {path.parent for path in paths} == {folder}
    assert len(paths) == 5
    assert all(re.fullmatch(r"cache-[0-9a-f]{16}\.json", path.name) for path in paths)
    if os.name == "posix":
        assert {path.stat().st_mode & 0o777 for path in paths} == {0o644}


def test_what_is_read_is_what_was_measured(folder):
    comparison = compared(ratio=0.5)
    result = read(share(comparison, "Ada", folder).path)
    assert (result.technique, result.changes, result.nickname, result.pairs) == ("cache", "cache off → ram", "Ada", 5)
    assert result.machine == board_files.Hardware("Core i7", "cpu", "Linux", 1, 2**34, None)
    for row in result.rows:
        measured = comparison.row(row.metric)
        assert row.verdict == measured.verdict
        if measured.why == "":
            assert (row.effect, row.low, row.high) == (measured.effect, measured.low, measured.high)
        else:
            assert (row.effect, row.low, row.high) == (None, None, None)
    assert (result.row("seconds").claimed, result.row("seconds").outcome) == (LOWER, "held here")
    assert result.row("step_s").claimed == result.row("step_s").outcome == ""


@pytest.mark.parametrize(("pairs", "smoke", "said"), [(2, True, "smoke run"), (3, False, TOO_FEW)])
def test_without_a_verdict_there_is_no_interval_and_the_row_says_why(folder, pairs, smoke, said):
    share(compared(pairs=pairs, smoke=smoke), "Ada", folder)
    board = Board(folder)
    (row,) = chart.rows(board.results, "cache", "seconds")
    assert (row.row.low, row.row.high, row.verdict, row.result.smoke) == (None, None, said, smoke)
    assert row.row.effect == pytest.approx(0.5, rel=0.01)
    assert any("no verdict" in text for text in words(drawn(board)))
    assert "95 % interval" not in words(drawn(board))


def test_a_nickname_is_cut_and_cleaned(folder):
    for name, expected in {
        "x" * 60: "x" * LONGEST_NAME,
        " Ada\n\tLovelace ": "Ada  Lovelace",
        "\u202eadA\x00\x1b[31m": "adA[31m",
        "\ud800Zoë": "Zoë",
    }.items():
        assert read(share(compared(), name, folder).path).nickname == expected


@pytest.mark.parametrize(
    ("changes", "technique", "said"),
    [
        ({"workers": 1}, "workers", "workers 0 → 1"),
        ({"batchnorm": True}, "batchnorm", "batchnorm off → on"),
        ({"early_stopping": 3}, "early_stopping", "early_stopping none → 3"),
        ({"learning_rate": 0.1}, "other", "learning_rate 0.05 → 0.1"),
        ({"workers": 2, "cache": "ram"}, "other", "workers 0 → 2, cache off → ram"),
        ({}, "other", "two equal recipes"),
    ],
)
def test_a_comparison_without_claims_is_placed_by_what_changes(folder, changes, technique, said):
    comparison = compared()
    comparison.claims, comparison.variant = (), comparison.baseline.but(**changes)
    result = read(share(comparison, folder=folder).path)
    assert (result.technique, result.changes) == (technique, said)


def test_a_machine_that_says_nothing_and_effects_beyond_all_bounds_can_be_shared(folder):
    comparison = compared(machine={})
    for run in comparison.measured:
        run.values["seconds"] = 1e-200 if run.arm == "variant" else 1e200
    result = read(share(comparison, folder=folder).path)
    assert (result.machine.name, result.machine.kind, result.machine.cores) == ("unknown machine", "", None)
    assert result.row("seconds").effect is None


# Predictions beside results


def test_what_was_committed_before_lies_beside_the_result(folder):
    guess = predict("cache", seconds=0.4, reads="lower", step_s="same")
    shared = share(compared(started="2999-01-01T00:00:00+00:00"), "Ada", folder, prediction=guess)
    assert repr(shared) == "On the board as Ada: cache off → ram, with 3 predictions beside it."
    result = read(shared.path)
    found = {row.metric: (row.predicted, row.predicted_size) for row in result.rows if row.predicted}
    assert found == {"seconds": ("lower", 0.4), "reads": ("lower", None), "step_s": ("same", None)}
    board = Board(folder)
    assert "predicted lower, × 0.400" in repr(board)
    assert "predicted" in words(drawn(board))
    board.metric.value = "reads"
    assert "predicted, direction only" in words(drawn(board))


def test_a_prediction_that_came_too_late_or_is_about_something_else_is_not(folder):
    late = predict("cache", seconds=0.4)
    other = predict("workers", step_s=0.4)
    for given in (None, late, other):
        shared = share(compared(started="2001-01-01T00:00:00+00:00"), folder=folder, prediction=given)
        assert repr(shared) == "On the board: cache off → ram."
        assert not any(row.predicted for row in read(shared.path).rows)


# Where to


def test_without_a_folder_one_sentence_says_what_to_do():
    with pytest.raises(ValueError, match=r"^No folder is named .* SPEEDKIT_BOARD .*can write\.$"):
        share(compared())


def test_the_environment_names_the_folder_and_an_argument_comes_first(folder, monkeypatch, tmp_path):
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("SPEEDKIT_BOARD", str(folder))
    assert sk.share(compared()).path.parent == folder
    assert sk.share(compared(), folder=tmp_path / "other").path.parent == tmp_path / "other"
    assert isinstance(sk.Board(), Board)
    assert len(sk.Board().results) == 1


@pytest.mark.parametrize("what", ["missing", "a file", "read-only"])
def test_a_folder_that_cannot_be_written_is_said_in_one_sentence(folder, what):
    where = folder / "in"
    if what == "a file":
        where.write_text("")
    elif what == "read-only":
        where.mkdir(mode=0o500)
        if os.access(where, os.W_OK):
            pytest.skip("the user of this test may write anywhere")
    with pytest.raises(ValueError, match=r"^The class board's folder .* cannot be written \(.*write in it\.$"):
        share(compared(), folder=where)
    assert list(folder.rglob("*.json")) == []


def test_what_is_no_result_is_not_shared(folder):
    with pytest.raises(ValueError, match="Only a comparison can be shared"):
        share("a result", folder=folder)
    with pytest.raises(ValueError, match="No pair of this comparison is done yet"):
        share(compared(pairs=0), folder=folder)
    with pytest.raises(ValueError, match="should be text"):
        share(compared(), 7, folder)
    assert list(folder.iterdir()) == []


# Who is who


def test_shared_again_the_latest_counts(folder):
    for ratio in (0.9, 0.7, 0.5):
        share(compared(ratio=ratio), "Ada", folder)
    share(compared(ratio=0.8), "Grace", folder)
    share(compared("workers", 1.3), "Ada", folder)
    board = Board(folder, "cache", "seconds")
    shown = chart.rows(board.results, "cache", "seconds")
    assert [(one.who, round(one.row.effect, 2)) for one in shown] == [("Ada", 0.5), ("Grace", 0.8)]
    assert len(board.results) == 3
    assert len(list(folder.iterdir())) == 5


def test_another_setting_is_another_result_and_then_every_row_says_its_own(folder):
    share(compared(ratio=0.5), "Ada", folder)
    share(compared(ratio=2.0, base=Recipe(data="sqlite", subset=64)), "Ada", folder)
    board = Board(folder, "cache", "seconds")
    assert len(board.results) == 2
    shown = words(drawn(board))
    assert {"cache off → ram on data sqlite, subset 960", "cache off → ram on data sqlite, subset 64"} <= set(shown)
    assert not any("wins here" in text for text in shown)  # it may be the task


@pytest.mark.parametrize(
    ("lower", "higher", "same", "said"),
    [
        (2, 2, 1, True),
        (1, 1, 0, True),  # one of two is as improbable as 5 % if there is no difference
        (1, 1, 1, False),  # one of three is not
        (9, 1, 2, False),  # one odd row among twelve is chance
        (8, 2, 2, True),
        (3, 0, 0, False),
    ],
)
def test_the_same_technique_wins_here_and_loses_there_if_that_is_more_than_chance(folder, lower, higher, same, said):
    for ratio, count in ((0.5, lower), (1.5, higher), (1.0, same)):
        for i in range(count):
            share(compared(ratio=ratio, spread=0.1 if ratio == 1 else 0.0, machine=card(2 * i)), f"{ratio} {i}", folder)
    headline = words(drawn(Board(folder)))[1]
    assert headline.startswith(f"{lower + higher + same} results: {lower} lower")
    assert ("The same technique wins here and loses there." in headline) is said
    assert ("So few may differ by chance." in headline) is (not said and higher > 0)


def test_a_result_of_a_busy_machine_is_marked(folder):
    busy = compared()
    busy.measured = [run.model_copy(update={"others_share": 0.4}) for run in busy.measured]
    share(busy, "Ada", folder)
    share(busy, "A long name of forty characters, or so ...", folder)
    share(compared(machine=card(2)), "Grace", folder)
    shown = chart.text(Board(folder).results, "cache", "seconds")
    assert "Ada ⚠ (" in shown
    assert "Grace (" in shown
    assert [text for text in words(drawn(Board(folder))) if text.endswith(" ⚠")] == ["Ada ⚠", "A long name of… ⚠"]
    assert shown.endswith("⚠ Other programs competed with a run for the cores.")
    assert any(text.startswith("⚠ Other programs") for text in words(drawn(Board(folder))))


def test_two_machines_with_one_nickname_stay_apart_and_those_without_are_numbered(folder, learner):
    share(compared(machine=card(0)), "Ada", folder)
    share(compared(machine=card(1)), "Ada", folder)
    learner("another Ada, on an equal machine")
    share(compared(machine=card(0)), "Ada", folder)
    share(compared(machine=card(0)), "", folder)
    learner("the last")
    share(compared(machine=card(0)), "", folder)
    share(compared("workers", machine=card(0)), "", folder)
    called = chart.names(seen(folder).results)
    assert list(called.values()) == ["Ada", "Ada (2)", "Ada (3)", "learner 1", "learner 2"]


def test_a_learner_keeps_one_number_and_gets_a_new_one_where_it_is_damaged(folder, monkeypatch, tmp_path):
    first = read(share(compared(), folder=folder).path).learner
    assert read(share(compared("workers"), folder=folder).path).learner == first
    (tmp_path / "runs" / "board-number.txt").write_text("<script>")
    monkeypatch.setattr(board_files.time, "sleep", lambda seconds: None)
    own = read(share(compared(), folder=folder).path).learner
    assert re.fullmatch(r"[0-9a-f]{16}", own)
    assert own != first
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPEEDKIT_RUNS", str(tmp_path / "file"))  # no folder can be there
    assert read(share(compared(), folder=folder).path).learner == own


# Files that somebody else made


@pytest.fixture
def good(folder):
    path = share(compared(), "Ada", folder).path
    kept = json.loads(path.read_text(encoding="utf-8"))
    return kept


def change(*keys, value=None):
    def changed(kept):
        *path, last = keys
        for key in path:
            kept = kept[key]
        if value is ...:
            del kept[last]
        else:
            kept[last] = value

    return changed


CHANGED = {
    "no format": (change("format", value=...), "does not say format 1, kind board"),
    "another format": (change("format", value=2), "does not say format 1, kind board"),
    "another kind": (change("kind", value="comparison"), "does not say format 1, kind board"),
    "a field too many": (change("html", value=SCRIPT), "Result has no field 'html': its fields are technique"),
    "a field too few": (change("pairs", value=...), "pairs is missing."),
    "a list for text": (change("nickname", value=["Ada"]), "nickname=['Ada'] is not allowed: input should be a"),
    "a long nickname": (change("nickname", value="x" * 41), "string should have at most 40 characters."),
    "an unknown technique": (change("technique", value="magic"), "technique='magic' is not allowed: give precision"),
    "a list for a technique": (change("technique", value=[]), "technique=[] is not allowed: give precision |"),
    "no learner": (change("learner", value="../../x"), "learner='../../x' is not allowed: give a number as share()"),
    "no moment": (change("shared", value="yesterday"), "shared: 'yesterday' is not a moment in time."),
    "a moment beyond all": (change("shared", value="9999-12-31T23:59:59-23:00"), "is not a moment in time."),
    "true for a number": (
        change("pairs", value=True),
        "pairs=True is not allowed: give a whole number from 0",
    ),
    "too many pairs": (change("pairs", value=10**9), "pairs=1000000000 is not allowed: give a whole number from 0"),
    "a number for a flag": (change("smoke", value=1), "smoke=1 is not allowed: give False | True."),
    "no machine": (change("machine", value=None), "machine=None is not allowed: input should be a valid dictionary"),
    "negative cores": (change("machine", "cores", value=-1), "machine: cores=-1 is not allowed: give a whole number"),
    "a long name": (change("machine", "name", value="x" * 81), "string should have at most 80 characters."),
    "many versions": (change("versions", value={str(i): "1" for i in range(21)}), "should have at most 20 items"),
    "a version that is none": (change("versions", value={"torch": {}}), "versions.torch={} is not allowed: input"),
    "no rows": (change("rows", value=[]), "rows=[] is not allowed: tuple should have at least 1 item"),
    "many rows": (change("rows", value=[{}] * 100_000), "rows.0: metric is missing."),
    "a row of text": (change("rows", 0, value="x"), "rows.0='x' is not allowed: input should be a valid dictionary"),
    "an unknown metric": (change("rows", 0, "metric", value="beauty"), "metric='beauty' is not allowed: give step_s"),
    "an infinite effect": (change("rows", 0, "effect", value=10**400), "input should be a valid number."),
    "a negative ratio": (change("rows", 0, "effect", value=-0.5), "rows.0: step_s has an impossible effect."),
    "a prediction of nothing": (change("rows", 0, "predicted_size", value=0), "step_s has an impossible effect."),
    "half an interval": (change("rows", 0, "low", value=None), "step_s has an incomplete interval."),
    "an interval elsewhere": (
        change("rows", 0, "high", value=0.001),
        "has an interval that does not contain its effect.",
    ),
    "a share for a ratio": (change("rows", 0, "is_ratio", value=False), "step_s should say is_ratio True."),
    "a verdict of one's own": (change("rows", 0, "verdict", value="good"), "verdict='good' is not allowed: give lower"),
    "a metric twice": (change("rows", 1, "metric", value="step_s"), "a metric appears twice."),
}
RAW = {
    "empty": (b"", "not JSON"),
    "half": (b'{"format": 1, "kind": "bo', "not JSON"),
    "binary": (bytes(range(256)) * 4, "not text"),
    "a pickle": (b"\x80\x04cposix\nsystem\n", "not text"),
    "deep": (b"[" * 500_000, "nested too deeply"),
    "deep objects": (b'{"a":' * 150_000, "nested too deeply"),
    "huge": (b" " * (LARGEST_FILE + 1), "larger than 1 MB"),
    "a list": (b"[]", "does not say format 1, kind board"),
    "a long number": (b'{"format": ' + b"9" * 5000 + b"}", "4300"),
}


def only_that_one_is_skipped(folder, name, reason):
    files = seen(folder)
    assert list(files.problems) == [name]
    assert reason in files.problems[name]
    assert len(files.results) == 1
    board = Board(folder)
    assert name in board.skipped.value
    assert drawn(board).get("data-n") == "1"
    assert f"Skipped {name}: " in repr(board)


def test_too_many_rows_are_refused_even_if_each_is_right(folder, good):
    good["rows"] *= 2
    (folder / "bad.json").write_text(json.dumps(good), encoding="utf-8")
    only_that_one_is_skipped(folder, "bad.json", "tuple should have at most 10 items")


@pytest.mark.parametrize("case", CHANGED)
def test_a_file_that_is_no_result_is_named_and_skipped(folder, good, case):
    alter, reason = CHANGED[case]
    alter(good)
    (folder / "bad.json").write_text(json.dumps(good), encoding="utf-8")
    only_that_one_is_skipped(folder, "bad.json", reason)


def test_a_board_file_of_format_1_still_loads(folder):
    """``tests/data`` holds files that an earlier speedkit wrote."""
    shutil.copy(Path(__file__).parent / "data" / "board-format-1.json", folder / "cache-1.json")
    (result,) = seen(folder).results
    assert (result.nickname, result.technique, result.file) == ("Ada", "cache", "cache-1.json")
    assert result.machine == board_files.Hardware("Core i7", "cpu", "Linux", 8, 2**34, None)
    row = result.row("seconds")
    assert (row.effect, row.outcome, row.predicted, row.predicted_size) == (0.52, "held here", "lower", 0.4)
    assert "Ada" in repr(Board(folder))


@pytest.mark.parametrize("case", RAW)
def test_a_file_that_is_no_json_is_named_and_skipped(folder, good, case):
    raw, reason = RAW[case]
    (folder / "bad.json").write_bytes(raw)
    only_that_one_is_skipped(folder, "bad.json", reason)


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_is_no_number_is_skipped(folder, good, constant):
    good["rows"][0]["effect"] = 12345
    (folder / "bad.json").write_text(json.dumps(good).replace("12345", constant), encoding="utf-8")
    reason = "an impossible effect" if constant == "1e999" else f"{constant} is not a number"
    only_that_one_is_skipped(folder, "bad.json", reason)


@pytest.mark.skipif(os.name != "posix", reason="links and pipes as on POSIX")
@pytest.mark.parametrize("what", ["a link", "a dangling link", "a pipe", "a folder"])
def test_what_is_no_ordinary_file_is_not_opened(folder, good, tmp_path, what):
    bad = folder / "bad.json"
    if what == "a link":
        (tmp_path / "elsewhere.json").write_text(json.dumps(good), encoding="utf-8")
        bad.symlink_to(tmp_path / "elsewhere.json")
    elif what == "a dangling link":
        bad.symlink_to(tmp_path / "nowhere")
    elif what == "a pipe":
        os.mkfifo(bad)  # opening it would hang
    else:
        bad.mkdir()
    only_that_one_is_skipped(folder, "bad.json", "not an ordinary file")


def test_a_file_that_becomes_a_link_between_two_looks_is_not_followed(folder, tmp_path, monkeypatch, good):
    (tmp_path / "secret").write_text("secret")
    path = folder / "bad.json"
    path.symlink_to(tmp_path / "secret")
    real = os.lstat
    ordinary = real(tmp_path / "secret")
    monkeypatch.setattr(os, "lstat", lambda name, **more: ordinary if str(name) == str(path) else real(name, **more))
    with pytest.raises(OSError, match="symbolic links"):
        read(path)


def test_other_files_and_those_still_being_written_are_left_alone(folder, good):
    (folder / "notes.txt").write_text("hello")
    (folder / ".cache-1.json.12.34.tmp").write_text("{")
    (folder / "._cache-1.json").write_text("{")
    files = seen(folder)
    assert files.problems == {}
    assert len(files.results) == 1


def test_a_file_whose_reading_breaks_does_not_break_the_board(folder, good, monkeypatch):
    def broken(path):
        raise MemoryError

    files = seen(folder)
    (folder / "bad.json").write_text("{}")
    monkeypatch.setattr(board_files, "read", broken)
    files.look()
    assert files.problems == {"bad.json": "it cannot be read: MemoryError."}
    assert len(files.results) == 1


def everywhere(kept, text):
    """The same content with a text in every place where a file may hold one of its own."""
    kept = json.loads(json.dumps(kept))
    for name in ("changes", "task"):
        kept[name] = text
    kept["nickname"] = text[:40]
    kept["machine"] |= {"name": text, "kind": text[:20], "system": text[:40]}
    kept["versions"] = {text[:40]: text[:40]}
    for row in kept["rows"]:
        row |= {"title": text, "why": text}
    return kept


def test_every_text_of_a_file_is_shown_escaped(folder, good):
    for alone in (False, True):  # beside another setting, and by itself
        for path in folder.glob("cache-*.json") if alone else ():
            path.unlink()
        name = "<b onclick='x()'>&.json" if os.name == "posix" else "b.json"
        (folder / name).write_text(json.dumps(everywhere(good, SCRIPT)), encoding="utf-8")
        (folder / f"broken-{name}").write_text(json.dumps(good | {"technique": SCRIPT}))  # the reason quotes it
        board = Board(folder, "cache")
        for metric in (row["metric"] for row in good["rows"]):
            board.metric.value = metric
            root = drawn(board)
            allowed = {"svg", "g", "path", "circle", "rect", "text", "title"}
            assert {element.tag.removeprefix(SVG) for element in root.iter()} <= allowed
            assert not [key for element in root.iter() for key in element.attrib if key.startswith("on")]
            assert any("<script>" in text for text in words(root))
            assert "&lt;script&gt;" in board.skipped.value
            shown = board.picture.value + board.skipped.value + board.status.value
            assert "<script" not in shown
            assert "<img" not in shown
            assert "<b onclick" not in shown


def test_half_characters_and_marks_of_direction_do_not_reach_the_page(folder, good):
    (folder / "odd.json").write_text(json.dumps(everywhere(good, "\ud800\u202e\x00A\u2028B")), encoding="utf-8")
    board = Board(folder, "cache")
    (board.picture.value + repr(board)).encode()
    assert "A B" in repr(board)
    assert not re.search("[\u202e\x00\u2028\ud800]", board.picture.value + repr(board))


# Looking


def test_a_look_says_whether_anything_has_changed(folder):
    files = Folder(folder)
    assert files.look()
    assert not files.look()
    path = share(compared(), folder=folder).path
    assert files.look()
    assert not files.look()
    path.write_text("{", encoding="utf-8")
    assert files.look()
    assert list(files.problems) == [path.name]
    path.unlink()
    assert files.look()
    assert (files.results, files.problems) == ([], {})


def test_what_was_read_once_is_not_read_again(folder, monkeypatch):
    share(compared(), folder=folder)
    files, opened = seen(folder), []
    monkeypatch.setattr(board_files, "read", lambda path: opened.append(path.name) or read(path))
    new = share(compared("workers"), folder=folder).path
    files.look()
    assert opened == [new.name]
    assert len(files.results) == 2


def test_a_folder_that_goes_and_comes_back(folder):
    share(compared(), "Ada", folder)
    board = Board(folder)
    folder.rename(folder.with_name("pulled out"))
    assert board.refresh()
    assert f"Cannot read {folder} (No such file or directory); still trying." in board.status.value
    assert len(board.results) == 1  # what was seen stays on the projector
    folder.with_name("pulled out").rename(folder)
    assert board.refresh()
    assert "1 result from 1 learner" in board.status.value


def test_more_files_than_anybody_shares_are_not_all_read(folder, monkeypatch):
    for _ in range(3):
        share(compared(), folder=folder)
    monkeypatch.setattr(board_files, "MOST_FILES", 2)
    board = Board(folder)
    assert len(board._files.results) == 2
    assert "only the first 2 files were read" in board.status.value


# The chart


def circle(root, row):
    rows = [group for group in root.iter(f"{SVG}g") if group.get("class") == "sk-board-row"]
    return [float(mark.get("cx")) for mark in rows[row].iter(f"{SVG}circle") if mark.get("fill") != "none"][-1]


def test_effects_lie_on_a_logarithmic_axis_around_one(folder):
    share(compared(ratio=0.5, machine=card(0)), folder=folder)
    share(compared(ratio=2.0, machine=card(1)), folder=folder)
    board = Board(folder)
    root = drawn(board)
    line = chart.axis(chart.rows(board.results, "cache", "seconds"), "seconds")
    middle = line.at(1.0)[0]
    assert circle(root, 0) == pytest.approx(line.at(0.5)[0], abs=1.5)
    assert middle - circle(root, 0) == pytest.approx(circle(root, 1) - middle, abs=3)
    assert "× 1" in words(root)
    assert {"◀ lower: it wins", "higher: it loses ▶"} <= set(words(root))
    board.metric.value = "validation_accuracy"
    assert {"◀ lower: it loses", "higher: it wins ▶"} <= set(words(drawn(board)))
    assert "0" in words(drawn(board))


def test_one_absurd_effect_does_not_squash_the_others(folder, good):
    for name, effect in (("low", 1e-90), ("high", 1e90)):
        kept = json.loads(json.dumps(good)) | {"nickname": name}
        for row in kept["rows"]:
            if row["is_ratio"] and row["effect"]:
                row |= {"effect": effect, "low": effect, "high": effect}
        (folder / f"{name}.json").write_text(json.dumps(kept), encoding="utf-8")
    board = Board(folder)
    line = chart.axis(chart.rows(board.results, "cache", "seconds"), "seconds")
    assert line.at(1e90)[1] == 1
    assert line.at(1e-90)[1] == -1
    assert line.at(0.5)[1] == 0
    assert math.exp(line.high) <= 2 * chart.FURTHEST
    assert any(text.startswith("× 1e+90") for text in words(drawn(board)))


def test_colours_say_the_name_of_the_hardware_and_of_many_names_the_kind(folder):
    for i in range(5):
        share(compared(machine=card(i)), folder=folder)
    found, by_name = chart.colours(seen(folder).results)
    assert by_name
    assert len(set(found.values())) == 5
    share(compared(machine=card(0, name="a sixth")), folder=folder)
    found, by_name = chart.colours(seen(folder).results)
    assert not by_name
    assert found["cpu", "a sixth"] == found["cpu", "EPYC"] != found["cuda", "Tesla T4"] != found["mps", "M2"]
    assert {"CPU", "NVIDIA GPU", "Apple GPU"} <= set(words(drawn(Board(folder))))


def test_the_words_say_what_the_chart_shows(folder):
    share(compared(ratio=0.5, machine=card(0)), "Ada", folder)
    share(compared(ratio=1.5, machine=card(2)), folder=folder)
    share(compared(ratio=1.0, pairs=2, machine=card(4)), "Zoë", folder)
    board = Board(folder)
    lines = repr(board).splitlines()
    assert lines[0] == "Cache: time of the whole run, preparation included"
    assert lines[1].startswith("3 results: 1 lower, 1 higher, 1 without a verdict.")
    assert lines[2] == "Claimed: lower. Held here 1, the opposite 1, cannot tell 1."
    assert lines[3] == "cache off → ram on data sqlite, subset 960"
    assert re.fullmatch(r"Ada \(Core i7, 1 core\): × 0\.500 \(0\.\d+ to 0\.\d+\), lower", lines[4])
    assert re.fullmatch(r"Zoë \(M2\): × 1\.0\d+, too few pairs to judge", lines[5])
    assert re.fullmatch(r"learner 1 \(Tesla T4\): × 1\.500 \(1\.\d+ to 1\.\d+\), higher", lines[6])
    assert drawn(board).get("aria-label") == " ".join(lines[:-1])  # XML reads line ends so
    board.metric.value = "target_s"
    assert "Ada (Core i7, 1 core): n/a, n/a, no target set" in repr(board)
    assert "n/a: no target set" in words(drawn(board))


def test_an_exact_figure_has_no_interval_on_the_board(folder):
    comparison = compared(ratio=0.5)
    for result in comparison.measured:
        result.values["step_memory"] = 2.0**20 * (0.5 if result.arm == "variant" else 1)
    share(comparison, "Ada", folder)
    board = Board(folder)
    board.metric.value = "step_memory"
    assert "× 0.500 (exact), lower" in repr(board)
    assert not [each for each in words(drawn(board)) if "95 % interval" in each or "Each interval" in each]


def test_hardware_is_said_shortly():
    def said(name, kind="cpu", cores=8):
        machine = board_files.Hardware(name, kind, "Linux", cores, None, None)
        return chart.hardware(SimpleNamespace(machine=machine))

    assert said("Intel(R) Core(TM) i7-1165G7 CPU @ 2.80GHz") == "Intel Core i7-1165G7, 8 cores"
    assert said("AMD EPYC 7B13 64-Core Processor", cores=1) == "AMD EPYC 7B13, 1 core"
    assert said("NVIDIA GeForce RTX 4060", "cuda") == "GeForce RTX 4060"
    assert said(" @ ") == "unknown machine, 8 cores"


def test_wide_letters_count_twice_where_a_text_is_cut():
    assert svg.cut("林小明", 6) == "林小明"
    assert svg.cut("林小明林小明", 6) == "林小…"
    assert svg.cut("abcdef", 6) == "abcdef"
    assert svg.cut("abcdefg", 6) == "abcde…"


def test_a_long_nickname_is_cut_but_not_its_number(folder, learner):
    for i in range(2):
        learner(str(i))
        share(compared(), "x" * 40, folder)
    shown = words(drawn(Board(folder)))
    assert {f"{'x' * 16}…", f"{'x' * 12}… (2)"} <= set(shown)


def test_a_room_that_is_too_large_for_the_chart_is_told_so(folder, monkeypatch):
    monkeypatch.setattr(chart, "MOST_ROWS", 2)
    for i in range(4):
        share(compared(machine=card(i)), folder=folder)
    board = Board(folder)
    assert drawn(board).get("data-n") == "4"
    assert any(text.startswith("2 more results do not fit") for text in words(drawn(board)))
    assert len(board.to_frame()["who"].unique()) == 4


@pytest.mark.parametrize(
    ("technique", "metric"),
    [("cache", "seconds"), ("workers", "wait_s"), ("precision", "step_s"), ("augment", "step_memory")],
)
def test_a_technique_begins_with_the_time_that_it_is_about(technique, metric):
    assert chart.first_metric(technique) == metric
    assert chart.first_metric("other") == "step_s"


# The board in a notebook


def test_the_board_fills_by_itself_until_it_is_stopped(folder):
    board = Board(folder, every=0.02)
    assert drawn(board).get("data-n") == "0"
    assert "waiting for the first result" in words(drawn(board))
    board.start()
    thread = board._thread
    board.start()
    assert board._thread is thread
    share(compared("workers"), "Ada", folder)
    until(lambda: drawn(board).get("data-n") == "1")
    assert board.technique.value == "workers"  # where the first result is
    assert board.metric.value == "wait_s"
    board.stop()
    thread.join(60)
    assert not thread.is_alive()
    share(compared("workers", machine=card(3)), "Grace", folder)
    assert drawn(board).get("data-n") == "1"
    board.start()
    until(lambda: drawn(board).get("data-n") == "2")
    board.stop()


def test_what_was_chosen_stays(folder):
    board = Board(folder)
    board.technique.value = "cache"
    assert board.metric.value == "seconds"
    share(compared("workers"), "Ada", folder)
    board.refresh()
    assert board.technique.value == "cache"
    assert "No result for Cache yet." in words(drawn(board))
    board.metric.value = "peak_memory"
    board.technique.value = "workers"
    assert board.metric.value == "wait_s"
    assert drawn(board).get("data-n") == "1"
    given = Board(folder, "workers", "seconds")
    assert (given.technique.value, given.metric.value) == ("workers", "seconds")


def test_it_is_drawn_anew_only_when_something_has_changed(folder, monkeypatch):
    board, draws = Board(folder), []
    monkeypatch.setattr(board, "_draw", lambda: draws.append(None))
    for _ in range(3):
        assert not board.refresh()
    assert draws == []
    share(compared(), folder=folder)
    assert board.refresh()
    assert len(draws) == 1


def test_a_cell_that_is_run_again_ends_the_thread_of_the_board_before(folder, monkeypatch):
    shell = SimpleNamespace(get_parent=lambda: {"metadata": {"cellId": "the board's"}})
    monkeypatch.setattr(runner, "get_ipython", lambda: shell)
    first, second = Board(folder, every=0.02), Board(folder, every=0.02)
    first._ipython_display_()
    assert first._thread.is_alive()
    second._ipython_display_()
    first._thread.join(60)
    assert not first._thread.is_alive()
    assert second._thread.is_alive()
    second.stop()


def test_an_error_in_the_thread_is_said_and_the_next_look_works(folder, monkeypatch):
    board = Board(folder, every=0.02)
    real, failures = board.refresh, [OSError("<made up>")]
    monkeypatch.setattr(board, "refresh", lambda: real() if not failures else (_ for _ in ()).throw(failures.pop()))
    said = []
    board.status.observe(lambda change: said.append(change["new"]), "value")
    board.start()
    until(lambda: said)
    assert said[0] == "<div role='status'>Not up to date: OSError: &lt;made up&gt;</div>"
    share(compared(), folder=folder)
    until(lambda: drawn(board).get("data-n") == "1")
    board.stop()


def test_a_folder_that_hangs_does_not_hold_up_the_lists(folder, monkeypatch):
    share(compared(), "Ada", folder)
    board, hangs, goes_on = Board(folder, every=0.01), threading.Event(), threading.Event()

    def look():
        hangs.set()
        goes_on.wait(60)
        return False

    monkeypatch.setattr(board._files, "look", look)
    board.start()
    assert hangs.wait(60)

    def choose():
        board.technique.value = "workers"
        board.metric.value = "step_s"

    choosing = threading.Thread(target=choose, daemon=True)  # as a click does
    choosing.start()
    choosing.join(10)
    try:
        assert not choosing.is_alive()
        assert "Workers: time per step (mean)" in words(drawn(board))
    finally:
        goes_on.set()
        board.stop()


def test_two_boards_show_their_own_folders_and_choices(folder, tmp_path):
    (tmp_path / "second").mkdir()
    share(compared(), "Ada", folder)
    share(compared("workers"), "Grace", tmp_path / "second")
    first, again, second = Board(folder), Board(folder), Board(tmp_path / "second")
    assert [board.technique.value for board in (first, again, second)] == ["cache", "cache", "workers"]
    again.technique.value = "workers"
    assert first.technique.value == "cache"
    assert drawn(first).get("data-n") == "1"
    assert drawn(again).get("data-n") == "0"
    assert [result.nickname for result in second.results] == ["Grace"]


def test_without_a_folder_the_board_says_how_to_name_one():
    board = Board()
    assert "SPEEDKIT_BOARD" in board.status.value
    assert "SPEEDKIT_BOARD" in repr(board)
    assert (board.results, board.problems, board.refresh()) == ([], {}, False)
    board.start()
    assert board._thread is None


@pytest.mark.parametrize("given", [{"technique": "magic"}, {"metric": "beauty"}])
def test_what_is_not_on_the_board_is_refused(folder, given):
    with pytest.raises(ValueError, match="is not on the board: choose from "):
        Board(folder, **given)


def test_a_nickname_and_a_click_share_what_the_lessons_have_kept(folder, monkeypatch):
    assert "not saved anything yet" in Sharing(folder).line.value
    predict("cache", seconds=2.0)
    save_result(compared())
    save_result(compared("workers", 1.2))
    form = Sharing(folder)
    assert "Workers, Cache" in form.line.value
    form.name.value = "Ada"
    form.button.click()
    assert form.line.value.count("On the board as Ada") == 2
    assert {result.technique for result in seen(folder).results} == {"cache", "workers"}
    form.button.click()
    cache, workers = sorted(latest(seen(folder).results), key=lambda result: result.technique)
    assert (cache.row("seconds").predicted, cache.row("seconds").predicted_size) == ("higher", 2.0)
    assert not any(row.predicted for row in workers.rows)
    form = Sharing()
    form.button.click()
    assert "SPEEDKIT_BOARD" in form.line.value
    assert not form.button.disabled


def test_what_a_learner_types_or_a_file_says_is_shown_escaped_by_the_button(folder, tmp_path):
    save_result(compared())
    path = tmp_path / "runs" / "comparisons" / "workers.json"
    path.write_text(
        json.dumps({"format": 2, "kind": "comparison", "baseline": {"precision": SCRIPT}}), encoding="utf-8"
    )
    form = Sharing(folder)
    form.name.value = SCRIPT[:40]
    form.button.click()
    assert form.line.value.count("&lt;script&gt;") == 2  # the nickname, and what is wrong with the file
    assert "<script" not in form.line.value


# For the instructor


def test_the_frame_and_the_csv_hold_every_result(folder, tmp_path):
    guess = predict("cache", seconds=0.4)
    share(compared(ratio=0.5, machine=card(2)), "Zoë", folder, prediction=guess)
    share(compared("workers", 1.5, machine=card(0)), folder=folder)
    board = Board(folder)
    frame = board.to_frame()
    assert list(frame.columns) == list(COLUMNS)
    assert len(frame) == 2 * len(METRICS) - 1  # on a CPU there is one memory of the processes
    row = frame[(frame.metric == "seconds") & (frame.technique == "cache")].iloc[0]
    assert (row.who, row.unit, row.verdict, row.outcome) == ("Zoë", "ratio", LOWER, "held here")
    assert (row.hardware, row.kind, row.cores, row.predicted_size) == ("Tesla T4", "cuda", 3, 0.4)
    assert row.effect == pytest.approx(0.5)
    assert set(frame.who) == {"Zoë", "learner 1"}
    path = board.to_csv(tmp_path / "new" / "board.csv")
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    again = pandas.read_csv(path)
    assert again.effect.to_numpy() == pytest.approx(frame.effect.to_numpy(dtype=float), nan_ok=True)
    assert list(again.who) == list(frame.who)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "  ="])
def test_no_text_in_the_csv_is_a_formula(folder, good, tmp_path, start):
    formula = f'{start}HYPERLINK("x")'
    (folder / f"{start}1.json").write_text(json.dumps(everywhere(good, formula)), encoding="utf-8")
    path = Board(folder).to_csv(tmp_path / "board.csv")
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    cells = [(name, cell) for row in rows for name, cell in row.items()]
    numbers = {"effect", "low", "high", "predicted_size"}
    assert not [cell for name, cell in cells if name not in numbers and re.match(r"\s*[=+@-]", cell)]
    assert {row["nickname"] for row in rows} == {"Ada", f"'{formula}"}
    for name, cell in cells:
        if name in numbers and cell:
            float(cell)


def test_no_difference_is_a_verdict_like_the_others(folder):
    share(compared(ratio=1.0, spread=0.2), folder=folder)
    board = Board(folder)
    (row,) = chart.rows(board.results, "cache", "seconds")
    assert row.verdict == NO_DIFFERENCE
    assert "1 result: 1 no difference detected." in words(drawn(board))
