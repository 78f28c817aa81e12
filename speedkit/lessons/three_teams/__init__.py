"""The lesson on three teams: what pays for pictures, for text and for recommendations."""
