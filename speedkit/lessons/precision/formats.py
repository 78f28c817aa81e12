"""Number formats: their bits, their range and their rounding."""

import math
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure

from speedkit.lab.picture import Picture, drawn
from speedkit.support.table import Table
from speedkit.techniques.precision import AUTOCAST

COLOURS = {"fp32": "#555555", "tf32": "#0072B2", "bf16": "#009E73", "fp16": "#D55E00"}


class Format(NamedTuple):
    """A binary floating-point format: a sign, ``exponent`` bits and ``fraction`` bits, laid out as in IEEE 754."""

    exponent: int
    fraction: int

    @property
    def bits(self) -> int:
        return 1 + self.exponent + self.fraction

    @property
    def largest(self) -> float:
        return (2 - 2.0**-self.fraction) * 2.0 ** (2 ** (self.exponent - 1) - 1)

    @property
    def smallest_normal(self) -> float:
        return 2.0 ** (2 - 2 ** (self.exponent - 1))

    @property
    def smallest(self) -> float:
        """The smallest number above zero, which is subnormal. Half of it or less rounds to zero."""
        return self.smallest_normal * 2.0**-self.fraction

    def spacing(self, value: float) -> float:
        """The gap above the largest number of the format that is not greater than ``value`` > 0."""
        return 2.0 ** (math.floor(math.log2(max(value, self.smallest_normal))) - self.fraction)


FORMATS = {"fp32": Format(8, 23), "tf32": Format(8, 10), "bf16": Format(8, 7), "fp16": Format(5, 10)}


def rounded(value: float, name: str) -> float:
    """``value`` rounded to a format of :data:`FORMATS`."""
    if name == "tf32":  # torch has no tf32 type: round away the last 13 bits of fp32, ties to even
        whole = torch.tensor(value, dtype=torch.float32).view(torch.int32).item()
        whole = (whole + 0xFFF + (whole >> 13 & 1)) & ~0x1FFF
        return torch.tensor(whole, dtype=torch.int32).view(torch.float32).item()
    return torch.tensor(value, dtype=AUTOCAST.get(name, torch.float32)).item()


def bits(value: float, name: str) -> tuple[str, str, str]:
    """(sign, exponent, fraction) of ``value`` in a format, as zeros and ones."""
    number, of = rounded(value, name), FORMATS[name]
    if name == "fp16":
        whole, width = torch.tensor(number, dtype=torch.float16).view(torch.int16).item() & 0xFFFF, 16
    else:  # tf32 and bf16 are fp32 with the end cut off
        whole, width = torch.tensor(number, dtype=torch.float32).view(torch.int32).item() & 0xFFFFFFFF, 32
    text = f"{whole:0{width}b}"
    return text[0], text[1 : 1 + of.exponent], text[1 + of.exponent : of.bits]


def formats(value: float) -> Table:
    """One number in the four formats: its bits, the value stored and its relative error."""
    rows = []
    for name, of in FORMATS.items():
        stored = rounded(value, name)
        error = f"{abs(stored - value) / abs(value):.1e}" if value and math.isfinite(stored) else "n/a"
        known = [f"{of.largest:.3g}", f"{of.spacing(1.0):.1e}"]
        rows.append([name, str(of.bits), *bits(value, name), f"{stored:.9g}", error, *known])
    heading = ["format", "bits", "sign", "exponent", "fraction", "stored value", "relative error"]
    heading += ["largest", "gap above 1"]
    return Table(heading, rows)


@drawn("Range and relative gaps of fp32, tf32, bf16 and fp16.")
def number_lines() -> Picture:
    """Left: the range of each format. Right: the gap between neighbouring numbers, relative to the numbers."""
    figure = Figure(figsize=(9.5, 3.1), layout="constrained")
    reach, gap = figure.subplots(1, 2)
    for height, (name, of) in enumerate(reversed(FORMATS.items())):
        low, normal, high = (math.log10(value) for value in (of.smallest, of.smallest_normal, of.largest))
        reach.barh(height, high - normal, left=normal, height=0.5, color=COLOURS[name])
        reach.barh(height, normal - low, left=low, height=0.5, color=COLOURS[name], alpha=0.4)
        powers = np.arange(math.log2(of.smallest), math.log2(of.largest))  # of two, where the relative gap is largest
        relative = [math.log10(of.spacing(2.0**power) / 2.0**power) for power in powers]
        look = {"linewidth": 3 if name == "tf32" else 2}
        if name == "fp16":  # drawn dashed on top of tf32, whose line is the same
            look |= {"dashes": (2, 1.5), "zorder": 3}
        gap.plot(powers * math.log10(2), relative, color=COLOURS[name], label=name, **look)
    reach.set_yticks(range(4), list(reversed(FORMATS)))
    reach.set_title("range (pale: fewer digits)", fontsize=9)
    gap.set_title("gap to the next number, relative to the number", fontsize=9)
    gap.set_ylim(-8, 0.3)
    gap.set_yticks(range(-8, 1, 2), [f"1e{power}" for power in range(-8, 1, 2)], fontsize=8)
    gap.legend(fontsize=8, loc="upper right", ncols=2)
    for axes in (reach, gap):
        axes.set_xticks(range(-40, 41, 20), [f"1e{power}" for power in range(-40, 41, 20)], fontsize=8)
        axes.set_xlim(-48, 42)
        axes.set_xlabel("size of the number", fontsize=8)
        axes.grid(alpha=0.3)
    return figure
