"""GEARS: expression under unseen perturbations from gene graphs (Roohani et al. 2023), exact and without repetition."""
