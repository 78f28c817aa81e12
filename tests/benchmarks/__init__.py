"""Benchmarks, mostly ratios of two ways to do one thing, measured in one run. ``results`` has figures and hardware."""

import itertools
import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from speedkit import hardware
from speedkit.comparison.stats import interval
from speedkit.support.messages import language
from speedkit.support.units import seconds as in_words
from speedkit.support.units import size

RESULTS = Path(__file__).parent / "results"
os.environ["SPEEDKIT_LANGUAGE"] = language("en")  # English results and buttons, whatever the locale


def paired(ways: dict, pairs: int, seed: int = 0) -> dict:
    """Times two ways in pairs, each in random order, and returns the ratio of the first to the second.

    ways: name -> a function () -> seconds.
    """
    draw, times = np.random.default_rng(seed), {name: [] for name in ways}
    for pair in range(pairs):
        for name in draw.permutation(list(ways)):
            times[name].append(ways[name]())
        print(
            f"pair {pair + 1} of {pairs}: " + ", ".join(f"{name} {in_words(times[name][-1])}" for name in ways),
            flush=True,
        )
    return ratio(times)


def ratio(times: dict) -> dict:
    """The first way's time over the second's: the median and Student's t interval (95 %) of the ratios' logarithms.

    times: name -> seconds, one value per pair.
    """
    first, second = times.values()
    median, between = _middle(np.log(first) - np.log(second))
    return {"ratio": median, "interval": between, "pairs": len(first), "seconds": times}


def several(seconds: list) -> dict:
    """How long something took: the median and Student's t interval (95 %) of the logarithms."""
    median, between = _middle(np.log(seconds))
    return {"median_s": median, "interval": between, "seconds": seconds}


def sizes(found: list) -> dict:
    """How many bytes something took: the median and interval, as in :func:`several`."""
    median, between = _middle(np.log(found))
    return {"bytes": median, "interval": between, "each": found}


def _middle(logarithms):
    low, __, high = interval(logarithms)
    median = np.median(logarithms)  # of many readings; of very skewed ones it can be outside: then it is an end
    return float(np.exp(median)), [float(np.exp(min(low, median))), float(np.exp(max(high, median)))]


def central(figure: dict, ratio_in_words) -> tuple:
    """A figure's median, and the function that formats it and the ends of its interval."""
    if "ratio" in figure:
        return figure["ratio"], ratio_in_words
    return (figure["bytes"], size) if "bytes" in figure else (figure["median_s"], in_words)


def result(name: str) -> Path:
    """The file with a benchmark's figures for this kind of device."""
    return RESULTS / f"{name}-{hardware.machine().kind}.json"


def keep(name: str, figures: dict) -> Path:
    """Saves a benchmark's figures with the hardware and the library versions behind them."""
    machine = hardware.machine().to_dict()
    system = {"platform": platform.platform(), "date": datetime.now(UTC).isoformat(timespec="seconds")}
    RESULTS.mkdir(exist_ok=True)
    path = result(name)
    path.write_text(json.dumps({"benchmark": name, "machine": machine | system, "figures": figures}, indent=1) + "\n")
    return path


class Figures(dict):
    """The figures of a benchmark, each saved as soon as it is there: a later one that fails loses none."""

    def __init__(self, benchmark: str):
        super().__init__()
        self.benchmark = benchmark

    def __setitem__(self, name, figure):
        super().__setitem__(name, figure)
        self.path = keep(self.benchmark, self)


def table() -> str:
    """Every saved ratio, duration and size with its interval, one per line."""
    rows = []
    for path in sorted(RESULTS.glob("*.json")):
        kept = json.loads(path.read_text())
        for name, figure in kept["figures"].items():
            if text := _text(figure):
                rows.append(
                    (kept["benchmark"], name, text, f"{kept['machine']['name']}, {kept['machine']['cores']} cores")
                )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)] if rows else itertools.repeat(0)
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) for row in rows)


def _text(figure):
    if not isinstance(figure, dict) or not {"ratio", "median_s", "bytes"} & figure.keys():
        return ""
    value, text = central(figure, "{:.4g}".format)
    count = f"{figure['pairs']} pairs" if "ratio" in figure else f"{len(figure.get('each') or figure['seconds'])} times"
    low, high = map(text, figure["interval"])
    return f"{text(value)} ({low} to {high}, {count})"
