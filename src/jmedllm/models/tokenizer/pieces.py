"""The bytes that each token of a tokenizer spells.

Byte-level BPE (Qwen2, Llama 3) writes every byte as a printable character; SentencePiece (Llama 2, llm-jp) writes
plain text with a mark for the space, and bytes without a text token as `<0xE3>`.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Literal

from jmedllm.errors import InputError
from jmedllm.models.tokenizer.byte_characters import BYTES
from jmedllm.models.tokenizer.encoding import Tokenizer

Scheme = Literal["byte-level", "sentencepiece"]

_SPACE = "\u2581"
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def scheme(tokenizer: Tokenizer) -> Scheme:
    """Return the scheme by which a tokenizer writes its tokens.

    Raises:
        InputError: it uses another scheme, such as WordPiece.
    """
    if not tokenizer.is_fast:
        raise InputError(f"tokenizer {tokenizer.name_or_path}: no tokenizer.json; give a tokenizer that has one")
    decoder = tokenizer.backend_tokenizer.decoder
    kinds = set(_kinds(json.loads(decoder.__getstate__()))) if decoder else set()
    if "ByteLevel" in kinds:
        return "byte-level"
    if kinds & {"ByteFallback", "Metaspace"}:
        return "sentencepiece"
    raise InputError(
        f"tokenizer {tokenizer.name_or_path}: is neither byte-level BPE nor SentencePiece, so the text of its "
        "tokens is unknown; give the tokenizer of a generative model"
    )


def _kinds(decoder: dict[str, Any]) -> Iterator[str]:
    yield decoder["type"]
    for part in decoder.get("decoders", ()):
        yield from _kinds(part)


def pieces(tokenizer: Tokenizer) -> list[bytes]:
    """Return the bytes that each token spells, by id; empty if an id has no token.

    A special token, such as the end of a text, spells its name.

    Raises:
        InputError: see `scheme`.
    """
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    named = {token.content for token in tokenizer.added_tokens_decoder.values()}
    spell = _byte_level if scheme(tokenizer) == "byte-level" else _sentencepiece
    spelled = [b""] * (max(vocabulary.values()) + 1)
    for piece, number in vocabulary.items():
        spelled[number] = piece.encode() if piece in named else spell(piece)
    return spelled


def _byte_level(piece: str) -> bytes:
    return bytes(BYTES[character] for character in piece)


def _sentencepiece(piece: str) -> bytes:
    byte = _BYTE.fullmatch(piece)
    return bytes([int(byte[1], 16)]) if byte else piece.replace(_SPACE, " ").encode()


def whole(piece: bytes) -> str | None:
    """Return the characters of a token; None if it begins or ends inside a character.

    In valid UTF-8 text, this is the case exactly if the token's own bytes are not valid UTF-8.
    """
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return None
