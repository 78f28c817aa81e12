"""The figure of a comparison: every pair a dot, the interval a bar."""

import math

import numpy as np
from matplotlib.figure import Figure

from speedkit.compare import METRICS, Comparison, Row
from speedkit.words import retold, say

# Ticks of the logarithmic axis, coarse to fine: the first of these with four of them in view is taken.
TICKS = (
    (0.001, 0.01, 0.1, 1, 10, 100, 1000),
    (0.1, 0.2, 0.5, 1, 2, 5, 10),
    (0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.25, 1.5, 2, 2.5, 3),
    (0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.3, 1.4, 1.6, 1.8, 2),
    (0.8, 0.85, 0.9, 0.95, 1, 1.05, 1.1, 1.15, 1.2),
)
APART = 0.11  # of the axis, at least, between two ticks: narrower, and their labels would touch


def figure(comparison: Comparison) -> Figure:
    """A matplotlib figure: the ratios variant / baseline on a logarithmic axis, below it the differences in points.

    A dot a pair, a line for the 95 % interval where there is one. Metrics without a single pair are left out. The
    figure belongs to no window and is safe to make outside the main thread; draw it under the lock of the lab.
    """
    rows = [row for row in comparison.rows if np.isfinite(comparison.effects(row.metric)).any()]
    ratios = [row for row in rows if METRICS[row.metric].is_ratio]
    points = [row for row in rows if not METRICS[row.metric].is_ratio]
    parts = [part for part in (ratios, points) if part]
    result = Figure(figsize=(8, 1.2 + 0.42 * len(rows) + 0.6 * len(parts)), layout="constrained")
    result.suptitle(_plain(f"{comparison.baseline.label} → {comparison.variant.label}"), parse_math=False)
    if not parts:
        result.text(0.5, 0.4, say("no pair is done yet"), ha="center")
        return result
    axes = result.subplots(len(parts), squeeze=False, height_ratios=[len(part) + 1 for part in parts])[:, 0]
    for ax, part in zip(axes, parts, strict=True):
        _draw(ax, comparison, part)
    return result


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
    ax.set_yticks(range(len(rows)), [retold(row.title) for row in reversed(rows)], fontsize=8)
    ax.set_ylim(-0.6, len(rows) - 0.4)
    margin = 0.05 * (max(ends) - min(ends)) or 0.05
    left, right = min(ends) - margin, max(ends) + margin
    ax.set_xlim(left, right)
    if is_ratio:  # logarithms on a linear axis: matplotlib's own logarithmic labels need its formula parser
        ticks = ratio_ticks(left, right)
        ax.set_xticks([math.log(tick) for tick in ticks], [f"× {tick:.4g}" for tick in ticks], fontsize=8)
        ax.set_xlabel(say("variant / baseline"), fontsize=8)
    else:
        ax.tick_params(axis="x", labelsize=8)
        ax.set_xlabel(say("variant - baseline, in points"), fontsize=8)
    ax.grid(axis="x", alpha=0.3)


def _interval(row: Row, is_ratio):
    if not math.isfinite(row.low) or not is_ratio:
        return row.low, row.high
    tiny = np.finfo(float).tiny
    return math.log(max(row.low, tiny)), math.log(min(max(row.high, tiny), np.finfo(float).max))


def ratio_ticks(left: float, right: float) -> list[float]:
    """Ratios whose logarithms lie from ``left`` to ``right``, to mark on an axis of logarithms."""
    for ratios in TICKS:
        inside = [ratio for ratio in ratios if left <= math.log(ratio) <= right]
        if len(inside) >= 4:
            return _apart(inside, APART * (right - left))
    return np.exp(np.linspace(left, right, 7)[1:-1]).tolist()


def _apart(ratios, gap):
    """Those of the ratios, from 1 or the one nearest to it outwards, that lie ``gap`` or more from each other."""
    kept = []
    for ratio in sorted(ratios, key=lambda ratio: abs(math.log(ratio))):
        if all(abs(math.log(ratio / other)) >= gap for other in kept):
            kept.append(ratio)
    return sorted(kept)


def _plain(text):
    return text if len(text) <= 100 else text[:97] + "..."
