"""What commands that do all steps share: the journal that lets them go on, and the one-page summary's shell."""
