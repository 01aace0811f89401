"""Finding, loading and listing plugins: one entry-point group, one host, one registry."""
