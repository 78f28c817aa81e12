"""The lesson on reduced precision."""
