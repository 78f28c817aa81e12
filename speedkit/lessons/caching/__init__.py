"""The lesson on caching."""
