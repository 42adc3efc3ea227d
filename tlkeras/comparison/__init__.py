"""Several strategies on one data set, and what tells them apart."""
