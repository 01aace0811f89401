"""Models that are there to be beaten: they see training data only and register like any other model."""
