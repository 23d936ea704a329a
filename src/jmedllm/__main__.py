"""`python -m jmedllm` is the command line."""

from jmedllm.cli import main

if __name__ == "__main__":
    main()
