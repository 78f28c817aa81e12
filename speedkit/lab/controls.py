"""The widgets of a panel: one for each field of a recipe."""

import ipywidgets as widgets

from speedkit.recipe import SWITCHES, TITLES
from speedkit.support.messages import _
from speedkit.support.strict import choices

PATIENCE = (1, 2, 3, 5, 10)
MOST_WORKERS = 64  # that a recipe may have


def control_for(name, recipe, cores):
    """A widget for one field of a recipe: a list if it has few values, a text if it has many."""
    field = type(recipe).model_fields[name]
    suggested = {
        "early_stopping": [0, *PATIENCE],
        "workers": sorted(count for count in {0, 1, 2, 4, cores, 2 * cores} if count <= MOST_WORKERS),
        "data": ["fashion-mnist", "jpeg", "sqlite"],
    }
    options = suggested.get(name) or choices(field)
    title = _(TITLES.get(name, name.replace("_", " ").capitalize()))
    layout, style = {"width": "auto"}, {"description_width": "initial"}
    common = {"description": title, "layout": layout, "style": style, "tooltip": _(field.description)}
    if options:
        control = widgets.Dropdown(options=[(value_label(name, option), option) for option in options], **common)
    else:
        # Sent when the field loses focus: a click on Run could overtake letters that are sent one by one.
        control = widgets.Text(continuous_update=False, **common)
    control.field = name
    set_control(control, getattr(recipe, name))
    return control


def set_control(control, value):
    """Sets a control to ``value``; a value that is not in its list is added to it."""
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
    """The value of a field as a control shows it."""
    if name == "early_stopping":
        return _("patience {epochs}", epochs=value) if value else _("off")
    if value is None:
        return _("all") if name in ("subset", "cache_images") else _("none")
    if isinstance(value, bool):
        return _("on") if value else _("off")
    return _(str(value)) if name in SWITCHES else str(value)
