"""One training loop for both stages: full parameters on documents, adapters on examples."""
