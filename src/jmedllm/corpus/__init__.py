"""From raw text files to packed blocks of token ids."""
