"""Text of tokens as they are generated, and the bytes of single tokens."""

from collections.abc import Collection, Mapping
from functools import cache

from jmedllm.models.tokenizer.encoding import Tokenizer

_UNFINISHED = "\ufffd"
"""What an incomplete character is decoded as."""


class TextStream:
    """Decodes tokens one by one, so that the parts together are the text of all tokens.

    Attributes:
        hidden: ids of tokens without text, such as special tokens.
    """

    def __init__(self, tokenizer: Tokenizer, hidden: Collection[int]) -> None:
        self.tokenizer, self.hidden = tokenizer, hidden
        self._ids: list[int] = []  # the last ones with text, and those whose character is incomplete
        self._shown = 0  # number of them that have been returned

    def feed(self, token: int) -> str:
        """Return the text that this token completes; empty within a character."""
        if token in self.hidden:
            return ""
        self._ids.append(token)
        text = self._rest()
        return "" if text.endswith(_UNFINISHED) else self._take(text)

    def finish(self) -> str:
        """Return the text of an incomplete character at the end."""
        return self._take(self._rest())

    def _rest(self) -> str:
        before = self._decode(self._ids[: self._shown])
        return self._decode(self._ids)[len(before) :]

    def _take(self, text: str) -> str:
        # Some tokenizers drop the space of the first token only, so the last ones stay in front of the next.
        self._ids, self._shown = self._ids[self._shown :], len(self._ids) - self._shown
        return text

    def _decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=False))


def token_bytes(tokenizer: Tokenizer, token: int) -> bytes:
    """Return the UTF-8 bytes of a token, which can be a part of a character; empty for an id without a token."""
    written = tokenizer.convert_ids_to_tokens(token)
    if written is None:
        return b""
    if written in tokenizer.added_tokens_encoder:
        return str(written).encode()
    if _is_byte_level(tokenizer):
        letters = _bytes_of_letters()
        return bytes(letters[letter] for letter in written) if letters.keys() >= set(written) else written.encode()
    if len(written) == len("<0x00>") and written.startswith("<0x") and written.endswith(">"):
        return bytes([int(written[3:5], 16)])
    return str(written).replace("▁", " ").encode()


def _is_byte_level(tokenizer: Tokenizer) -> bool:
    return "ByteLevel" in repr(tokenizer.backend_tokenizer.decoder)


@cache
def _bytes_of_letters() -> Mapping[str, int]:
    """Return the byte of each letter in which byte-level tokenizers write bytes."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return {letter: byte for byte, letter in bytes_to_unicode().items()}
