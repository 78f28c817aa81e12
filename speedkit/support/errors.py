"""The errors that training and comparing raise, in addition to Python's own."""


class CannotRun(ValueError):
    """This machine cannot do what the recipe asks; the message says why and what to do instead."""


class DataError(ValueError):
    """Images are missing or damaged; the message names the file and says how to get it back."""


class NotFinite(ArithmeticError):
    """The loss became nan or infinite."""
