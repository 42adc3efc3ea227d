"""What a model says of images, and how good that is."""
