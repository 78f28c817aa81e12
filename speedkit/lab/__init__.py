"""What one learner sees in one kernel: the panel, its chart, comparisons with a progress bar."""

from speedkit.lab import queue  # noqa: F401 (from here on, this kernel's trainings are shown to the other ones)
