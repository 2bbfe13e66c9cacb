"""Seed 3: a diffusion that draws from a set of images, and comes to ignore the set."""
