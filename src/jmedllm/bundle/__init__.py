"""Bundles: folders that install and run on a machine without a network."""
