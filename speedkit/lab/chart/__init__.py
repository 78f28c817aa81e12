"""The chart of a run beside earlier ones: live as SVG text, as words, and once as a figure when the run has ended."""

from speedkit.lab.chart.content import text
from speedkit.lab.chart.figure import figure, png
from speedkit.lab.chart.svg import svg

__all__ = ["figure", "png", "svg", "text"]
