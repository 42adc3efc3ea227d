"""What speaks for which strategy: evidence about a data set and a base."""
