"""From files of many kinds to text."""
