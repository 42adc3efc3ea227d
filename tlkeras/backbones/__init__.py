"""Networks by name, the layer around them, and where weights come from."""
