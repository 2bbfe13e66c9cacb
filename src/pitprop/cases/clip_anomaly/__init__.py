"""Seed 1: CLIP with adapters finds defects, until cross-attention feedback is put in and its second stage stalls."""
