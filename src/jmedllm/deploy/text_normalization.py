"""Text as a client must give it to llama.cpp, so that it gets the token ids of the model's tokenizer."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from unicodedata import normalize

SPECIAL = (3, 4)
"""Types of tokens that llama.cpp finds in text as a whole."""


@dataclass(frozen=True, slots=True)
class TextNormalization:
    """What the model's tokenizer does with text and llama.cpp does not.

    Attributes:
        normalizer: Unicode form into which text is brought first; "" for none.
        space: "trim" if a space is read before a piece of text only when the piece does not begin with one, where
            llama.cpp always reads one; "prepend" if it is read at the beginning of a text only, and llama.cpp never
            reads one; "" if they agree.
        specials: tokens that divide text into pieces.
    """

    normalizer: Literal["NFC", ""] = ""
    space: Literal["trim", "prepend", ""] = ""
    specials: frozenset[str] = frozenset()

    def normalized(self, text: str) -> str:
        """Return the text for llama.cpp. A piece of a single space cannot be expressed with "trim"."""
        composed = normalize(self.normalizer, text) if self.normalizer else text
        if not self.space:
            return composed
        pieces = self._pieces(composed)
        if self.space == "prepend":
            return composed if pieces[0][:1] in ("", " ") else f" {composed}"
        return "".join(piece[1:] if piece[:1] == " " != piece else piece for piece in pieces)

    def can_express(self, text: str) -> bool:
        """Return whether llama.cpp can be given the text."""
        return self.space != "trim" or " " not in self._pieces(text)

    def _pieces(self, text: str) -> list[str]:
        """Divide a text at special tokens, which are every second piece."""
        longest_first = sorted(self.specials, key=len, reverse=True)
        return re.split(f"({'|'.join(map(re.escape, longest_first))})", text) if longest_first else [text]


def normalization_of_file(metadata: Mapping[str, Any]) -> TextNormalization:
    """Return the normalization that a GGUF file names.

    Args:
        metadata: the file's metadata by key.
    """
    tokens, types = (metadata.get(f"tokenizer.ggml.{key}", ()) for key in ("tokens", "token_type"))
    specials = (token for token, kind in zip(tokens, types, strict=False) if kind in SPECIAL)
    space = metadata.get("jmedllm.space", "")
    return TextNormalization(metadata.get("jmedllm.normalizer", ""), space, frozenset(specials if space else ()))
