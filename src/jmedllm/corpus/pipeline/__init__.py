"""Building a corpus: the steps, their order, and the report on them."""
