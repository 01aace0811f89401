"""Hashtag counts per cell: from count tables, or from the reads of the hashing library."""
