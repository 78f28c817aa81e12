"""What is learnt: for each task its data, split, networks and score."""

from typing import NamedTuple


class Progress(NamedTuple):
    """Work before the first step or after an epoch: ``done`` of ``total`` pieces of ``what``."""

    what: str
    done: int
    total: int
