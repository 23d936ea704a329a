"""Entry point of `python -m jmedllm`."""

from jmedllm.cli import main

if __name__ == "__main__":
    main()
