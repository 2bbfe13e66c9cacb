"""Thin adapters to other tools; each imports its tool when it is used."""
