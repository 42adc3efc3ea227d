"""What is wrong with labelled images, and the data set without it."""
