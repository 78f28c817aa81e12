"""What the learner sees. Nothing below imports this."""
