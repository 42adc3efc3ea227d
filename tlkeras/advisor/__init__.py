"""What speaks for which way: evidence about a data set and a base."""
