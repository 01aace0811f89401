"""Half the sum of single perturbations: an example of a model plugin for HYPED."""
