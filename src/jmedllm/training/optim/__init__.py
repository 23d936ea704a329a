"""Optimizers: AdamW in its variants, and where its state is kept."""
