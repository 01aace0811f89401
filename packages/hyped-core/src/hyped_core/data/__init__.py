"""Datasets: their manifests, fetching and verifying their files, adding one to the pipeline."""
