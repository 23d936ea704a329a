"""Memory and time planning: what a recipe needs, before anything runs."""
