"""Phases: what learns, from what is stored, on which devices."""
