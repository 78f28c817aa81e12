"""The lessons: for each one a folder with its experiments and its exercises."""
