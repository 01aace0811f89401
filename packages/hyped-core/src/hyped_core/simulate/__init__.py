"""The latent biology that the simulated movies and the simulated counts share (numpy and pandas only)."""
