"""Seed 2: a solver of ARC tasks that predicts background wherever its new modules are switched on."""
