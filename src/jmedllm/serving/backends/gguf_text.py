"""What the metadata of a GGUF file say about texts and tokens."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from jmedllm.models.tokenizer.byte_characters import BYTES
from jmedllm.serving.model import Format

_CONTROL = 3
_SPECIAL = {"bos": "bos", "eos": "eos", "padding": "pad", "unknown": "unk", "seperator": "sep", "mask": "mask"}
"""Names of special tokens in transformers, by llama.cpp's (whose spelling of `separator` this is)."""
_ENDS = ("eos", "eot", "eom")
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def text_format(metadata: Mapping[str, Any]) -> Format:
    """Return the format of a model's texts."""
    tokens: list[str] = metadata.get("tokenizer.ggml.tokens", [])
    types: list[int] = metadata.get("tokenizer.ggml.token_type", [])
    ids = {name: metadata.get(f"tokenizer.ggml.{name}_token_id") for name in (*_SPECIAL, *_ENDS)}
    known = {name: number for name, number in ids.items() if number is not None and number < len(tokens)}
    special = {f"{_SPECIAL[name]}_token": tokens[number] for name, number in known.items() if name in _SPECIAL}
    recorded = metadata.get("jmedllm.special_tokens")  # a template's `eos_token` need not be the first end
    return Format(
        template=metadata.get("tokenizer.chat_template"),
        special=json.loads(recorded) if recorded else special,
        control=frozenset(token for token, kind in zip(tokens, types, strict=False) if kind == _CONTROL),
        ends=tuple(dict.fromkeys(known[name] for name in _ENDS if name in known)),
        vocabulary=len(tokens),
    )


def bytes_of_tokens(metadata: Mapping[str, Any]) -> list[bytes]:
    """Return the bytes of each token. Special tokens have those of their names."""
    tokens: list[str] = metadata.get("tokenizer.ggml.tokens", [])
    types: list[int] = metadata.get("tokenizer.ggml.token_type", [])
    spelled = _byte_level if metadata.get("tokenizer.ggml.model") == "gpt2" else _sentencepiece
    return [token.encode() if kind == _CONTROL else spelled(token) for token, kind in zip(tokens, types, strict=False)]


def _byte_level(token: str) -> bytes:
    if all(character in BYTES for character in token):
        return bytes(BYTES[character] for character in token)
    return token.encode()  # an added token


def _sentencepiece(token: str) -> bytes:
    match = _BYTE.fullmatch(token)
    return bytes([int(match[1], 16)]) if match else token.replace("\u2581", " ").encode()


def spellings(raw: bytes, count: int, ids: Mapping[bytes, int]) -> Iterator[tuple[int, ...]]:
    """Yield every sequence of `count` tokens that spells these bytes."""
    if count <= 1:
        if count == 1 and raw in ids:
            yield (ids[raw],)
        return
    for length in range(1, len(raw) - count + 2):
        if raw[:length] in ids:
            yield from ((ids[raw[:length]], *rest) for rest in spellings(raw[length:], count - 1, ids))
