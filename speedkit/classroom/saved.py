"""Comparisons that outlive their lesson: the newest of each technique, for the table in the last one.

    result = sk.save_result(compare(recipe, recipe.but(cache="ram"), claims=CLAIMS["cache"]))

They lie as JSON beside the predictions, in the learner's folder: ``SPEEDKIT_RUNS`` moves them.
"""

import os
from pathlib import Path
from typing import NamedTuple

from speedkit.comparison.result import Comparison
from speedkit.recipe import SWITCHES
from speedkit.support import settings
from speedkit.support.messages import Message, _


class SavedComparisons(NamedTuple):
    """The comparisons that could be read, by technique, and a sentence for each file that could not."""

    comparisons: dict[str, Comparison]
    notes: list[str]


def path(technique: str) -> Path:
    """The file of a technique, by the name of its switch."""
    return settings.learner_folder() / "comparisons" / f"{technique}.json"


def save_result(comparison: Comparison) -> Comparison:
    """Stores a comparison under the technique of its first claim, in place of an earlier one, and gives it back.

    One that carries no verdict (cut by SPEEDKIT_SMOKE, too few pairs) is not stored. Where the folder cannot be
    written, the comparison's notes say so.

    Raises:
        ValueError: it has no claim, so that nothing says which technique it is about.
    """
    if not comparison.claims:
        raise ValueError("A comparison is kept under the technique of its first claim: give compare(..., claims=...).")
    if not comparison.too_few:
        try:
            comparison.save(path(comparison.claims[0].technique))
        except OSError as error:
            comparison.notes.append(
                Message("This comparison could not be kept for the last lesson: {error}", error=error)
            )
    return comparison


def saved_comparisons() -> SavedComparisons:
    """What :func:`keep` stored, by technique."""
    found, notes = {}, []
    for technique in SWITCHES:
        if not os.path.lexists(path(technique)):
            continue
        try:
            found[technique] = Comparison.load(path(technique))
        except (ValueError, OSError) as error:
            notes.append(
                _("{technique}: what its lesson kept cannot be read. {error}", technique=technique, error=error)
            )
    return SavedComparisons(found, notes)
