"""Numbers in words: durations, bytes, shares and counts."""

import math

from speedkit.support.messages import _, grouped


def seconds(value: float | None, like: float | None = None) -> str:
    """A duration in words: "48.2 µs", "3.21 ms", "12.3 s", "2 min 5 s"; "n/a". ``like``: whose unit to use."""
    if not _known(value):
        return _("n/a")
    like = like or value
    if 0 < like < 0.9995e-3:
        return f"{value * 1e6:.3g} µs"
    if like < 0.9995:
        return f"{value * 1000:.3g} ms"
    return f"{value:.3g} s" if like < 100 else "{} min {} s".format(*divmod(round(value), 60))


def size(value: float | None, like: float | None = None) -> str:
    """Bytes in words: "41.0 MiB"; "n/a" if they are not known. ``like``: whose unit to use."""
    if not _known(value):
        return _("n/a")
    u, n = next(((u, n) for u, n in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")) if (like or value) >= u), (1, ""))
    return f"{value / u:.1f} {n}" if u > 1 else _("{n} bytes", n=f"{value:.0f}")


def percent(value: float | None) -> str:
    """A share in per cent, one decimal; "n/a" if it is not known."""
    return _("{number}%", number=f"{value:.1%}"[:-1]) if _known(value) else _("n/a")


def number(value: float | None) -> str:
    """A number with separators between its thousands; "n/a" if it is not known."""
    return grouped(f"{value:,.0f}") if _known(value) else _("n/a")


def _known(value):
    return value is not None and math.isfinite(value)
