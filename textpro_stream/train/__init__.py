"""Training of the small parts that ship: one file an objective, one loop for all of them."""
