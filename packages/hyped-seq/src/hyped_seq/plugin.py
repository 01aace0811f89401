"""hyped-seq's contributions to the registry: records with import strings, nothing heavy."""
