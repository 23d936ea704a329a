"""Other formats written as plain model directories."""
