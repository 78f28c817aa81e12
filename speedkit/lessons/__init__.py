"""The lessons: one folder per lesson, with its experiments and its exercises."""
