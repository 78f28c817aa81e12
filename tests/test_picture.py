"""A figure as a cell's last line."""

import matplotlib
import matplotlib.style
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from speedkit.lab import chart
from speedkit.lab.picture import Picture, drawn
from speedkit.recipe import Recipe
from speedkit.run import Run


@drawn("a line that rises")
def rising():
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([1, 2])
    return figure


@drawn(lambda count: f"{count} lines")
def several(count):
    figure = Figure()
    figure.subplots().plot([[0] * count, [1] * count])
    return figure


def test_a_figure_becomes_a_png_and_a_sentence():
    picture = rising()
    assert isinstance(picture, Picture)
    assert picture._repr_png_().startswith(b"\x89PNG")
    assert int.from_bytes(picture._repr_png_()[16:20]) == 200  # pixels across, from the header
    assert repr(picture) == "a line that rises"


def test_the_sentence_can_depend_on_what_is_drawn():
    assert repr(several(3)) == "3 lines"


def test_it_is_drawn_in_the_default_style_whatever_the_learner_set():
    plain = rising()
    with matplotlib.style.context("dark_background"):
        dark = rising()
        assert matplotlib.rcParams["figure.facecolor"] == "black"  # as the learner left it
    assert to_hex(dark.figure.get_facecolor()) == "#ffffff"
    assert dark.png == plain.png


LEARNERS = {
    "seaborn": lambda: matplotlib.style.context("seaborn-v0_8-dark"),
    "TeX": lambda: matplotlib.rc_context({"text.usetex": True}),
    "large print": lambda: matplotlib.rc_context({"font.size": 30, "figure.dpi": 300, "savefig.bbox": "tight"}),
    "by hand": lambda: matplotlib.rc_context({"text.color": "w", "axes.facecolor": "k", "path.sketch": (1, 100, 2)}),
}


@pytest.mark.parametrize("style", LEARNERS)
def test_no_setting_of_a_learner_changes_a_figure_or_is_changed(style):
    run = Run(Recipe())
    plain, chart_of_run = rising().png, chart.png(run)
    with LEARNERS[style]():
        before = dict(matplotlib.rcParams)
        assert rising().png == plain
        assert chart.png(run) == chart_of_run
        assert dict(matplotlib.rcParams) == before
