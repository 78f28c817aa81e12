"""speedkit: see, on your own machine, what makes deep-learning training fast."""
