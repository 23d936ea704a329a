"""Entry point of `jmedllm` and `python -m jmedllm`."""

import sys

from jmedllm.signals import Terminated, handle_signals, ignore_signals, last_line, signals_first


def main() -> None:
    """Run the command line; a signal while it is imported also ends in one line."""
    handle_signals()
    try:
        with signals_first():
            from jmedllm.cli import main as run
    except Terminated as ended:
        sys.stderr.write(f"error: {last_line(ended.number)}\n")
        raise
    try:
        run()
    finally:
        ignore_signals()  # Python frees memory; a signal now would replace the exit code


if __name__ == "__main__":
    main()
