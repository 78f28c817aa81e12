"""Values of a model's fields, as a person types them in a terminal or in the panel, and which are allowed."""

from types import NoneType
from typing import Annotated, get_args

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from speedkit.support.messages import Message
from speedkit.support.strict import Strict, sentence


def parse(model: type[Strict], name: str, text: str):
    """The value that ``text`` means for a field: "2" is 2, "on" is True, "none" is None if that is allowed.

    Raises:
        ValueError: the text does not fit the field.
    """
    field = model.model_fields[name]
    if may_be_none(field) and text.lower() in ("none", "off", "all", ""):
        return None
    try:
        return TypeAdapter(Annotated[field.annotation, field]).validate_python(text)
    except ValidationError as error:
        raise ValueError(sentence(error, model, name)) from None


def numbers_allowed(field: FieldInfo, least=None, write=lambda number: number) -> str:
    """The range of a field in words, each end as ``write`` gives it; "" without one. ``least``: instead of its own."""
    ends = {name: getattr(rule, name) for rule in field.metadata for name in ("ge", "le") if hasattr(rule, name)}
    if len(ends) < 2:
        return ""
    ends = {"low": write(least or ends["ge"]), "high": write(ends["le"])}
    if int in (get_args(field.annotation) or (field.annotation,)):
        return Message("a whole number from {low} to {high}", **ends)
    return Message("a number from {low} to {high}", **ends)


def may_be_none(field: FieldInfo) -> bool:
    return NoneType in get_args(field.annotation)
