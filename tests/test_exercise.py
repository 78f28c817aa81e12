"""Every checker accepts right answers and answers each plausible mistake with feedback of its own; nothing raises.

Of the lessons' feedback only a key word is quoted here, so that it can be reworded. What tells the mistakes apart is
checked at the end: within an exercise, different mistakes get different feedback, and none gets the general one.
"""

import contextlib
import copy
import functools
import itertools
import math
import random
import re
import textwrap
import threading
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import speedkit
from speedkit.lessons import exercise
from speedkit.lessons.exercise import LESSONS, NOT_ATTEMPTED, RIGHT, WRONG, Exercise, exercises

ALL = [
    pytest.param(lesson, name, id=f"{lesson}.{name}")
    for lesson in LESSONS
    for name, value in vars(exercises(lesson)).items()
    if isinstance(value, Exercise)
]
IN_CODE = {
    "precision": "bytes_of",
    "early_stopping": "should_stop",
    "augmentation": "crop_and_flip",
    "batchnorm": "normalise",
    "workers": "best_step",
    "caching": "cached",
    "all_together": "speedup",
    "three_teams": "hits",
}


def quiz(lesson, name):
    return getattr(exercises(lesson), name)


def sentence(lesson, name, answer, kind=WRONG):
    note = quiz(lesson, name).check(answer)
    assert note.kind == kind, note
    return note.text


def says(words, text):
    return re.search(words, text, re.IGNORECASE)


def written(source):
    """The function or class that a source text defines."""
    names = {"torch": torch, "__name__": "__main__"}
    exec(source, names)
    return list(names.values())[-1]


# The frame


def test_every_lesson_has_two_or_three_exercises_and_one_in_code():
    for lesson in LESSONS:
        found = [value for value in vars(exercises(lesson)).values() if isinstance(value, Exercise)]
        assert 2 <= len(found) <= 3
        assert "Write" in quiz(lesson, IN_CODE[lesson]).question
    assert speedkit.exercises("caching") is exercises("caching")


def test_an_unknown_lesson_is_refused():
    with pytest.raises(ValueError, match=r"no exercises for 'cache': give precision .* three_teams\."):
        exercises("cache")


@pytest.mark.parametrize(("lesson", "name"), ALL)
@pytest.mark.parametrize(
    "source",
    [
        "answer = ...",
        "answer = None",
        "def answer(*_): ...",
        "def answer(*_): pass",
        "def answer(*_):\n    '''Not written yet.'''",
        "def answer(*_):\n    '''Not written yet.'''\n    ...",
        "def answer(*_): return ...",
        "answer = lambda *_: ...",
        "class answer: ...",
        "class answer:\n    def __init__(self, *_): ...\n    def __getitem__(self, i): ...",
    ],
)
def test_a_placeholder_is_not_an_attempt(lesson, name, source):
    note = quiz(lesson, name).check(written(source))
    assert note.kind == NOT_ATTEMPTED
    assert repr(note).startswith("Not attempted yet.")
    assert quiz(lesson, name).check().kind == NOT_ATTEMPTED


@pytest.mark.parametrize("lesson", LESSONS)
@pytest.mark.parametrize(
    "body",
    ["    best = ...\n    return best", "    return ... + 1", "    raise NotImplementedError", "    return len(...)"],
)
def test_a_function_with_a_placeholder_left_in_it_is_not_an_attempt(lesson, body):
    answer = written(f"def answer(*_):\n{body}")
    if lesson == "caching":
        body = textwrap.indent(body, "    ")
        answer = written(f"class answer:\n    def __init__(self, *_): pass\n    def __getitem__(self, i):\n{body}")
    assert quiz(lesson, IN_CODE[lesson]).check(answer).kind == NOT_ATTEMPTED


@pytest.mark.parametrize(("lesson", "name"), [(lesson, name) for lesson, name in IN_CODE.items()])
def test_the_solution_is_right_and_stays_right(lesson, name):
    answer = written(quiz(lesson, name).solution().text)
    for _ in range(3):
        sentence(lesson, name, answer, RIGHT)


@pytest.mark.parametrize(("lesson", "name"), ALL)
def test_hint_and_solution_are_folded_and_hints_go_on(lesson, name):
    one = quiz(lesson, name)
    one._hinted = 0
    hints = [one.hint() for _ in range(len(one._hints) + 1)]
    assert len({hint.text for hint in hints}) == len(one._hints)
    assert hints[-1].text == hints[-2].text
    for note in [*hints, one.solution()]:
        assert note._repr_html_().startswith("<details")
        assert "<details open" not in note._repr_html_()
    assert one.question in repr(one)
    assert "<script" not in one._repr_html_()


def test_a_question_shows_code_and_emphasis_but_a_product_as_it_is():
    shown = exercise._marked_up("`a*b*c` and 2 * 3 * 4, x*y*z, *this*, <i>")
    assert shown == "<code>a*b*c</code> and 2 * 3 * 4, x*y*z, <em>this</em>, &lt;i&gt;"


HOSTILE = {
    "text": "word",
    "empty text": "",
    "true": True,
    "dictionary": {},
    "nan": math.nan,
    "huge": 10**400,
    "complex": 1j,
    "several": torch.ones(3),
    "none of them": np.array([]),
    "builtin": print,
    "type": dict,
    "object": object(),
    "endless": iter(int, 1),
}


@pytest.mark.parametrize(("lesson", "name"), ALL)
@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
def test_any_object_gets_one_sentence(lesson, name, answer, capsys):
    note = quiz(lesson, name).check(answer)
    assert note.kind == WRONG
    assert 10 < len(note.text) < 400
    assert "\n" not in note.text


class Nasty:
    """Fails wherever it is touched."""

    def __getattribute__(self, name):
        raise RuntimeError("<b>do not touch</b>")


def given(result):
    """A function that returns, or raises, the same thing whatever its arguments."""

    def answer(*_):
        if isinstance(result, BaseException):
            raise result
        return result

    return answer


@pytest.mark.parametrize("lesson", LESSONS)
@pytest.mark.parametrize(
    ("result", "words"),
    [
        (ZeroDivisionError("division by zero"), "raised ZeroDivisionError: division by zero"),
        (ValueError(), r"raised ValueError\."),
        (SystemExit(1), "raised SystemExit: 1"),
        (RecursionError("x" * 5000), "RecursionError: x{200} …"),
        (None, "returned nothing: does every path through it end in a `return`"),
        ("text", ""),
        ([], ""),
        (object(), ""),
        (iter(int, 1), ""),
        (Nasty(), "RuntimeError: <b>do not touch</b>"),
        (torch.ones(2, 2), ""),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_learners_code_does_becomes_one_sentence(lesson, result, words):
    answer = given(result)
    if lesson == "caching":
        answer = type("Cached", (), {"__init__": lambda *_: None, "__getitem__": given(result)})
    text = sentence(lesson, IN_CODE[lesson], answer)
    assert re.search(words, text)
    assert len(text) < 500
    assert "Traceback" not in text


def test_the_message_of_an_exception_is_escaped():
    note = quiz("early_stopping", "should_stop").check(given(ValueError("<script>alert(1)</script>")))
    assert "<script>" in note.text
    assert "<script>" not in note._repr_html_()
    assert "&lt;script&gt;" in note._repr_html_()


@pytest.mark.skipif(not hasattr(exercise.signal, "setitimer"), reason="this system cannot interrupt a loop")
def test_an_endless_loop_becomes_a_sentence(monkeypatch):
    monkeypatch.setattr(exercise, "LIMIT_S", 0.2)
    before = exercise.signal.getsignal(exercise.signal.SIGALRM)

    def endless(losses, patience, min_delta):
        while True:
            with contextlib.suppress(Exception):
                losses = list(losses)

    text = sentence("early_stopping", "should_stop", endless)
    assert text == "It did not finish within 0.2 seconds: is there an endless loop?"
    assert exercise.signal.getsignal(exercise.signal.SIGALRM) == before
    assert exercise.signal.getitimer(exercise.signal.ITIMER_REAL) == (0, 0)


def test_an_interrupt_becomes_a_sentence():
    assert "interrupted" in sentence("early_stopping", "should_stop", given(KeyboardInterrupt()))


def test_checks_work_outside_the_main_thread():
    notes = []
    thread = threading.Thread(target=lambda: notes.append(quiz("caching", "hit_rate").check(0.25)))
    thread.start()
    thread.join()
    assert notes[0].kind == RIGHT


# Numbers and choices


@pytest.mark.parametrize(
    ("lesson", "name", "right"),
    [
        ("precision", "smallest_fp16", 2**-24),
        ("precision", "smallest_fp16", 6e-8),
        ("precision", "smallest_fp16", 5.96e-8),
        ("precision", "smallest_fp16", torch.tensor(2.0**-24)),
        ("early_stopping", "kept_epoch", 3),
        ("augmentation", "copies_bytes", 10 * 2000 * 28 * 28),
        ("augmentation", "copies_bytes", np.int64(15_680_000)),
        ("batchnorm", "running_mean", 0.5),
        ("caching", "hit_rate", 1500 / 6000),
        ("caching", "hit_rate", Fraction(1, 4)),
        ("caching", "hit_rate", np.array([0.25])),
        ("precision", "larger_range", "b"),
        ("precision", "larger_range", " (B) "),
        ("early_stopping", "which_split", "b"),
        ("augmentation", "changes_label", "c"),
        ("batchnorm", "in_eval", "c"),
        ("workers", "when_workers_lose", "b"),
        ("caching", "with_workers", "d"),
        ("all_together", "first_switch", "b"),
        ("all_together", "in_the_end", 5),
        ("all_together", "in_the_end", Fraction(100, 20)),
        ("three_teams", "no_batch_norm", "c"),
        ("three_teams", "cache_bytes", 21 * 32_000 * 2),
    ],
)
def test_right_numbers_and_choices(lesson, name, right):
    assert sentence(lesson, name, right, RIGHT)


def test_the_smallest_fp16_number_is_what_torch_says():
    assert torch.tensor(2.0**-24).half() > 0
    assert torch.tensor(2.0**-25).half() == 0


def test_the_running_mean_is_what_torch_says():
    norm = nn.BatchNorm2d(1)
    norm(torch.full((4, 1, 2, 2), 5.0))
    assert sentence("batchnorm", "running_mean", norm.running_mean, RIGHT)


WRONG_NUMBERS_AND_CHOICES = [
    ("precision", "smallest_fp16", torch.finfo(torch.float16).tiny, "float16.*tiny"),
    ("precision", "smallest_fp16", torch.finfo(torch.float16).eps, "eps"),
    ("precision", "smallest_fp16", torch.finfo(torch.float16).max, "largest"),
    ("precision", "smallest_fp16", 2.0**-25, "zero"),
    ("precision", "smallest_fp16", 2.0**-15, "subnormal"),
    ("precision", "smallest_fp16", 1.4e-45, "fp32.*23"),
    ("precision", "smallest_fp16", 9.2e-41, "bf16"),
    ("precision", "smallest_fp16", torch.finfo(torch.bfloat16).tiny, "normal.*fp32"),
    ("precision", "smallest_fp16", 1e-5, "too large, by a factor of 168"),
    ("precision", "smallest_fp16", 1e-10, "too small, by a factor of"),
    ("precision", "smallest_fp16", 0, "not above zero"),
    ("precision", "smallest_fp16", -65504, "not above zero"),
    ("precision", "smallest_fp16", "6e-8", "without quotation marks"),
    ("early_stopping", "kept_epoch", 0.55, r"\*epoch\*|which epoch"),
    ("early_stopping", "kept_epoch", 6, "epoch 6.*patience"),
    ("early_stopping", "kept_epoch", 2, "from 1"),
    ("early_stopping", "kept_epoch", 5, "epoch 5"),
    ("early_stopping", "kept_epoch", 4, "epoch 4"),
    ("augmentation", "copies_bytes", 11 * 2000 * 784, "images themselves|original"),
    ("augmentation", "copies_bytes", 2000 * 784, "one copy"),
    ("augmentation", "copies_bytes", 9 * 2000 * 784, "nine"),
    ("augmentation", "copies_bytes", 10 * 2000 * 784 * 4, "four bytes"),
    ("augmentation", "copies_bytes", 10 * 2000 * 784 * 8, "bits"),
    ("augmentation", "copies_bytes", 15.68, "megabytes"),
    ("augmentation", "copies_bytes", 15680, "kilobytes"),
    ("augmentation", "copies_bytes", 20000, "number of copies"),
    ("batchnorm", "running_mean", 4.5, "other way|weight of the"),
    ("batchnorm", "running_mean", 5, "own mean|mean of the batch"),
    ("batchnorm", "running_mean", 0.1, "0.1 is the momentum"),
    ("batchnorm", "running_mean", 2.5, "half"),
    ("caching", "hit_rate", 25, "per cent"),
    ("caching", "hit_rate", 0.75, r"\*not\* found"),
    ("caching", "hit_rate", 0, "nothing was cached"),
    ("caching", "hit_rate", 1.0, "Only 1,500"),
    ("caching", "hit_rate", 0.125, "first two epochs"),
    ("caching", "hit_rate", 4, "other way round"),
    ("caching", "hit_rate", 1500, "number of hits"),
    ("caching", "hit_rate", 0.3, "too large, by a factor of 1.2"),
    ("caching", "hit_rate", [0.25], "of type list"),
    ("precision", "larger_range", "a", "digits|precision"),
    ("precision", "larger_range", "c", r"\bmany\b"),
    ("precision", "larger_range", "d", "reason"),
    ("precision", "larger_range", "bf16", 'one of the letters, in quotation marks: "a", "b", "c", "d"'),
    ("precision", "larger_range", 2, "one of the letters"),
    ("early_stopping", "which_split", "a", "by heart|memoris"),
    ("early_stopping", "which_split", "c", "honest|unbiased"),
    ("early_stopping", "which_split", "d", "larger part|most of"),
    ("augmentation", "changes_label", "a", "left"),
    ("augmentation", "changes_label", "b", "stroke"),
    ("augmentation", "changes_label", "d", "slant"),
    ("batchnorm", "in_eval", "a", "training mode"),
    ("batchnorm", "in_eval", "b", "noisy"),
    ("batchnorm", "in_eval", "d", "start"),
    ("workers", "when_workers_lose", "a", "waiting to|cores to do"),
    ("workers", "when_workers_lose", "c", "overlap"),
    ("workers", "when_workers_lose", "d", "spare"),
    ("caching", "with_workers", "a", "stays empty"),
    ("caching", "with_workers", "b", "stayed alive"),
    ("caching", "with_workers", "c", "ends with the epoch"),
    ("all_together", "first_switch", "a", "the shorter part"),
    ("all_together", "first_switch", "c", "hides all the waiting"),
    ("all_together", "first_switch", "d", "halves the waiting"),
    ("all_together", "in_the_end", 2.5, "the first of the two"),
    ("all_together", "in_the_end", 2, "on top of the first"),
    ("all_together", "in_the_end", 4.5, "multiplied, not added"),
    ("all_together", "in_the_end", 2.5 * 100 / 80, "the bottleneck has moved"),
    ("all_together", "in_the_end", 100 / 80, "number format alone"),
    ("all_together", "in_the_end", 0.2, "other way round"),
    ("all_together", "in_the_end", 20, "final step in milliseconds"),
    ("all_together", "in_the_end", 80, "time saved"),
    ("all_together", "in_the_end", 10, "too large, by a factor of 2"),
    ("three_teams", "no_batch_norm", "a", "a price, not a fault"),
    ("three_teams", "no_batch_norm", "b", "An embedding has channels"),
    ("three_teams", "no_batch_norm", "d", "wrong at any speed"),
    ("three_teams", "cache_bytes", 672_000, "One byte counts up to 255"),
    ("three_teams", "cache_bytes", 2_688_000, "That is int32"),
    ("three_teams", "cache_bytes", 5_376_000, "PyTorch's default"),
    ("three_teams", "cache_bytes", 64_000, "one item in each history"),
    ("three_teams", "cache_bytes", 493_290, "Count the histories"),
]


@pytest.mark.parametrize(("lesson", "name", "wrong", "words"), WRONG_NUMBERS_AND_CHOICES)
def test_wrong_numbers_and_choices_get_their_feedback(lesson, name, wrong, words):
    assert says(words, sentence(lesson, name, wrong))


# precision: bytes_of


def total(model, size):
    return sum(p.numel() for p in model.parameters()) * size


@pytest.mark.parametrize(
    "right",
    [
        lambda model, dtype: total(model, torch.empty(1, dtype=dtype).element_size()),
        lambda model, dtype: float(total(model, dtype.itemsize)),
        lambda model, dtype: torch.tensor(sum(p.to(dtype).nbytes for p in model.parameters())),
    ],
)
def test_bytes_of_is_right(right):
    assert sentence("precision", "bytes_of", right, RIGHT)


WRONG_BYTES_OF = [
    (lambda model, dtype: total(model, 1), "counts.*numbers"),
    (lambda model, dtype: total(model, 8 * dtype.itemsize), "bits"),
    (lambda model, dtype: sum(1 for _ in model.parameters()) * dtype.itemsize, "tensors"),
    (lambda model, dtype: sum(p.nbytes for p in model.parameters()), "whatever `dtype`|is now|current"),
    (lambda model, dtype: total(model, 4), "whatever `dtype`|is now|current"),
    (
        lambda model, dtype: sum(p.numel() * dtype.itemsize for p in model.parameters() if p.requires_grad),
        "not trained|trainable",
    ),
    (
        lambda model, dtype: sum(v.numel() * dtype.itemsize for v in model.state_dict().values()),
        "buffers",
    ),
    (
        lambda model, dtype: total(model, dtype.itemsize) + 1,
        r"<lambda>\(a Linear, torch.float32\)` returned 129.0, but 128 was expected",
    ),
    (
        lambda model, dtype: total(model, torch.finfo(dtype).bits // 8),
        r"int8\)` raised TypeError: torch.finfo",
    ),
    (lambda model, dtype: f"{total(model, dtype.itemsize)}", "without quotation marks"),
    (lambda model, dtype: (total(model, dtype.itemsize),), "of type tuple"),
]


@pytest.mark.parametrize(("wrong", "words"), WRONG_BYTES_OF)
def test_bytes_of_is_wrong(wrong, words):
    assert says(words, sentence("precision", "bytes_of", wrong))


def test_bytes_of_must_not_change_the_model():
    def converts(model, dtype):
        if dtype.is_floating_point:
            model.to(dtype)
        return total(model, dtype.itemsize)

    assert "changed the model" in sentence("precision", "bytes_of", converts)


# early_stopping: should_stop


def by_slices(losses, patience, min_delta):
    """Another way to write it."""
    best, since = losses[0], 0
    for loss in losses[1:]:
        since += 1
        if best - loss > min_delta:
            best, since = loss, 0
    return np.bool_(since >= patience)


def patient(*, better=lambda loss, best, d: loss < best - d, stop=lambda waited, patience: waited >= patience, **how):
    """A should_stop with one thing changed."""

    def answer(losses, patience, min_delta):
        best, waited = math.inf, 0
        for loss in losses:
            if better(loss, best, min_delta):
                best = loss
                waited = waited if how.get("never_resets") else 0
            else:
                waited += 1
                best = loss if how.get("previous") else best
        return stop(waited, patience)

    return answer


def against_all_earlier(losses, patience, min_delta):
    if len(losses) <= patience:
        return False
    return not min(losses[-patience:]) < min(losses[:-patience]) - min_delta


def against_the_lowest(losses, patience, min_delta):
    """The bar sinks with every lower loss, also with one that did not count."""
    lowest, waited = math.inf, 0
    for loss in losses:
        waited = 0 if loss < lowest - min_delta else waited + 1
        lowest = min(lowest, loss)
    return waited >= patience


def against_the_one_before(losses, patience, min_delta):
    waited = 0
    for before, loss in itertools.pairwise(losses):
        waited = 0 if loss < before - min_delta else waited + 1
    return waited >= patience


def test_should_stop_is_right():
    assert sentence("early_stopping", "should_stop", by_slices, RIGHT)
    assert sentence("early_stopping", "should_stop", patient(), RIGHT)


WRONG_SHOULD_STOP = [
    (patient(stop=lambda waited, patience: waited > patience), "too (long|late)"),
    (patient(stop=lambda waited, patience: waited + 1 >= patience), "too (soon|early)"),
    (against_the_one_before, "(one|epoch) before|previous"),
    (patient(previous=True), "(one|epoch) before|previous"),
    (against_all_earlier, "all earlier|every earlier"),
    (against_the_lowest, "all earlier|every earlier"),
    (patient(better=lambda loss, best, d: loss < best), "leaves.*min_delta|without `min_delta`|ignores"),
    (patient(better=lambda loss, best, d: loss < best + d), "sign"),
    (patient(never_resets=True), "counts all"),
    (patient(better=lambda loss, best, d: loss <= best - d), "<="),
    (patient(stop=lambda waited, patience: waited < patience), "other way round|opposite|reverse"),
    (lambda losses, patience, min_delta: False, "never stops"),
    (lambda losses, patience, min_delta: True, r"\(\[3.0\], 1, 0.0\)` returned True, but False was expected"),
    (lambda losses, patience, min_delta: 1, "should return True or False; it returned 1, an object of type int"),
    (
        lambda losses, patience, min_delta: losses[-1] > losses[-2],
        "raised IndexError: list index out of range",
    ),
    (lambda losses, patience: True, r"takes 2 positional arguments but 3 were given"),
    (lambda losses, patience, min_delta: print(end=""), "returned nothing"),
]


@pytest.mark.parametrize(("wrong", "words"), WRONG_SHOULD_STOP)
def test_should_stop_is_wrong(wrong, words):
    assert says(words, sentence("early_stopping", "should_stop", wrong))


# augmentation: crop_and_flip


def augmented(images, shift, *, flip=0.5, pad="constant", reach=None, dim=-1, together=(), flat=False):
    """Crop and flip with one thing changed."""
    reach = shift if reach is None else reach
    height, width = images.shape[-2:]
    if pad == "roll":
        padded = torch.cat([images[..., -reach:, :], images, images[..., :reach, :]], dim=-2)
        padded = torch.cat([padded[..., -reach:], padded, padded[..., :reach]], dim=-1)
    else:
        padded = F.pad(images, (reach,) * 4)
    results, draws = [], None
    for image in padded:
        new = random.randint(0, 2 * reach), random.randint(0, 2 * reach), random.random() < flip
        draws = new if draws is None else tuple(draws[i] if i in together else new[i] for i in range(3))
        down, right, mirrored = draws
        down = reach if flat else down
        window = image[:, down : down + height, right : right + width]
        results.append(window.flip(dim) if mirrored else window)
    return torch.stack(results)


def in_place(images, shift):
    images.copy_(augmented(images, shift))
    return images.clone()


def seeded(images, shift):
    random.seed(0)
    return augmented(images, shift)


def shuffled(images, shift):
    return augmented(images, shift)[torch.arange(len(images)).roll(1)]


def uncropped(images, shift):
    return F.pad(images, (shift,) * 4)


@pytest.mark.parametrize("right", [augmented, lambda images, shift: augmented(images, shift).contiguous()])
def test_crop_and_flip_is_right(right):
    for _ in range(5):  # it is random: right answers stay right
        assert sentence("augmentation", "crop_and_flip", right, RIGHT)


WRONG_CROP_AND_FLIP = [
    (lambda images, shift: images, "(no image|never).*(mirror|flip)"),
    (functools.partial(augmented, flip=0.0), "(no image|never).*(mirror|flip)"),
    (functools.partial(augmented, flip=1.0), "(all|every).*(mirror|flip)"),
    (functools.partial(augmented, flip=0.1), "half"),
    (functools.partial(augmented, reach=0), "(no image|never).*shifted"),
    (functools.partial(augmented, reach=1), "-2 to 2"),
    (functools.partial(augmented, flat=True), "one direction"),
    (functools.partial(augmented, reach=4), "more than `shift`"),
    (functools.partial(augmented, pad="roll"), "the other|opposite|wrap"),
    (functools.partial(augmented, dim=-2), "upside down"),
    (functools.partial(augmented, together=(0, 1, 2)), "whole batch"),
    (functools.partial(augmented, together=(2,)), "flip (for|of|per) each|flip per"),
    (functools.partial(augmented, together=(0, 1)), "shift (for|of|per) each|shift per"),
    (seeded, "second call"),
    (in_place, "chang|modif|alter"),
    (shuffled, "places|order|position"),
    (uncropped, r"tensor of shape \(32, 1, 9, 9\), like its input; this one has \(32, 1, 13, 13\)"),
    (lambda images, shift: augmented(images, shift) / 255, "of dtype torch.uint8"),
    (lambda images, shift: 255 - augmented(images, shift), "neither|not shifted or mirrored"),
    (
        lambda images, shift: augmented(images, shift).numpy(),
        "should return a tensor; it returned an object of type ndarray",
    ),
]


@pytest.mark.parametrize(("wrong", "words"), WRONG_CROP_AND_FLIP)
def test_crop_and_flip_is_wrong(wrong, words):
    for _ in range(3):
        assert says(words, sentence("augmentation", "crop_and_flip", wrong))


def test_the_check_leaves_torchs_generator_as_it_was(as_found):
    sentence("augmentation", "crop_and_flip", written(quiz("augmentation", "crop_and_flip").solution().text), RIGHT)


# batchnorm: normalise


def normalised(x, dims=(0, 2, 3), *, correction=0, root=True, eps="inside", center=True, scale=True):
    mean = x.mean(dims, keepdim=True)
    variance = x.var(dims, keepdim=True, correction=correction)
    below = variance + (1e-5 if eps == "inside" else 0)
    below = below.sqrt() if root else below
    below = below + (1e-5 if eps == "outside" else 0)
    return (x - mean if center else x) / (below if scale else 1)


def layer(x):
    return nn.BatchNorm2d(x.shape[1])(x)


def normalises_in_place(x):
    result = normalised(x)
    x -= x.mean((0, 2, 3), keepdim=True)
    return result


@pytest.mark.parametrize("right", [normalised, layer, lambda x: F.batch_norm(x, None, None, training=True)])
def test_normalise_is_right(right):
    assert sentence("batchnorm", "normalise", right, RIGHT)


WRONG_NORMALISE = [
    (functools.partial(normalised, correction=1), "n - 1"),
    (functools.partial(normalised, dims=(2, 3)), "instance norm"),
    (lambda x: F.layer_norm(x, x.shape[1:]), "layer norm"),
    (functools.partial(normalised, dims=(0,)), "(every|each) pixel"),
    (lambda x: normalised(x, dims=(0, 1, 2, 3)), "one mean and one variance for"),
    (functools.partial(normalised, root=False), "divides by the variance"),
    (functools.partial(normalised, eps=""), "(leaves out|without|omits|no) `eps`"),
    (functools.partial(normalised, eps="outside"), "`eps` to the standard deviation"),
    (functools.partial(normalised, center=False), "not subtract"),
    (functools.partial(normalised, scale=False), "not divide"),
    (lambda x: nn.BatchNorm2d(x.shape[1]).eval()(x), "evaluation mode"),
    (normalises_in_place, "chang|modif|alter"),
    (lambda x: x * 0, "returned a tensor of shape .* with wrong values"),
    (lambda x: normalised(x)[:, :1], "should return a tensor of shape"),
    (lambda x: x.mean((0, 2, 3)) - x, "raised RuntimeError: The size of tensor"),
    (lambda x: normalised(x).tolist(), "should return a tensor; it returned an object of type list"),
    (lambda x: normalised(x.double()), "of dtype torch.float32"),
]


@pytest.mark.parametrize(("wrong", "words"), WRONG_NORMALISE)
def test_normalise_is_wrong(wrong, words):
    assert says(words, sentence("batchnorm", "normalise", wrong))


# workers: best_step, torch_threads


def with_workers(rule):
    return lambda prepare, compute, workers: rule(prepare, compute, workers) if workers else prepare + compute


def test_best_step_is_right():
    assert sentence("workers", "best_step", with_workers(lambda p, c, w: np.maximum(p / w, c)), RIGHT)


WRONG_BEST_STEP = [
    (lambda p, c, w: p + c, "without workers"),
    (with_workers(lambda p, c, w: max(p, c)), "one worker"),
    (with_workers(lambda p, c, w: p / w + c), "still waits"),
    (with_workers(lambda p, c, w: min(p / w, c)), "shorter"),
    (with_workers(lambda p, c, w: max(p, c) / w), "share the computing|computing, too|computing as well"),
    (with_workers(lambda p, c, w: (p + c) / w), "everything"),
    (with_workers(lambda p, c, w: p / w), "(leaves|leaving|ignores).*computing|without the computing"),
    (lambda p, c, w: max(p / max(1, w), c), "nothing overlaps"),
    (lambda p, c, w: max(p / (w + 1), c), "divide by `workers`. .*none"),
    (with_workers(lambda p, c, w: max(p / (w + 1), c)), "divide by `workers`.$"),
    (lambda p, c, w: max(p / w, c), r"\(0.08, 0.02, 0\)` raised ZeroDivisionError: float division by zero"),
    (lambda p, c, w: 1.0, r"`<lambda>\(0.08, 0.02, 0\)` returned 1.0, but 0.1 was expected"),
    (lambda p, c, w: math.nan, "finite number"),
]


@pytest.mark.parametrize(("wrong", "words"), WRONG_BEST_STEP)
def test_best_step_is_wrong(wrong, words):
    assert says(words, sentence("workers", "best_step", wrong))


def test_torch_threads_is_right():
    assert sentence("workers", "torch_threads", lambda cores, workers: max(cores - workers, 1), RIGHT)
    assert sentence("workers", "torch_threads", written(quiz("workers", "torch_threads").solution().text), RIGHT)


WRONG_TORCH_THREADS = [
    (lambda cores, workers: cores, "every core|all (the )?cores"),
    (lambda cores, workers: cores - workers, "4 workers"),
    (lambda cores, workers: max(0, cores - workers), "none|zero|no thread"),
    (lambda cores, workers: max(1, cores - workers - 1), "training process"),
    (lambda cores, workers: workers, "as many threads"),
    (lambda cores, workers: max(1, cores // (workers or 1)), "divides"),
    (lambda cores, workers: cores // workers, "ZeroDivisionError"),
    (lambda cores, workers: 3, "returned 3"),
]


@pytest.mark.parametrize(("wrong", "words"), WRONG_TORCH_THREADS)
def test_torch_threads_is_wrong(wrong, words):
    assert says(words, sentence("workers", "torch_threads", wrong))


# caching: Cached


class Cached:
    """Right; the wrong ones below change one thing."""

    def __init__(self, dataset, augment):
        self.dataset, self.augment, self.kept = dataset, augment, {}

    def __len__(self):
        return len(self.dataset)

    def read(self, i):
        if i not in self.kept:
            self.kept[i] = self.dataset[i]
        return self.kept[i]

    def __getitem__(self, i):
        return self.augment(self.read(i))


class WithAList(torch.utils.data.Dataset):
    """Right, too."""

    def __init__(self, dataset, augment):
        self.dataset, self.augment = dataset, augment
        self.kept = [None] * len(dataset)

    def __len__(self):
        return len(self.kept)

    def __getitem__(self, i):
        if self.kept[i] is None:
            self.kept[i] = self.dataset[i]
        return self.augment(self.kept[i])


class Frozen(Cached):
    def read(self, i):
        if i not in self.kept:
            self.kept[i] = self.augment(self.dataset[i])
        return self.kept[i]

    def __getitem__(self, i):
        return self.read(i)


class Twice(Frozen):
    def __getitem__(self, i):
        return self.augment(self.read(i))


class Accumulates(Cached):
    def __getitem__(self, i):
        self.kept[i] = self.augment(self.read(i))
        return self.kept[i]


class KeepsNothing(Cached):
    def read(self, i):
        return self.dataset[i]


class NeverAugments(Cached):
    def __getitem__(self, i):
        return self.read(i)


class OneForAll(Cached):
    def read(self, i):
        if not self.kept:
            self.kept[0] = self.dataset[i]
        return self.kept[0]


class ReadsAtOnce(Cached):
    def __init__(self, dataset, augment):
        super().__init__(dataset, augment)
        self.kept = {i: dataset[i] for i in range(len(dataset))}


class Shared(Cached):
    store: dict = {}  # noqa: RUF012

    def __init__(self, dataset, augment):
        super().__init__(dataset, augment)
        self.kept = self.store


class KeepsTheLast(Cached):
    def read(self, i):
        self.kept = {i: self.kept[i]} if i in self.kept else {i: self.dataset[i]}
        return self.kept[i]


class NoLength:
    def __init__(self, dataset, augment):
        self.whole = Cached(dataset, augment)

    def __getitem__(self, i):
        return self.whole[i]


class LengthOfTheStore(Cached):
    def __len__(self):
        return len(self.kept)


class NoAccess:
    def __init__(self, dataset, augment):
        self.dataset = dataset


class NothingBack(Cached):
    def __getitem__(self, i):
        self.augment(self.read(i))


class MissesTheStore(Cached):
    def read(self, i):
        return self.kept[i]


@pytest.mark.parametrize("right", [Cached, WithAList])
def test_cached_is_right(right):
    assert sentence("caching", "cached", right, RIGHT)


WRONG_CACHED = [
    (Frozen, "the augmentation is frozen"),
    (Twice, "variants were made from variants"),
    (Accumulates, "variants were made from variants"),
    (KeepsNothing, "nothing was cached"),
    (KeepsTheLast, "6 reads of the source for 3 different images"),
    (NeverAugments, "`augment` was never called"),
    (OneForAll, r"Asked for images \[0, 1, 2, 1, 0, 2, 2\], it returned images \[0, 0, 0, 0, 0, 0, 0\]"),
    (ReadsAtOnce, "before any was asked for"),
    (Shared, "A second `Cached` found the first one's images"),
    (NoLength, "add `__len__`"),
    (LengthOfTheStore, "returned 3, but the dataset has 5"),
    (NoAccess, "needs a method `__getitem__"),
    (NothingBack, r"`cached\[0\]` returned nothing"),
    (MissesTheStore, r"`cached\[0\]` raised KeyError: 0"),
    (lambda dataset: dataset, r"`Cached\(dataset, augment\)` raised TypeError"),
    (lambda dataset, augment: [augment(image) for image in dataset], "before any was asked for"),
    (lambda dataset, augment: lambda i: augment(dataset[i]), "needs a method `__getitem__"),
    (Cached(range(3), copy.copy), "the name of your function or class, without brackets"),
]


@pytest.mark.parametrize(("wrong", "words"), WRONG_CACHED)
def test_cached_is_wrong(wrong, words):
    for _ in range(2):  # a store that outlives the check does not change the feedback
        assert says(words, sentence("caching", "cached", wrong))


# all_together: speedup


def test_speedup_is_right():
    assert sentence("all_together", "speedup", lambda waiting, times: times / (1 + waiting * (times - 1)), RIGHT)


WRONG_SPEEDUP = [
    (lambda w, k: w + (1 - w) / k, "The speed-up is its inverse"),
    (lambda w, k: k, "the computing alone gains"),
    (lambda w, k: 1 / (w / k + 1 - w), "This shortens the waiting: the switch"),
    (lambda w, k: w / k + 1 - w, "shortens the waiting, and it is the new time"),
    (lambda w, k: w + (1 - w) * k, "averages the speeds"),
    (lambda w, k: (1 - w) * k, "leaves out the waiting. Add up"),
    (lambda w, k: k / (1 - w), "still there and takes just as long"),
    (lambda w, k: 1 / (w + (1 - w) * k), "multiplies the computing time"),
    (lambda w, k: 1 / (1 - w), "removes the waiting"),
    (lambda w, k: 1 / w, r"`<lambda>\(0.5, 2\)` returned 2.0, but 1.33333"),
    (lambda w, k: "fast", "without quotation marks"),
]


@pytest.mark.parametrize(("wrong", "words"), WRONG_SPEEDUP)
def test_speedup_is_wrong(wrong, words):
    assert says(words, sentence("all_together", "speedup", wrong))


# three_teams: hits


def hits(logits, labels, k):
    return (
        sum(int(label) in row.argsort(descending=True)[:k].tolist() for row, label in zip(logits, labels, strict=True))
        / 40
    )


def test_hits_are_right():
    assert sentence("three_teams", "hits", hits, RIGHT)


WRONG_HITS = [
    (lambda logits, labels, k: hits(logits, labels, 1), "the first guess only"),
    (lambda logits, labels, k: 40 * hits(logits, labels, k), "This counts the hits"),
    (lambda logits, labels, k: hits(logits, labels, k) / k, "the precision of the list"),
    (lambda logits, labels, k: hits(-logits, labels, k), "smallest logits"),
    (
        lambda logits, labels, k: (logits.argsort(1, descending=True)[:, k - 1] == labels).float().mean(),
        "in place `k` only",
    ),
    (lambda logits, labels, k: 2.0, r"returned 2.0, but 0\."),
    (lambda logits, labels, k: labels, "One number is expected"),
]


@pytest.mark.parametrize(("wrong", "words"), WRONG_HITS)
def test_hits_are_wrong(wrong, words):
    assert says(words, sentence("three_teams", "hits", wrong))


# Every mistake has feedback of its own

WRONG_CODE = {
    ("precision", "bytes_of"): WRONG_BYTES_OF,
    ("early_stopping", "should_stop"): WRONG_SHOULD_STOP,
    ("augmentation", "crop_and_flip"): WRONG_CROP_AND_FLIP,
    ("batchnorm", "normalise"): WRONG_NORMALISE,
    ("workers", "best_step"): WRONG_BEST_STEP,
    ("workers", "torch_threads"): WRONG_TORCH_THREADS,
    ("caching", "cached"): WRONG_CACHED,
    ("all_together", "speedup"): WRONG_SPEEDUP,
    ("three_teams", "hits"): WRONG_HITS,
}
GENERAL = (  # feedback that comes from no lesson: it knows nothing of the mistake
    r"by a factor of|not above zero|quotation marks|number is expected|an object of type|"
    r"` (returned|raised) |should return a tensor of"
)


@pytest.mark.parametrize(("lesson", "name"), ALL)
def test_different_mistakes_get_different_feedback(lesson, name):
    """Answers that share their key words share their feedback, and no others do."""
    wrong = [(answer, words) for *where, answer, words in WRONG_NUMBERS_AND_CHOICES if where == [lesson, name]]
    wrong += WRONG_CODE.get((lesson, name), [])
    found = [(words, sentence(lesson, name, answer)) for answer, words in wrong]
    own = {(words, text) for words, text in found if not re.search(GENERAL, text)}
    assert len(own) >= 3
    assert len({words for words, _ in own}) == len({text for _, text in own}) == len(own)
