"""How much longer a tokenizer.json makes a text: 40 rules that double a letter fill any memory."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from jmedllm.errors import InputError

MOST_GROWTH = 1000
"""How often longer a text may become. Rules of good tokenizers, such as a blank that becomes "▁", reach 4 at most."""


def require_bounded_growth(file: Path) -> None:
    """Check, before it is loaded, that a tokenizer.json cannot make a short text fill the memory.

    Raises:
        InputError: its rules can make a text more than `MOST_GROWTH` times as long.
    """
    with suppress(OSError, ValueError, RecursionError):  # the library says what is wrong
        rules = json.loads(file.read_bytes())
        for part in ("normalizer", "decoder"):
            if isinstance(rules, dict) and _growth(rules.get(part)) > MOST_GROWTH:
                raise InputError(
                    f"{file}: its {part} can make a text more than {MOST_GROWTH:,} times as long; copy the tokenizer "
                    "of the base model"
                )


def _growth(rule: Any) -> float:
    if not isinstance(rule, dict):
        return 1
    growth = 1.0
    for each in rule.get("normalizers") or rule.get("decoders") or ():
        growth *= _growth(each)
    content, pattern = rule.get("content"), rule.get("pattern")
    if isinstance(content, str) and isinstance(pattern, dict):
        text = pattern.get("String")
        # An expression may match between two letters.
        growth *= max(1, len(content) / len(text)) if text else 1 + len(content)
    return growth
