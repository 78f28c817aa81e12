"""The words that a learner reads in the panel, the comparisons and on the board, in English or in French.

    import speedkit as sk

    sk.language("fr")

The English sentence stands in the code and is the key; its French is in :mod:`speedkit.french`, and nowhere else. Only
what is shown is translated, at the moment of showing: whatever is compared in code, kept in a file or shared on the
board is English, so that a file kept in one language reads in the other, and a class of both has one board.

- ``say("{n} steps left", n=3)``: a sentence in the language in force, for whoever looks now.
- ``english("The loss became {value}.", value=loss)``: a sentence that is kept, in English whatever the language.
- ``retold(kept)``: a kept sentence in the language in force; one that the table does not know stays as it is.

Numbers and units are written as code writes them, with a point, in both languages; thousands are set apart by a comma
in English and by a narrow space in French, where a comma would be read as a point.
"""

import re
import string
from functools import cache, lru_cache

from speedkit.locale.french import KEPT, SAID
from speedkit.support.settings import wanted_language

LANGUAGES = ("en", "fr")
LONGEST = 1000  # characters of a kept sentence
SPACE, NARROW_SPACE = "\N{NO-BREAK SPACE}", "\N{NARROW NO-BREAK SPACE}"

_code = "en"
_said: dict[str, str] = {}  # what say() looks into; empty for English


def language(code: str | None = None) -> str:
    """Sets the language of what is shown from now on, "en" or "fr"; without an argument, only says which it is.

    It begins with ``SPEEDKIT_LANGUAGE`` or, where that is not set, with the locale that the system's variables name:
    French where it is French, else English. What stands on the page already keeps its words until its cell is run
    again. Lessons, exercises, the errors that code raises, and the command line are English in any case.

    Raises:
        ValueError: the language is neither.
    """
    global _code, _said
    if code is not None:
        if code not in LANGUAGES:
            raise ValueError(f"language({str(code)[:40]!r}) is not allowed: give {' | '.join(LANGUAGES)}.")
        _code, _said = code, _typeset() if code == "fr" else {}
    return _code


def say(sentence: str, /, **values) -> str:
    """An English sentence in the language in force, its placeholders filled in: cheap enough for every frame."""
    text = _said.get(sentence, sentence)
    return text.format(**values) if values else text


def plural(n: int, one: str, many: str, /, **values) -> str:
    """``one`` or ``many`` for ``n`` things, as :func:`say` says it; ``{n}`` is the number. In French, 0 is one."""
    few = n in (0, 1) if _code == "fr" else n == 1
    return say(one if few else many, n=whole(n), **values)


def english(sentence: str, /, **values) -> str:
    """A sentence that is kept or compared: English now, and in the language in force when :func:`retold` shows it."""
    return sentence.format(**values) if values else sentence


def translate(sentence: str) -> str:
    """A sentence or word that :func:`english` made, or that a table holds, in the language in force.

    One longer than ``LONGEST`` characters is none of the kit's, and to look for a pattern in it could take long.
    """
    return sentence if _code == "en" or len(sentence) > LONGEST else _in_french(sentence)


def whole(n: int) -> str:
    """A whole number with its thousands set apart."""
    return grouped(f"{n:,}")


def grouped(number: str) -> str:
    """A number written with commas between its thousands, as the language in force sets them apart."""
    return number if _code == "en" else number.replace(",", NARROW_SPACE)


def pieces(template: str) -> list[tuple[str, str | None]]:
    """A sentence as (words, placeholder behind them or None)."""
    return [(text, name) for text, name, _, _ in string.Formatter().parse(template)]


def fields(template: str) -> list[str]:
    """The placeholders of a sentence, in their order."""
    return [name for _, name in pieces(template) if name is not None]


def typeset(french: str) -> str:
    """A French text with its apostrophes, and spaces in which no line may break before : ; ! ? % and in « »."""
    return re.sub(r"(?<=\w)'(?=[\w{])", "’", re.sub(r" (?=[:;!?%»])|(?<=«) ", SPACE, french))


@cache
def _typeset():
    return {key: typeset(text) for key, text in (SAID | KEPT).items()}


@cache
def _patterns():
    """The kept sentences with placeholders, as expressions: the one with most words of its own first."""
    found = []
    for key in filter(fields, KEPT):
        pattern = "".join(re.escape(text) + (f"(?P<{name}>.+?)" if name else "") for text, name in pieces(key))
        length = sum(len(text) for text, _ in pieces(key))
        found.append((length, re.compile(pattern, re.DOTALL), _typeset()[key]))
    return [(pattern, text) for _, pattern, text in sorted(found, key=lambda each: -each[0])]


@lru_cache(4096)
def _in_french(sentence):
    if sentence in KEPT and not fields(sentence):
        return _typeset()[sentence]
    for pattern, text in _patterns():
        if match := pattern.fullmatch(sentence):
            return text.format(**{name: _in_french(value) for name, value in match.groupdict().items()})
    return sentence


language(wanted_language())
