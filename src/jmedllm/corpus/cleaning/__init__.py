"""From the text of a file to the text that a model reads."""
