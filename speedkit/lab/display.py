"""How the kit's widgets look, and how they show themselves in a notebook."""

from importlib.resources import files

import ipywidgets as widgets
from IPython.display import display
from markupsafe import Markup

STYLE = files("speedkit.lab").joinpath("style.css").read_text(encoding="utf-8")


def style_sheet() -> widgets.HTML:
    """An invisible widget that brings the style sheet to the page."""
    return widgets.HTML(Markup(f"<style>\n{STYLE}</style>"), layout={"display": "none"})


def html_for_each(html: str, texts) -> Markup:
    """``html`` once for each text, which is escaped and takes the place of its {}."""
    return Markup("").join(Markup(html).format(text) for text in texts)


def show_widget(box: widgets.Widget, words: str, **options):
    """Displays a widget, and ``words`` where there are no widgets: in a saved notebook, on paper.

    Gives the display's handle if ``options`` say ``display_id=True``.
    """
    mimebundle = box._repr_mimebundle_()
    bundle, metadata = mimebundle if isinstance(mimebundle, tuple) else (mimebundle, {})
    return display(bundle | {"text/plain": words}, metadata=metadata, raw=True, **options)
