"""How widgets and comparisons show themselves in a notebook."""

from importlib.resources import files

import ipywidgets as widgets
from IPython import get_ipython
from IPython.display import display
from markupsafe import Markup

from speedkit.comparison.result import Comparison
from speedkit.support.messages import _

STYLE = files("speedkit.lab").joinpath("style.css").read_text(encoding="utf-8")


def style_sheet() -> widgets.HTML:
    """An invisible widget that puts the style sheet on the page."""
    return widgets.HTML(Markup(f"<style>\n{STYLE}</style>"), layout={"display": "none"})


def html_for_each(html: str, texts) -> Markup:
    """``html`` once for each text, which is escaped and takes the place of its {}."""
    return Markup("").join(Markup(html).format(text) for text in texts)


def show_widget(box: widgets.Widget, words: str):
    """Displays a widget, ``words`` where there are no widgets, and how to use it in a notebook that is opened again.

    There, front ends show only that the widget is gone. Below one that is alive, the style sheet hides the sentence.

    Returns a function that puts an ordinary output, a dict of MIME types, in the widget's place.
    """
    view = {"version_major": 2, "version_minor": 0, "model_id": box.model_id}  # as ipywidgets 7 and 8 write it
    shown = {"application/vnd.jupyter.widget-view+json": view, "text/plain": words}
    sentence = {"text/plain": _("In a notebook that was opened again, run this cell first.")}
    handles = [display(output, raw=True, display_id=True) for output in (shown, sentence)]

    def replace(bundle):
        for handle, output in zip(handles, (bundle, {"text/plain": ""}), strict=True):
            if handle is not None:  # outside a notebook there is none
                handle.update(output, raw=True)

    return replace


def show_whole(comparison: Comparison):
    """Shows a comparison as a cell's last line does: table and judged claims, then the figure of its pairs."""
    display({"text/html": comparison._repr_html_(), "text/plain": repr(comparison)}, raw=True)
    try:
        from speedkit.lab.comparison_figure import figure  # here, because matplotlib is slow to load

        display(figure(comparison))
    except Exception as error:  # the table is shown, and an error must not hide what follows it
        why = f"{type(error).__name__}: {error}"
        display({"text/plain": _("The figure of the pairs could not be drawn ({why}).", why=why)}, raw=True)


def register(shell=None):
    """Makes a notebook show every comparison whole; a comparison itself knows nothing of notebooks."""
    shell = shell or get_ipython()
    if shell is not None:
        shell.display_formatter.ipython_display_formatter.for_type(Comparison, show_whole)


register()
