"""Many runs: tasks x models x seeds, taken up again where they were left, judged together."""
