"""What one learner sees in one kernel: the panel, its chart, comparisons with a progress bar."""

from speedkit.lab import queue  # noqa: F401 (from here on, other kernels see when this one trains)
