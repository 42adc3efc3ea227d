"""Classifiers: how they are built, divided, saved and described."""
