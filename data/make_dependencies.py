"""Makes dependencies.csv.gz: which Debian packages need which libraries, from the index that apt downloads.

    apt-get update
    python data/make_dependencies.py

A pair is a package and a package that it names under Pre-Depends, Depends or Recommends; of alternatives, the first.
Packages and libraries with fewer than three pairs are left out, again and again, until none is left. The pairs are
facts about Debian; nothing else is taken from the index. They are written as a CSV file, in the order of the names.
"""

import gzip
import hashlib
import subprocess
import sys
from collections import Counter
from pathlib import Path

LEAST = 3  # pairs of a package, and of a library
FIELDS = ("Pre-Depends", "Depends", "Recommends")
LISTS = Path("/var/lib/apt/lists")
MADE = Path(__file__).with_name("dependencies.csv.gz")


def pairs(index: str):
    """Each (package, library) of an index in Debian's format."""
    for paragraph in index.split("\n\n"):
        lines = (line.partition(": ") for line in paragraph.splitlines() if not line.startswith(" "))
        fields = {name: value for name, __, value in lines}
        for field in FIELDS:
            for alternatives in filter(None, fields.get(field, "").split(",")):
                yield fields["Package"], alternatives.split("|")[0].split("(")[0].split(":")[0].strip()


def frequent(found: set) -> set:
    """The pairs whose package and library each have at least ``LEAST`` pairs among them."""
    while True:
        packages, libraries = (Counter(pair[side] for pair in found) for side in (0, 1))
        kept = {pair for pair in found if packages[pair[0]] >= LEAST and libraries[pair[1]] >= LEAST}
        if len(kept) == len(found):
            return kept
        found = kept


def main(suite: str = "bookworm"):
    [index] = LISTS.glob(f"*_debian_dists_{suite}_main_binary-amd64_Packages*")
    [release] = LISTS.glob(f"*_debian_dists_{suite}_InRelease")
    about = [line for line in release.read_text().splitlines() if line.startswith(("Version:", "Date:"))]
    text = subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", index], check=True, capture_output=True).stdout
    found = set(pairs(text.decode()))
    kept = sorted(frequent(found))
    content = "".join(f"{package},{library}\n" for package, library in [("package", "library"), *kept]).encode()
    MADE.write_bytes(gzip.compress(content, 9, mtime=0))
    packages, libraries = (len({pair[side] for pair in kept}) for side in (0, 1))
    print(f"{suite}, main, amd64. {'. '.join(about)}. {len(found):,} pairs found,")
    print(f"{len(kept):,} kept: {packages:,} packages, {libraries:,} libraries; {MADE.stat().st_size:,} bytes as gz")
    print(f"{hashlib.sha256(MADE.read_bytes()).hexdigest()}  {MADE.name}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
