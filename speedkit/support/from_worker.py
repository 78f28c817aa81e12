"""A sentence on its way from a worker process: as JSON in the text of a traceback, which is all that torch hands on."""

import json

from torch.utils.data import get_worker_info

from speedkit.support.messages import Message

MARK = "speedkit says as JSON: "


def told(sentence: str) -> str:
    """What an error says: its sentence or, in a worker, the line in which :func:`found` finds it again."""
    if get_worker_info() is None:
        return sentence
    return MARK + json.dumps(sentence.to_json() if isinstance(sentence, Message) else sentence)


def found(text: str) -> str:
    """The sentence in the text of a worker's traceback; any other text is a sentence itself."""
    before, __, stored = text.rpartition(MARK)
    return Message.from_json(json.JSONDecoder().raw_decode(stored)[0]) if before else text
