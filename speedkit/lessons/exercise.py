"""Exercises: ``check`` an answer, ask for a ``hint``, unfold the ``solution``.

An answer that is still ``...`` counts as not attempted, which is not an error. Answers in code are judged by what they
do, not by how they are written, and anything that goes wrong in them becomes a sentence.

    quiz = exercises("caching")
    quiz.hit_rate.check(0.5)
"""

import copy
import dis
import html
import math
import numbers
import operator
import re
import signal
import threading
from collections.abc import Callable
from contextlib import contextmanager
from importlib import import_module

import numpy as np
import torch

LESSONS = (
    "precision",
    "early_stopping",
    "augmentation",
    "batchnorm",
    "workers",
    "caching",
    "all_together",
    "three_teams",
)
LIMIT_S = 10.0  # per check; every right answer takes less than a second
RIGHT, WRONG, NOT_ATTEMPTED = "right", "not yet", "not attempted yet"
COLOURS = {RIGHT: "#2e7d32", WRONG: "#d32f2f", NOT_ATTEMPTED: "#888"}


def exercises(lesson: str):
    """The exercises of a lesson, by name: ``exercises("caching").hit_rate``.

    Raises:
        ValueError: there is no lesson of this name.
    """
    if lesson not in LESSONS:
        raise ValueError(f"There are no exercises for {str(lesson)[:40]!r}: give {' | '.join(LESSONS)}.")
    return import_module(f"speedkit.lessons.{lesson}.exercises")


class WrongAnswer(Exception):
    """Raised by a judge; the learner reads its message."""


class NotAttempted(Exception):
    """Raised by a judge: the answer still contains a placeholder."""


class _TooLong(BaseException):
    """Not an Exception, so that an answer that catches every Exception does not catch it."""


class Exercise:
    """One question and its judge.

    judge: takes the answer and returns a sentence of explanation, or raises :class:`WrongAnswer` or
        :class:`NotAttempted`.
    hints: sentences, from vague to clear.
    solution: Python code, or a sentence.
    """

    def __init__(self, question: str, judge: Callable[[object], str], hints: tuple[str, ...], solution: str):
        self.question, self._judge, self._hints, self._solution = question, judge, hints, solution
        self._hinted = 0

    def check(self, answer=...) -> "Note":
        """Says what is right or wrong about an answer; never raises."""
        try:
            if is_blank(answer):
                raise NotAttempted
            with _at_most(LIMIT_S):
                return Note(RIGHT, self._judge(answer))
        except NotAttempted:
            return Note(NOT_ATTEMPTED, "Replace the `...` with your answer and run the cell again.")
        except WrongAnswer as wrong:
            return Note(WRONG, str(wrong))
        except _TooLong:
            return Note(WRONG, f"It did not finish within {LIMIT_S:.3g} seconds: is there an endless loop?")
        except KeyboardInterrupt:
            return Note(WRONG, "It was interrupted before it finished: is there an endless loop?")
        except Exception as error:  # an answer can be any object, and can fail wherever it is touched
            return Note(WRONG, f"Your answer could not be compared with the expected one. {in_words(error)}")

    def hint(self) -> "Note":
        """The next hint, folded; after the last hint, the last one again."""
        shown = min(self._hinted, len(self._hints) - 1)
        self._hinted += 1
        return Note(f"Hint {shown + 1} of {len(self._hints)}", self._hints[shown], folded=True)

    def solution(self) -> "Note":
        """The solution, folded."""
        return Note("Solution", self._solution, folded=True)

    def __repr__(self):
        return self.question

    def _repr_html_(self):
        return f"<div class='sk-exercise'>{_marked_up(self.question)}</div>"


class Note:
    """The reply of an :class:`Exercise`: ``kind`` and ``text``, shown as HTML in a notebook and as text elsewhere."""

    def __init__(self, kind: str, text: str, folded: bool = False):
        self.kind, self.text, self.folded = kind, text, folded

    def __repr__(self):
        kind = self.kind[0].upper() + self.kind[1:]
        return f"{kind}:\n{self.text}" if "\n" in self.text else f"{kind}. {self.text}"

    def _repr_html_(self):
        kind = html.escape(self.kind[0].upper() + self.kind[1:])
        if self.folded:
            return f"<details class='sk-fold'><summary>{kind}</summary>{_marked_up(self.text)}</details>"
        style = f"border-left: 4px solid {COLOURS[self.kind]}; padding: 6px 10px; line-height: 1.45"
        return f"<div role='status' class='sk-feedback' style='{style}'><b>{kind}.</b> {_marked_up(self.text)}</div>"


def _marked_up(text):
    """Escaped text: several lines as code; else `code` in backticks and a *word* between asterisks are marked up."""
    text = html.escape(text)
    if "\n" in text:
        return f"<pre>{text}</pre>"
    marks = r"`([^`]+)`|(?<!\w)\*(\w+)\*(?!\w)"
    return re.sub(marks, lambda found: f"<code>{found[1]}</code>" if found[1] else f"<em>{found[2]}</em>", text)


# Kinds of exercise


def choice(question: str, right: str, options: dict[str, tuple[str, str]], hints: tuple[str, ...]) -> Exercise:
    """A question with lettered options: letter -> (the option, the feedback for choosing it)."""

    def judge(answer):
        letter = answer.strip().strip("().").lower() if isinstance(answer, str) else ""
        if letter not in options:
            letters = ", ".join(f'"{letter}"' for letter in options)
            raise WrongAnswer(f"Answer with one of the letters, in quotation marks: {letters}.")
        sentence = options[letter][1]
        if letter != right:
            raise WrongAnswer(sentence)
        return sentence

    listed = " ".join(f"({letter}) {option}" for letter, (option, _) in options.items())
    return Exercise(f"{question} {listed}", judge, hints, f"({right}): {options[right][1]}")


def number_question(
    question: str, right: float, praise: str, mistakes: dict[float, str], hints: tuple[str, ...], within: float = 1e-6
) -> Exercise:
    """A question whose answer is a number, with a relative tolerance of ``within``.

    praise: explains the right answer. mistakes: a wrong number -> the feedback for it.
    """

    def judge(answer):
        value = number(answer)
        if math.isclose(value, right, rel_tol=within):
            return praise
        for wrong, sentence in mistakes.items():
            if math.isclose(value, wrong, rel_tol=within):
                raise WrongAnswer(sentence)
        if value <= 0:
            raise WrongAnswer(f"{value:.6g} is not above zero, but the answer is.")
        than, factor = ("large", value / right) if value > right else ("small", right / value)
        raise WrongAnswer(f"{value:.6g} is too {than}, by a factor of {factor:.3g}. See the hints.")

    return Exercise(question, judge, hints, praise)


# Judging code


def call(function, *arguments, shown: str = ""):
    """What a learner's function returns for some arguments; ``shown``: the call as the learner would write it.

    Raises:
        WrongAnswer: it raised an exception, or returned nothing.
        NotAttempted: it still contains a placeholder.
    """
    made = shown or _written(function, arguments)
    try:
        result = function(*arguments)
    except NotImplementedError:
        raise NotAttempted from None
    except (Exception, SystemExit, GeneratorExit) as error:
        if "ellipsis" in str_of(error).lower():
            raise NotAttempted from None
        raise WrongAnswer(f"`{made}` raised {in_words(error)}") from None
    if result is ...:
        raise NotAttempted
    if result is None:
        raise WrongAnswer(f"`{made}` returned nothing: does every path through it end in a `return`?")
    return result


def behaves_like(answer, right, cases, mistakes, *, read, same=operator.eq):
    """Compares a learner's function with ``right`` on all ``cases`` (tuples of arguments).

    read: (its result, the case's arguments) -> what is compared, or raises :class:`WrongAnswer`.
    mistakes: pairs of a wrong function and the feedback for an answer that behaves like it. For any other wrong
        answer, the first failing case is shown.

    Returns the arguments as the answer left them: it may have changed them.

    Raises:
        WrongAnswer, NotAttempted: as in :func:`call`, or it does not behave like ``right``.
    """
    is_function(answer)
    used = copy.deepcopy(cases)
    theirs = [read(call(answer, *arguments), *case) for arguments, case in zip(used, cases, strict=True)]
    expected = [right(*copy.deepcopy(case)) for case in cases]
    agree = [same(one, other) for one, other in zip(theirs, expected, strict=True)]
    if all(agree):
        return used
    for mistake, sentence in mistakes:
        if all(same(one, _outcome(mistake, case)) for one, case in zip(theirs, cases, strict=True)):
            raise WrongAnswer(sentence)
    first = agree.index(False)
    made, gave, wanted = _written(answer, cases[first]), in_short(theirs[first]), in_short(expected[first])
    what = f"returned {gave}, but {wanted} was expected" if gave != wanted else f"returned a {gave} with wrong values"
    raise WrongAnswer(f"`{made}` {what}.")


def _written(function, arguments):
    return f"{in_short(getattr(function, '__name__', 'it'), quoted=False)}({', '.join(map(in_short, arguments))})"


def _outcome(mistake, case):
    try:
        return mistake(*copy.deepcopy(case))
    except ArithmeticError:
        return math.nan


def is_function(answer):
    """Raises :class:`WrongAnswer` for an object that cannot be called."""
    if not callable(answer):
        raise WrongAnswer(f"Give the name of your function or class, without brackets; this is {_a_kind_of(answer)}.")


def number(answer) -> float:
    """A float from any kind of number. Raises :class:`WrongAnswer` for anything else."""
    if isinstance(answer, torch.Tensor | np.ndarray | np.generic):
        if math.prod(answer.shape) != 1:
            raise WrongAnswer(f"One number is expected; this has {math.prod(answer.shape)}.")
        answer = answer.item()
    if isinstance(answer, str):
        raise WrongAnswer("Write the number without quotation marks.")
    if isinstance(answer, bool) or not isinstance(answer, numbers.Real):
        raise WrongAnswer(f"A number is expected; this is {_a_kind_of(answer)}.")
    try:
        value = float(answer)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise WrongAnswer(f"A finite number is expected; this is {value}.")
    return value


def yes_or_no(answer) -> bool:
    """True or False. Raises :class:`WrongAnswer` for anything else."""
    if isinstance(answer, torch.Tensor | np.ndarray) and math.prod(answer.shape) == 1:
        answer = answer.item()
    if not isinstance(answer, bool | np.bool_):
        raise WrongAnswer(f"It should return True or False; it returned {in_short(answer)}, {_a_kind_of(answer)}.")
    return bool(answer)


def tensor(answer, like: torch.Tensor) -> torch.Tensor:
    """A tensor with the shape and dtype of ``like``. Raises :class:`WrongAnswer` for anything else."""
    if not isinstance(answer, torch.Tensor):
        raise WrongAnswer(f"It should return a tensor; it returned {_a_kind_of(answer)}.")
    for what in ("shape", "dtype"):
        found, wanted = (
            tuple(value) if what == "shape" else value for value in (getattr(answer, what), getattr(like, what))
        )
        if found != wanted:
            raise WrongAnswer(f"It should return a tensor of {what} {wanted}, like its input; this one has {found}.")
    return answer.detach().cpu()


def is_blank(answer) -> bool:
    """Whether an answer is still a placeholder: ``...``, or a function or class with an empty body."""
    if answer is ... or answer is None:
        return True
    if isinstance(answer, type):
        methods = [value for value in vars(answer).values() if hasattr(value, "__code__")]
        return answer.__module__ != "builtins" and all(map(is_blank, methods))
    code = getattr(answer, "__code__", None)
    if code is None:
        return False
    # A body of nothing but a docstring, "...", "pass" or "return None".
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_CONST", "RETURN_CONST", "LOAD_COMMON_CONSTANT"):
            if step.argval is not None and step.argval is not ...:
                return False
        elif step.opname not in ("RESUME", "NOP", "POP_TOP", "RETURN_VALUE"):
            return False
    return True


@contextmanager
def _at_most(limit_s):
    """Raises :class:`_TooLong` in the block after ``limit_s`` seconds; in the main thread only, not on Windows."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(*_):
        raise _TooLong

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before or signal.SIG_DFL)


# Words


def str_of(value) -> str:
    """str(value), even if the learner's object makes that fail."""
    try:
        return str(value)
    except Exception:
        return "(it has no text)"


def in_words(error: BaseException) -> str:
    """An exception's name and message, cut to 200 characters."""
    words = " ".join(str_of(error).split())
    words = words if len(words) <= 200 else f"{words[:200]} …"
    return f"{type(error).__name__}: {words}" if words else f"{type(error).__name__}."


def in_short(value, quoted: bool = True) -> str:
    """A value in at most 60 characters; for a tensor, its shape."""
    if isinstance(value, torch.Tensor):
        return f"tensor of shape {tuple(value.shape)}"
    if isinstance(value, torch.nn.Module):
        return f"a {type(value).__name__}"
    try:
        text = " ".join((repr(value) if quoted else str(value)).split())
    except Exception:
        text = _a_kind_of(value)
    return text if len(text) <= 60 else f"{text[:60]} …"


def _a_kind_of(value):
    return f"an object of type {type(value).__name__}"
