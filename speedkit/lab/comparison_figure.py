"""The figure of a comparison: a dot for each pair, a bar for the interval."""

import math

import numpy as np
from matplotlib.figure import Figure

from speedkit.comparison.metrics import METRICS
from speedkit.comparison.result import Comparison, Row
from speedkit.lab.axes import ratio_ticks
from speedkit.lab.picture import Picture, drawn
from speedkit.support.messages import _


def _words(comparison):
    return _("The effect in each pair: {change}", change=_change(comparison))


def _change(comparison):
    return " → ".join(comparison.names)


@drawn(_words)
def figure(comparison: Comparison) -> Picture:
    """The ratios variant / baseline on a logarithmic axis, and below them the differences in points.

    One dot per pair, and a bar for the 95 % interval if there is one. Claimed metrics come first. Metrics not known in
    any pair are left out, and so are counts of zero, whose ratio has no place on a logarithmic axis.
    """
    claimed = {claim.metric for claim in comparison.claims}
    rows = sorted(
        (row for row in comparison.rows if _has_place(comparison, row)), key=lambda row: row.metric not in claimed
    )
    ratios = [row for row in rows if METRICS[row.metric].is_ratio]
    points = [row for row in rows if not METRICS[row.metric].is_ratio]
    parts = [part for part in (ratios, points) if part]
    result = Figure(figsize=(8, 1.2 + 0.42 * len(rows) + 0.6 * len(parts)), layout="constrained")
    result.suptitle(_cut(_change(comparison)), parse_math=False)
    if not parts:
        result.text(0.5, 0.4, _("no pair has finished yet"), ha="center")
        return result
    axes = result.subplots(len(parts), squeeze=False, height_ratios=[len(part) + 1 for part in parts])[:, 0]
    for ax, part in zip(axes, parts, strict=True):
        _draw(ax, comparison, part)
    return result


def _has_place(comparison, row):
    is_count = METRICS[row.metric].unit == "images"
    values = comparison.values(row.metric)
    return np.isfinite(comparison.effects(row.metric)).any() and (not is_count or values.all())


def _draw(ax, comparison, rows):
    is_ratio = METRICS[rows[0].metric].is_ratio
    ends = [0.0]
    for height, row in enumerate(reversed(rows)):
        effects = comparison.effects(row.metric)
        effects = effects[np.isfinite(effects)]
        spread = np.linspace(-0.18, 0.18, len(effects)) if len(effects) > 1 else np.zeros(1)
        low, high = _interval(row, is_ratio)
        if math.isfinite(low):
            ax.plot([low, high], [height, height], color="0.6", linewidth=6, solid_capstyle="butt", alpha=0.6)
        ax.plot(effects, height + spread, "o", color="tab:blue", markersize=4)
        ends += [end for end in (*effects, low, high) if math.isfinite(end)]
    ax.axvline(0, color="0.3", linewidth=1)
    ax.set_yticks(range(len(rows)), [_(row.title) for row in reversed(rows)], fontsize=8)
    ax.set_ylim(-0.6, len(rows) - 0.4)
    margin = 0.05 * (max(ends) - min(ends)) or 0.05
    left, right = min(ends) - margin, max(ends) + margin
    ax.set_xlim(left, right)
    if is_ratio:  # logarithms on a linear axis: matplotlib's own logarithmic labels need its formula parser
        ticks = ratio_ticks(left, right)
        ax.set_xticks([math.log(tick) for tick in ticks], [f"× {tick:.4g}" for tick in ticks], fontsize=8)
        ax.set_xlabel(_("variant / baseline"), fontsize=8)
    else:
        ax.tick_params(axis="x", labelsize=8)
        ax.set_xlabel(_("variant - baseline, in points"), fontsize=8)
    ax.grid(axis="x", alpha=0.3)


def _interval(row: Row, is_ratio):
    if not math.isfinite(row.low) or not is_ratio:
        return row.low, row.high
    tiny = np.finfo(float).tiny
    return math.log(max(row.low, tiny)), math.log(min(max(row.high, tiny), np.finfo(float).max))


def _cut(text):
    return text if len(text) <= 100 else text[:97] + "..."
