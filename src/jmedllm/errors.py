"""The one exception a user may meet."""

import difflib
from collections.abc import Iterable


class InputError(Exception):
    """What the user gave cannot be used.

    The message is one line: what is wrong, where, and how to mend it. The command line prints it and
    exits with code 2; every other exception is a defect of ours and keeps its traceback.
    """


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Build the error for a name that is not among `known`, naming the nearest ones first."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    mend = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
    return InputError(f"unknown {kind} {name!r}: {mend}")
