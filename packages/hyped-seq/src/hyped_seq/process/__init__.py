"""A hashed experiment from end to end: pools and hashtags to one annotated h5ad and a one-page summary."""
