"""Models of the expression task."""
