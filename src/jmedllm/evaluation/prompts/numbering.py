"""Find out whether a prompt numbers the choices, so that a number in the reply names one."""

import re
from collections.abc import Sequence

_LAST_CIRCLED = 20


def shows_numbers(prompt: str, choices: Sequence[str]) -> bool:
    """Return whether each of `choices` follows its number in `prompt`: "2. 大腸癌", "(2) 大腸癌", "②大腸癌"."""
    return bool(choices) and all(_numbered(prompt, index + 1, choice) for index, choice in enumerate(choices))


def _numbered(prompt: str, number: int, choice: str) -> bool:
    wide = "".join(chr(ord(digit) + ord("０") - ord("0")) for digit in str(number))
    circled = f"|{chr(ord('①') + number - 1)}" if number <= _LAST_CIRCLED else ""
    written = rf"(?<![\d.])(?:{number}|{wide})\s?[.．)）\]］】:：、,]{circled}"
    return re.search(rf"(?:{written})\s?{re.escape(choice.strip())}", prompt) is not None
