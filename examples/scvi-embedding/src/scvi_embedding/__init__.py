"""SCVI of scvi-tools for HYPED."""
