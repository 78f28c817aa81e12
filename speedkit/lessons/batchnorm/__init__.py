"""The lesson on batch normalisation."""
