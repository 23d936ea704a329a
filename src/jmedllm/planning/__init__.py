"""What a recipe needs, told before anything runs."""
