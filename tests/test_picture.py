"""A figure as a cell's last line."""

from matplotlib.figure import Figure

from speedkit.lab.picture import show


def test_a_figure_becomes_a_png_and_a_sentence():
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([1, 2])
    picture = show(figure, "a line that rises")
    assert picture._repr_png_().startswith(b"\x89PNG")
    assert int.from_bytes(picture._repr_png_()[16:20]) == 200  # pixels across, from the header
    assert repr(picture) == "a line that rises"
