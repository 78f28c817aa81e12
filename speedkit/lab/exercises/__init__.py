"""The exercises, one module a lesson; see ``speedkit.lab.exercise``."""
