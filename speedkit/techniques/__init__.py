"""The six techniques, one file each. Nothing here imports anything else of speedkit."""
