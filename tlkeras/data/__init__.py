"""Labelled images: sources, decoding, splits, augmentation, batches."""
