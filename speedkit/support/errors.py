"""The errors that training and comparing raise, in addition to Python's own, and what to do after one."""

import gc
import traceback
from contextlib import contextmanager

import torch


class CannotRun(ValueError):
    """This machine cannot do what the recipe asks; the message says why and what to do instead."""


class DataError(ValueError):
    """Images are missing or damaged; the message names the file and says how to get it back.

    Of a worker's error, torch hands on only the text of its traceback: the sentence is found in there.
    """

    def __init__(self, sentence: str):
        from speedkit.support.from_worker import found  # here, because most trainings raise none

        super().__init__(found(sentence))

    def __str__(self):
        from speedkit.support.from_worker import told

        return told(*self.args)


class NotFinite(ArithmeticError):
    """The loss became nan or infinite."""


@contextmanager
def releasing():
    """Frees what a failed training holds, and adds advice to its error where the cause is known.

    A notebook keeps the last traceback, and its frames would keep the network and the activations in memory: the next
    run, or on a shared GPU a neighbour's, would fail, too.
    """
    try:
        yield
    except Exception as error:
        from speedkit.support.explain import advice  # here, because most trainings need none

        if (words := advice(error)) and not isinstance(error, ValueError):
            error.add_note(words)
        release(error)
        if type(error) in (CannotRun, DataError):  # a sentence, to which the way that it came adds nothing
            raise type(error)(*error.args) from None
        raise


def release(error: BaseException | None):
    """Empties the frames of an error's traceback, and gives a GPU's unused memory back."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
