"""What people read, in English or another language: gettext messages.

    import speedkit as sk

    sk.language("fr")

The English text is in the code and is the key; a translation is one file, ``speedkit/locale/CODE.po``, for any editor
of .po files: a third language is one more file. Text is translated when it is shown. Everything that code compares,
files store or the class board shares is English, so a file saved in one language can be read in another.

- ``_("{n} steps left", n=3)``: shown now, in the current language.
- ``ngettext("{n} step", "{n} steps", n)``: the same for one and for many.
- ``N_("lower")``: a word that code compares and files store; ``_(word)`` shows it.
- ``Message("The loss became {value}.", value=loss)``: a sentence that is stored; ``_(message)`` shows it.

Numbers are written with a decimal point in every language; the thousands separator is the translation of ",".
"""

import gettext
import io
import math
import numbers
import string
from pathlib import Path

LOCALE = Path(__file__).resolve().parents[1] / "locale"
LONGEST_STORED = 100_000  # characters of a message read from a file

_code, _translations = "en", gettext.NullTranslations()


def languages() -> tuple[str, ...]:
    """The available languages: "en" and one for each file in ``speedkit/locale``."""
    return ("en", *sorted(path.stem for path in LOCALE.glob("*.po")))


def language(code: str | None = None) -> str:
    """Sets the language of everything shown from now on, such as "fr", and returns it; by default only returns it.

    At first it is that of ``SPEEDKIT_LANGUAGE`` or, if that is not set, of the system's locale, if there is a
    translation; otherwise English. Text already on the page stays as it is until its cell is run again. Lessons,
    exercises and the command line are always in English.

    Raises:
        ValueError: the language is not one of :func:`languages`.
    """
    global _code, _translations
    if code is not None:
        if code not in languages():
            raise ValueError(f"language({str(code)[:40]!r}) is not allowed: give {' | '.join(languages())}.")
        _code, _translations = code, _read(code)
    return _code


def _(text: str, /, **values) -> str:
    """A text in the current language, its placeholders filled in; a :class:`Message` brings its own values."""
    if isinstance(text, Message):
        text, values = text._in(_translations), text.shown()
    else:
        text = _translations.gettext(text)
    return text.format(**values) if values else text


def ngettext(one: str, many: str, n: int, /, **values) -> str:
    """``one`` or ``many`` for ``n`` things, in the current language; ``{n}`` is the number."""
    return _translations.ngettext(one, many, n).format(n=whole(n), **values)


def N_(text: str) -> str:
    """Marks a text for the translators and returns it unchanged: English, to be compared or stored."""
    return text


class Message(str):
    """An English sentence that remembers how it was made, so that it can be shown in any language later.

    To code, files and tests it is the English text. values: texts, numbers and other messages. plural, n: see
    :func:`plural_message`.
    """

    def __new__(cls, msgid: str, /, plural: str = "", n: int | None = None, **values):
        values = {name: _plain(value) for name, value in values.items()}
        many = n is not None and n != 1
        text = plural if many else msgid
        self = super().__new__(cls, text.format(**values | _number(n)) if values or n is not None else text)
        self.msgid, self.plural, self.n, self.values = msgid, plural, n, values
        return self

    def __getnewargs_ex__(self):
        return (self.msgid, self.plural, self.n), self.values

    def shown(self) -> dict:
        """Its values in the current language."""
        return {name: _(value) if isinstance(value, Message) else value for name, value in self.values.items()} | (
            {} if self.n is None else {"n": whole(self.n)}
        )

    def _in(self, translations):
        if self.n is None:
            return translations.gettext(self.msgid)
        return translations.ngettext(self.msgid, self.plural, self.n)

    def to_json(self) -> dict | str:
        """What a file stores: only the text, if there are no values."""
        if self.n is None and not self.values:
            return str(self)
        values = {name: value.to_json() if isinstance(value, Message) else value for name, value in self.values.items()}
        more = {} if self.n is None else {"plural": self.plural, "n": self.n}
        return {"msgid": self.msgid, "values": values} | more

    @classmethod
    def from_json(cls, stored) -> str:
        """The message that :meth:`to_json` returned; plain text stays plain text.

        Raises:
            ValueError: it is neither, or too long.
        """
        if isinstance(stored, str):
            return stored
        try:
            values = {
                name: cls.from_json(value) if isinstance(value, dict) else _plain(value)
                for name, value in stored["values"].items()
            }
            plural, n = stored.get("plural", ""), stored.get("n")
            texts = [text for text in (stored["msgid"], plural) if _plainly_formatted(text)]
            if set(stored) - {"msgid", "values", "plural", "n"} or type(n) not in (int, type(None)) or len(texts) < 2:
                raise ValueError("unknown parts")
            if max(_length(text, values) for text in texts) > LONGEST_STORED or abs(n or 0) > 10**15:
                raise ValueError("too long")
            return cls(stored["msgid"], plural, n, **values)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{str(stored)[:60]} is not a message that speedkit stores.") from error


def plural_message(one: str, many: str, n: int, /, **values) -> Message:
    """A :class:`Message` for ``n`` things; ``{n}`` is the number."""
    return Message(one, many, n, **values)


def template(text: str) -> str:
    """The sentence without its values, which is the same for two messages that differ only in a figure."""
    return text.msgid if isinstance(text, Message) else text


def message_of(error: BaseException) -> str:
    """What an exception says: the :class:`Message` it was raised with, its text, or its class name if it has none."""
    first = error.args[0] if len(error.args) == 1 else None
    return first if isinstance(first, Message) else str(error) or type(error).__name__


def whole(n: int) -> str:
    """A whole number with separators between its thousands."""
    return grouped(f"{n:,}")


def grouped(number: str) -> str:
    """A number with commas between its thousands, rewritten with the current language's separator."""
    return number.replace(",", _translations.gettext(","))


def _plainly_formatted(text):
    """Whether a text has plain placeholders only: a file's "{n:>9999999999}" would take all memory."""
    parts = string.Formatter().parse(text)
    return all(name is None or (name.isidentifier() and not spec and not how) for __, name, spec, how in parts)


def _length(text, values):
    """The length of a text before it is filled in: nested messages could take all memory, too."""
    names = (name for __, name, *__ in string.Formatter().parse(text) if name not in (None, "n"))
    return len(text) + sum(len(str(values[name])) for name in names)


def _number(n):
    return {} if n is None else {"n": f"{n:,}"}


def _plain(value):
    if isinstance(value, str):
        return value if isinstance(value, Message) else str(value)
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    finite = isinstance(value, numbers.Real) and math.isfinite(value)
    return float(value) if finite else str(value)  # JSON has neither nan nor infinity


def _read(code):
    if code == "en":
        return gettext.NullTranslations()
    from babel.messages.mofile import write_mo  # here, because English does not need it
    from babel.messages.pofile import read_po

    compiled = io.BytesIO()
    with open(LOCALE / f"{code}.po", "rb") as file:
        write_mo(compiled, read_po(file, locale=code, abort_invalid=True))
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)


def _begin():
    from speedkit.support.variables import wanted_language

    language(wanted_language(languages()))


_begin()
