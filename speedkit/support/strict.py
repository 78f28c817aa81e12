"""Data that is checked when it is made: pydantic models that explain a fault in one sentence."""

import difflib
import numbers
from contextlib import suppress
from typing import Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticKnownError


class Strict(BaseModel):
    """A model that allows no unknown fields and converts only other libraries' numbers. Fields can be positional.

    Raises:
        ValueError: a value is not allowed; the message is one sentence.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    def __init__(self, *values, **named):
        try:
            super().__init__(**dict(zip(type(self).model_fields, values, strict=False)), **named)
        except ValidationError as error:
            raise ValueError(sentence(error, type(self))) from None

    @field_validator("*", mode="before")
    @classmethod
    def _python_number(cls, value):
        if isinstance(value, numbers.Real) and not isinstance(value, bool):
            with suppress(OverflowError):
                return int(value) if isinstance(value, numbers.Integral) else float(value)
        if hasattr(value, "__float__") and not isinstance(value, int):  # a tensor, which pydantic would convert
            raise PydanticKnownError("float_type")
        return value

    def __str__(self):
        return repr(self)

    def but(self, **changes):
        """A copy with some fields changed; errors as for a new one."""
        return type(self)(**self.model_dump() | changes)


def sentence(error: ValidationError, model: type[BaseModel], name: str = "") -> str:
    """The first fault that pydantic found: the field (or ``name``), its value, and what is allowed."""
    from speedkit.support.messages import Message, message_of  # here, because only a fault needs them

    first = error.errors(include_url=False)[0]
    name = name or ".".join(map(str, first["loc"]))
    if (cause := first.get("ctx", {}).get("error")) is not None:  # our own sentence
        return Message("{what}: {text}", what=name, text=message_of(cause)) if name else message_of(cause)
    if first["type"] == "missing":
        return Message("{name} is missing.", name=name)
    if first["type"] == "extra_forbidden":
        fields, values = list(model.model_fields), {"model": model.__name__, "name": repr(name)[:80]}
        if near := difflib.get_close_matches(name, fields, n=1):
            return Message("{model} has no field {name}: did you mean {near}?", near=near[0], **values)
        return Message("{model} has no field {name}: its fields are {fields}.", fields=", ".join(fields), **values)
    values = {"name": name, "value": _shown(first["input"])}
    if (field := model.model_fields.get(name)) and (allowed := _allowed(field)):
        return Message("{name}={value} is not allowed: give {allowed}.", allowed=allowed, **values)
    problem = first["msg"][0].lower() + first["msg"][1:]
    return Message("{name}={value} is not allowed: {problem}.", problem=problem, **values)


def _allowed(field):
    from speedkit.support.messages import Message
    from speedkit.support.typed import may_be_none, numbers_allowed

    if few := choices(field) or field.examples:
        return " | ".join(str(choice) for choice in few if choice != "")
    allowed = numbers_allowed(field)
    return Message("{allowed}, or None", allowed=allowed) if allowed and may_be_none(field) else allowed


def _shown(value):
    try:
        shown = repr(value)
    except ValueError:  # Python does not write out whole numbers of more than 4,300 digits
        return "a number of thousands of digits"
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def choices(field: FieldInfo) -> tuple:
    """The values of a field that allows only a few; () for any other field."""
    if field.annotation is bool:
        return False, True
    return get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
