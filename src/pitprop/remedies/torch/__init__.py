"""Remedies for PyTorch, one leaf file each."""
