"""Pure functions on arrays and tables; each docstring has formula, source and a do-nothing's score."""
