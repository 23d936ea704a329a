"""A GGUF file in Ollama: the Modelfile, with the chat template in Go's template language."""
