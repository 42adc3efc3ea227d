"""Models for serving, one module a format."""
