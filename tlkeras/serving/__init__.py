"""A model behind HTTP, on the machine where it stands."""
