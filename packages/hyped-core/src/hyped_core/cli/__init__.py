"""The ``hyped`` command."""
