"""Seed 1: CLIP with adapters finds defects, until a random cross-attention feedback is put in."""
