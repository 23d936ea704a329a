"""Public files that jmedllm reads: a catalogue, a downloader and a check of the files on disk."""
