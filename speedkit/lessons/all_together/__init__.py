"""The last lesson: all six techniques together."""
