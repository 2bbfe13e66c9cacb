"""Remedies for jax: one leaf file each, importing jax, flax and optax only; copy what you need."""
