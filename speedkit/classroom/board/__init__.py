"""The class board: the results of a whole room on one chart."""
