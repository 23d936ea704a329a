"""The exception for invalid input, and functions that build its messages."""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


class InputError(Exception):
    """Invalid input from the user.

    The message is one line: what is wrong, where, and the fix. The command line prints it and exits with code 2. Any
    other exception is a bug and keeps its traceback.
    """


class NoSuchPathError(InputError):
    """A file or directory that the user named does not exist.

    Attributes:
        path: the file or directory.
    """

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(message)
        self.path = path


@contextmanager
def named(name: str) -> Iterator[None]:
    """Put a place or a name in front of the message of an error."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


OPTIONAL = {
    "bitsandbytes": "bitsandbytes>=0.45",
    "gguf": "gguf>=0.19",
    "httpx2": "httpx2>=2",
    "openai": "openai>=2",
    "pillow": "pillow>=11",
    "pyarrow": "pyarrow>=17",
    "python-crfsuite": "python-crfsuite>=0.9.11",
    "starlette": "starlette>=1",
    "sudachidict_core": "sudachidict_core>=20250129",
    "sudachipy": "sudachipy>=0.6.10",
    "tensorboard": "tensorboard>=2.18",
    "torchvision": "torchvision>=0.25",
    "uvicorn": "uvicorn>=0.30",
    "vllm": "vllm>=0.11",
    "xllamacpp": "xllamacpp>=2026.10.11549",
}
"""Requirements of optional features, by package."""


def not_installed(feature: str, package: str) -> InputError:
    """Build the error for a missing optional package.

    The message names the package itself, because extras can only be installed from a checkout.
    """
    return InputError(f"{feature} needs {package}; install it with: pip install '{OPTIONAL[package]}'")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception means out of memory. On a CPU and on MPS torch raises a plain RuntimeError."""
    messages = ("out of memory", "can't allocate memory")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in messages)
    )


MOST_NAMED = 20


def invalid_rows(problems: Sequence[InputError], fix: str) -> InputError:
    """Build one error for the invalid rows of a file, at least one: it names the first rows and counts the rest."""
    if len(problems) == 1:
        return problems[0]
    more = f"\nand {len(problems) - MOST_NAMED:,} more" if len(problems) > MOST_NAMED else ""
    first = "\n".join(map(str, problems[:MOST_NAMED]))
    return InputError(f"{len(problems):,} rows are invalid; {fix}:\n{first}{more}")


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Build the error for a name that is not in `known`; the message suggests the nearest."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    first = ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED:,} more" * (len(names) > MOST_NAMED))
    fix = f"did you mean {' or '.join(near)}?" if near else f"known: {first}"
    return InputError(f"unknown {kind} {name!r}: {fix}")
