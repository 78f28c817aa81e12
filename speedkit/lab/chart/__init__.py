"""The chart of a run and earlier ones: live as HTML with SVG, in words, and as a figure once the run has ended."""

from speedkit.lab.chart.content import View, text
from speedkit.lab.chart.figure import figure, png
from speedkit.lab.chart.svg import svg

__all__ = ["View", "figure", "png", "svg", "text"]
