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


def show_widget(box: widgets.Widget, words: str, **options):
    """Displays a widget, and ``words`` where there are no widgets: in a saved notebook, on paper.

    Returns the display's handle if ``options`` contain ``display_id=True``, else None.
    """
    mimebundle = box._repr_mimebundle_()
    bundle, metadata = mimebundle if isinstance(mimebundle, tuple) else (mimebundle, {})
    return display(bundle | {"text/plain": words}, metadata=metadata, raw=True, **options)


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
