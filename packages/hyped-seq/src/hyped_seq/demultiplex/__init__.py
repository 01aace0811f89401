"""Which hashtag a cell carries, and the condition and sorted phase that follow from the design."""
