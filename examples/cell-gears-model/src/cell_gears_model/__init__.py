"""cell-gears for HYPED."""
