"""Benchmark tasks: each reads its data, lets a model run on what it may see, and scores what comes back."""
