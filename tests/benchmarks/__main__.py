"""``python -m tests.benchmarks`` repeats every benchmark and prints the table; ``--table`` only prints it."""

import sys

from tests.benchmarks import panel_cost, table, wait_policy, watching

if "--table" not in sys.argv:
    panel_cost.main()
    wait_policy.main()
    watching.main()
print(table())
