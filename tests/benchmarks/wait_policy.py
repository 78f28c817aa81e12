"""How torch's threads should wait for each other: speedkit's default or spinning, alone and with a busy program.

``python -m tests.benchmarks.wait_policy`` takes about four minutes on two cores. Run nothing else meanwhile.
"""

import os
import subprocess
import sys
from functools import partial

from tests.benchmarks import keep, paired

POLICIES = {"default": {}, "spinning": {"OMP_WAIT_POLICY": "ACTIVE"}}
PAIRS = {"alone": 7, "beside a busy program": 5}
ONE_RUN = """
import speedkit as sk
recipe = sk.Recipe(cache="device", subset=6400, epochs=1, steps=60)
sk.fit(recipe.but(steps=10))
print(sk.fit(recipe).median("step_s"))
"""


def step_seconds(policy: str) -> float:
    """The median step of a run in a process of its own: torch reads the policy when it is loaded."""
    unset = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    done = subprocess.run(
        [sys.executable, "-c", ONE_RUN], env=unset | POLICIES[policy], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def main():
    ways = {name: partial(step_seconds, name) for name in POLICIES}
    figures = {"default / spinning, alone": paired(ways, PAIRS["alone"])}
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        figures["default / spinning, beside a busy program"] = paired(ways, PAIRS["beside a busy program"])
    finally:
        busy.kill()
        busy.wait()
    print(keep("wait_policy", figures))


if __name__ == "__main__":
    main()
