"""Optimizers: variants of AdamW, in GPU or host memory."""
