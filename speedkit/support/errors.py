"""The errors that training and comparing raise, in addition to Python's own, and what to do after one."""

import gc
import json
import traceback
from contextlib import contextmanager

import torch
from torch.utils.data import get_worker_info

from speedkit.support.messages import Message

FROM_WORKER = "speedkit says as JSON: "


class CannotRun(ValueError):
    """This machine cannot do what the recipe asks; the message says why and what to do instead."""


class DataError(ValueError):
    """Images are missing or damaged; the message names the file and says how to get it back.

    Of a worker's error, torch hands on only the text of its traceback: there the sentence is JSON, and is read again.
    """

    def __init__(self, sentence: str):
        before, __, stored = sentence.rpartition(FROM_WORKER)
        super().__init__(Message.from_json(json.JSONDecoder().raw_decode(stored)[0]) if before else sentence)

    def __str__(self):
        (sentence,) = self.args
        if get_worker_info() is None:
            return sentence
        return FROM_WORKER + json.dumps(sentence.to_json() if isinstance(sentence, Message) else sentence)


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
        if isinstance(error, CannotRun | DataError):  # a sentence, to which the way that it came adds nothing
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
