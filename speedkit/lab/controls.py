"""The widgets of a panel: one for each field of a recipe."""

import ipywidgets as widgets

from speedkit.recipe import SOURCES, SWITCHES, TITLES, Recipe
from speedkit.support.messages import Message, _, whole
from speedkit.support.strict import choices
from speedkit.support.typed import may_be_none, numbers_allowed, parse
from speedkit.tasks import task_of

PATIENCE = (1, 2, 3, 5, 10)
MOST_WORKERS = 64  # that a recipe may have


def control_for(name, recipe, cores):
    """A widget for one field of a recipe: a list if it has few values, a text if it has many."""
    field = type(recipe).model_fields[name]
    suggested = {
        "early_stopping": [0, *PATIENCE],
        "workers": sorted(count for count in {0, 1, 2, 4, cores, 2 * cores} if count <= MOST_WORKERS),
        "data": [source for source in SOURCES if source.islower()],  # the others name a path
        "model": task_of(recipe).networks,
    }
    options = suggested.get(name) or choices(field)
    title = title_of(name)
    layout, style = {"width": "auto"}, {"description_width": "initial"}
    tooltip = "tooltip" if "tooltip" in widgets.Text.class_traits() else "description_tooltip"  # ipywidgets 8, 7
    common = {"description": title, "layout": layout, "style": style, tooltip: _(field.description)}
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


def set_task(controls, before: Recipe, after: Recipe):
    """Fits controls to another task: its defaults where the old one's stood, its networks, and only its fields."""
    for name, control in controls.items():
        old, new = getattr(before, name), getattr(after, name)
        stands = control.value == (value_label(name, old) if isinstance(control, widgets.Text) else old or 0)
        if name == "model":
            control.options = [(network, network) for network in task_of(after).networks]
        if stands and name != "data":
            set_control(control, new)
        control.disabled = name in after.unused()


def title_of(name):
    """What a panel calls a field."""
    return _(TITLES.get(name, name.replace("_", " ").capitalize()))


def read_controls(controls, recipe) -> dict:
    """The values of controls by the names of their fields; of a panel whose other fields are those of ``recipe``.

    Raises:
        ValueError: a text is not possible; the message says what is, in the panel's words, and the control is marked.
    """
    values = {}
    for name, control in controls.items():
        if isinstance(control, widgets.Text):
            values[name] = _read_text(control)
        else:
            values[name] = control.value or None if name == "early_stopping" else control.value  # a list holds no None
    batch = values.get("batch_size", recipe.batch_size)
    if (values.get("subset") or batch) < batch:
        raise _refused(controls["subset"], least=batch)
    return values


def _read_text(control):
    control.remove_class("sk-wrong")
    text = control.value.strip()
    if text == control.nothing and may_be_none(Recipe.model_fields[control.field]):
        return None
    try:
        return parse(Recipe, control.field, text)
    except ValueError as error:
        raise _refused(control, error=error) from None


def _refused(control, least=None, error=None):
    """What a control may hold, as an error. ``least``: if it is not the field's own; ``error``: what parsing said."""
    control.add_class("sk-wrong")
    field = Recipe.model_fields[control.field]
    allowed = numbers_allowed(field, least, whole)
    if not allowed:
        return error
    values = {"title": title_of(control.field), "text": control.value.strip(), "allowed": allowed}
    if not may_be_none(field):
        return ValueError(Message("{title}: “{text}” is not possible. Enter {allowed}.", **values))
    return ValueError(
        Message(
            "{title}: “{text}” is not possible. Enter {allowed}, or “{nothing}”.", nothing=control.nothing, **values
        )
    )


def value_label(name, value):
    """The value of a field as a control shows it."""
    if name == "early_stopping":
        return _("patience {epochs}", epochs=value) if value else _("off")
    if value is None:
        return _("all") if name in ("subset", "cache_images") else _("none")
    if isinstance(value, bool):
        return _("on") if value else _("off")
    return _(str(value)) if name in SWITCHES else str(value)
