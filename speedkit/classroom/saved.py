"""Comparisons that outlive their lesson: the latest of each technique, for the summary in the last one.

    result = sk.save_result(sk.compare(recipe, recipe.but(cache="ram"), claims=sk.CLAIMS["cache"]))

They are saved as JSON next to the predictions, in the learner's folder: ``runs`` next to the notebook, or the one that
``SPEEDKIT_RUNS`` names.
"""

import os
from pathlib import Path
from typing import NamedTuple

import speedkit.lab.display  # noqa: F401 (so that a loaded comparison is shown whole)
from speedkit.comparison.result import Comparison
from speedkit.recipe import SWITCHES
from speedkit.support import settings
from speedkit.support.messages import Message, _


class SavedComparisons(NamedTuple):
    """What :func:`saved_comparisons` found: the comparisons by technique, and one sentence per unreadable file."""

    comparisons: dict[str, Comparison]
    notes: list[str]


def path(technique: str) -> Path:
    """The file of a technique, by the name of its switch."""
    return settings.learner_folder() / "comparisons" / f"{technique}.json"


def save_result(comparison: Comparison) -> Comparison:
    """Saves a comparison for the last lesson and the class board, and returns it: ``sk.save_result(result)``.

    It is saved under the technique of its first claim, in place of an earlier one. A comparison without a verdict (cut
    by SPEEDKIT_SMOKE, or with too few pairs) is not saved. If the folder cannot be written, a note of the comparison
    says so.

    Args:
        comparison: from :func:`speedkit.compare`, with ``claims``.

    Returns:
        The same comparison; as a cell's last line it shows itself whole.

    Raises:
        ValueError: it has no claim, so its technique is not known.
    """
    if not comparison.claims:
        raise ValueError(
            "A comparison is saved under the technique of its first claim, and this one has none: give compare(...) "
            "its claims, such as claims=sk.CLAIMS['cache']."
        )
    if not comparison.too_few:
        try:
            comparison.save(path(comparison.claims[0].technique))
        except OSError as error:
            comparison.note(Message("This comparison could not be saved for the last lesson: {error}", error=error))
    return comparison


def saved_comparisons() -> SavedComparisons:
    """The comparisons that :func:`save_result` saved.

    Returns:
        ``comparisons``, a dict technique -> :class:`Comparison`, and ``notes``, one sentence per unreadable file.
    """
    found, notes = {}, []
    for technique in SWITCHES:
        if not os.path.lexists(path(technique)):
            continue
        try:
            found[technique] = Comparison.load(path(technique))
        except (ValueError, OSError) as error:
            notes.append(_("{technique}: the saved result cannot be read. {error}", technique=technique, error=error))
    return SavedComparisons(found, notes)
