"""What is learned: for each task its data, split, networks and score."""
