"""Seed 4: a transformer that merges the weights of two CNNs, and that gives the same CNN whatever goes in."""
