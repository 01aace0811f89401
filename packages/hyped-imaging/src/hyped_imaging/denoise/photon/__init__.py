"""Zero-shot denoising by collaborative filtering with the noise physics of the camera."""
