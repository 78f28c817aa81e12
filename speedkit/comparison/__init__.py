"""Two recipes compared on this machine: paired runs, intervals, verdicts and claims."""
