"""Simulated sequencing: pools as wf-single-cell writes them, hashtags, a perturb-seq screen, the truth."""
