"""The public files the project reads: a catalogue of them, a downloader, and a check of what is on disk."""
