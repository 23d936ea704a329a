"""Serve a model to people and programs in the building. Nothing here imports PyTorch unless a model needs it."""
