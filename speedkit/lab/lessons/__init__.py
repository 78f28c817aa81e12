"""What single lessons measure and draw: one module a technique, with the same name."""
