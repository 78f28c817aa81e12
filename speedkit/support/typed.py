"""Values of a model's fields, as a person types them in a terminal or in the panel."""

from types import NoneType
from typing import Annotated, get_args

from pydantic import TypeAdapter, ValidationError

from speedkit.support.strict import Strict, sentence


def parse(model: type[Strict], name: str, text: str):
    """The value that ``text`` means for a field: "2" is 2, "on" is True, "none" is None if that is allowed.

    Raises:
        ValueError: the text does not fit the field.
    """
    field = model.model_fields[name]
    if NoneType in get_args(field.annotation) and text.lower() in ("none", "off", "all", ""):
        return None
    try:
        return TypeAdapter(Annotated[field.annotation, field]).validate_python(text)
    except ValidationError as error:
        raise ValueError(sentence(error, model, name)) from None
