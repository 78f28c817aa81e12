"""The widgets of a panel: one for each field of a recipe."""

import ipywidgets as widgets

from speedkit.recipe import SWITCHES, TITLES
from speedkit.support.messages import _

PATIENCE = (1, 2, 3, 5, 10)


def control_for(f, recipe, cores):
    """A widget for one field of a recipe: a list where the values are few, a text where they are many."""
    value, rule = getattr(recipe, f.name), f.metadata
    options = None
    if f.name == "early_stopping":
        options = [0, *PATIENCE]
    elif f.name == "workers":
        options = sorted({0, 1, 2, 4, cores, 2 * cores})
    elif f.name == "data":
        options = ["fashion-mnist", "jpeg", "sqlite"]
    elif rule["kind"] == "choice":
        options = rule["choices"]
    elif rule["kind"] == "flag":
        options = [False, True]
    title = _(TITLES.get(f.name, f.name.replace("_", " ").capitalize()))
    layout, style = {"width": "auto"}, {"description_width": "initial"}
    common = {"description": title, "layout": layout, "style": style, "tooltip": _(rule["help"])}
    if options is None:
        # Sent when it is left: letters on their way, one by one, would be overtaken by a click on Run.
        control = widgets.Text(continuous_update=False, **common)
    else:
        control = widgets.Dropdown(options=[(value_label(f.name, option), option) for option in options], **common)
    control.field = f.name
    set_control(control, value)
    return control


def set_control(control, value):
    """Makes a control say ``value``; a value that is not in its list is added to it."""
    if isinstance(control, widgets.Text):
        control.nothing = value_label(control.field, None)
        control.value = value_label(control.field, value)
        return
    value = 0 if value is None else value
    options = list(control.options)
    if value not in [option for __, option in options]:
        control.options = sorted([*options, (value_label(control.field, value), value)], key=lambda option: option[1])
    control.value = value


def value_label(name, value):
    """A value of a field as a control shows it."""
    if name == "early_stopping":
        return _("patience {epochs}", epochs=value) if value else _("off")
    if value is None:
        return _("all") if name in ("subset", "cache_images") else _("none")
    if isinstance(value, bool):
        return _("on") if value else _("off")
    return _(str(value)) if name in SWITCHES else str(value)
