"""Seed 0: an adversarial attack on diffusion latents whose learnable timestep weights go to one timestep."""
