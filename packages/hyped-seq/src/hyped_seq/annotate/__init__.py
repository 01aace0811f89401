"""From counts and calls to annotated cells: quality, normalisation, embedding, phases, contrasts."""
