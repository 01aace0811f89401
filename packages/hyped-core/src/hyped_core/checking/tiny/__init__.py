"""Small data with known truth, made in memory: what conformance checks and tests put models to work on."""
