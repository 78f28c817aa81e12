"""The files under data/ are whole, and are what data/README.md says they are."""

import csv
import gzip
import hashlib
import runpy
from collections import Counter
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parent.parent / "data"
SUMS = dict(line.split()[::-1] for line in (DATA / "SHA256SUMS").read_text().splitlines())


def test_every_file_has_a_checksum():
    assert set(SUMS) == {path.name for path in DATA.glob("*.gz")}


@pytest.mark.parametrize("name", SUMS)
def test_each_file_is_the_one_with_that_checksum(name):
    assert hashlib.sha256((DATA / name).read_bytes()).hexdigest() == SUMS[name]


def test_the_plays_are_38_texts_without_markup():
    plays = gzip.decompress((DATA / "plays.txt.gz").read_bytes()).decode().split("\f")
    titles = [play.splitlines()[0] for play in plays]
    assert len(plays) == len(set(titles)) == 38
    assert {"Hamlet", "Macbeth", "The Tempest", "Measure For Measure"} <= set(titles)
    assert not set("*_#\\") & set("".join(plays))
    assert all("\nACT I" in play and ":\n" in play for play in plays)


def test_the_markdown_of_a_play_is_taken_off_and_nothing_else():
    plain = runpy.run_path(str(DATA / "make_plays.py"))["plain"]
    markdown = "## ACT I\n\n_Enter_\n\n**TITUS ANDRONICUS**  \n_\\[Aside]_  \nHail, Rome!  \n\n*Exit.*\n"
    assert plain(markdown) == "ACT I\n\nEnter\n\nTITUS ANDRONICUS:\n[Aside]\nHail, Rome!\n\nExit.\n"


def test_each_package_and_each_library_has_at_least_three_dependencies():
    with gzip.open(DATA / "dependencies.csv.gz", "rt", newline="") as file:
        heading, *pairs = csv.reader(file)
    assert heading == ["package", "library"]
    assert len(pairs) == len(set(map(tuple, pairs))) == 231_586
    packages, libraries = (Counter(pair[side] for pair in pairs) for side in (0, 1))
    assert (len(packages), len(libraries)) == (32_098, 11_745)
    assert min(packages.values()) == min(libraries.values()) == 3


def test_dependencies_are_read_from_debians_format():
    made = runpy.run_path(str(DATA / "make_dependencies.py"))
    index = """Package: a
Depends: libc6 (>= 2.34), default-mta | mail-transport-agent, python3:any
Description: Depends: nothing
 Depends: neither

Package: b
Pre-Depends: dpkg
Recommends: a"""
    expected = {("a", "libc6"), ("a", "default-mta"), ("a", "python3"), ("b", "dpkg"), ("b", "a")}
    assert set(made["pairs"](index)) == expected


def test_rare_names_are_left_out_until_none_is_left():
    frequent = runpy.run_path(str(DATA / "make_dependencies.py"))["frequent"]
    square = {(package, library) for package in "abc" for library in "xyz"}
    chain = {("d", "x"), ("d", "y"), ("d", "w"), ("e", "w")}  # e goes, then w, then d
    assert frequent(square | chain) == square
