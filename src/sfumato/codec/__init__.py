"""A picture codec on the latents of an autoencoder: entropy coding and the file format."""
