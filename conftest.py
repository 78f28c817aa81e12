"""What holds for every path that pytest is given, a single notebook included: short, in English, and offline."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent


def pytest_configure(config):
    # The notebooks' kernels inherit this process's environment; set it to 0 to run them at full length.
    if not os.environ.get("SPEEDKIT_SMOKE", "").strip():
        os.environ["SPEEDKIT_SMOKE"] = "1"
    # Tests read English, whatever the locale; those of other languages set them themselves.
    os.environ["SPEEDKIT_LANGUAGE"] = "en"
    # The kernels and all other processes inherit this, too: they take this copy of the package, not one that is
    # installed, and no test or lesson may reach beyond this machine.
    paths = [str(ROOT / "tests" / "offline"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
