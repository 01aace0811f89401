"""What is on the page, one module a section: ``section(context) -> HTML``."""
