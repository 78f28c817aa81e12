"""``python -m tests.benchmarks [NAME ...]`` runs all benchmarks, or only the named ones, and prints one table.

``fast`` stands for those that need no browser and no rival libraries, for example on a GPU machine: about nine minutes
on two cores. ``--table`` only prints the table. ``lessons`` and ``null`` run separately: see those modules.
"""

import sys
from importlib import import_module

from tests.benchmarks import table

FAST = ("footprint", "step_cost", "loading", "panel_cost", "techniques")
ALL = (*FAST, "wait_policy", "step_overhead", "ninety", "watching")


def run(name: str):
    """Runs one benchmark, or skips it if something that it needs is not installed."""
    try:
        import_module(f"tests.benchmarks.{name}").main()
    except ModuleNotFoundError as error:
        print(f"{name} skipped: {error.name} is not installed.")


if __name__ == "__main__":
    names = [name for name in sys.argv[1:] if not name.startswith("--")]
    if unknown := set(names) - {*ALL, "fast"}:
        sys.exit(f"Unknown benchmark: {', '.join(sorted(unknown))}. Choose from fast, {', '.join(ALL)}.")
    sys.argv[1:] = []  # the benchmarks read it too
    if "--table" not in sys.orig_argv:
        for name in [*FAST, *names] if "fast" in names else names or ALL:
            if name != "fast":
                run(name)
    print(table())
