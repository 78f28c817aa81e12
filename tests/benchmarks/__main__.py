"""``python -m tests.benchmarks [NAME ...]`` runs all benchmarks, or only the named ones, and prints one table.

``fast`` stands for those that need no browser and no rival libraries, for example on a GPU machine: about nine minutes
on two cores. ``--table`` only prints the table. ``lessons`` and ``null`` run separately: see those modules. A benchmark
that fails is named at the end, and the others still run; every figure is saved as soon as it is there.
"""

import sys
from importlib import import_module

from speedkit.support.errors import release
from tests.benchmarks import table

FAST = ("footprint", "step_cost", "loading", "panel_cost", "techniques")
ALL = (*FAST, "wait_policy", "step_overhead", "ninety", "watching", "teams")


def run(name: str) -> str:
    """Runs one benchmark; returns why it failed or was skipped, else ""."""
    try:
        import_module(f"tests.benchmarks.{name}").main()
    except ModuleNotFoundError as error:
        return f"{name} skipped: {error.name} is not installed."
    except Exception as error:
        release(error)  # what it holds on the device, for the next one
        return f"{name} failed: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return ""


if __name__ == "__main__":
    names = [name for name in sys.argv[1:] if not name.startswith("--")]
    if unknown := set(names) - {*ALL, "fast"}:
        sys.exit(f"Unknown benchmark: {', '.join(sorted(unknown))}. Choose from fast, {', '.join(ALL)}.")
    sys.argv[1:] = []  # the benchmarks read it too
    problems = []
    if "--table" not in sys.orig_argv:
        for name in [*FAST, *names] if "fast" in names else names or ALL:
            if name != "fast" and (problem := run(name)):
                problems.append(problem)
                print(problem, flush=True)
    print("\n".join([table(), *problems]))
    sys.exit(any("failed" in problem for problem in problems))
