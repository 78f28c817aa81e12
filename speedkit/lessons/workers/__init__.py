"""The lesson on parallel loading."""
