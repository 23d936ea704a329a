"""The corpus build: its steps, their order, and its reports."""
