"""Servers that a model may run on, as far as a proof can see into them."""
