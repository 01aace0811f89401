"""Readers of count matrices: wf-single-cell folders, 10x MEX and h5, h5ad; each gives a `CountMatrix`."""
