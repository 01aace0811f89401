"""laptrack for HYPED."""
