"""A tokenizer as metadata of a GGUF file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from unicodedata import normalize

from jmedllm.errors import InputError
from jmedllm.models.conversion.gguf_tokens import CONTROL, USER_DEFINED
from jmedllm.models.tokenizer.encoding import Tokenizer

NORMAL, UNUSED = 1, 5
"""Token types of ordinary tokens, and of rows of the embedding without a token."""

_FIX = "serve the model directory with vLLM or transformers"

_ENDS = ("eos", "eot", "eom")
"""Keys with which a file names the tokens that end an answer."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A byte-level BPE tokenizer as llama.cpp stores it.

    Attributes:
        tokens: tokens by id, spelled in the characters of byte-level BPE.
        types: a token type for each.
        merges: pairs, separated by a space, the first merged first.
        ids: ids of special tokens by llama.cpp's names, such as `bos`.
        add_bos: whether BOS begins each text.
        chat_template: the Jinja template, if the model has one.
        normalizer: "NFC" if the tokenizer composes Unicode first, which llama.cpp does not; else "".
    """

    tokens: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...]
    ids: Mapping[str, int]
    add_bos: bool
    chat_template: str | None
    normalizer: str


def vocabulary(tokenizer: Tokenizer, rows: int, ends: list[int]) -> Vocabulary:
    """Describe a tokenizer for llama.cpp.

    Args:
        tokenizer: the model's tokenizer.
        rows: number of rows of the embedding.
        ends: ids of the tokens that end an answer.

    Raises:
        InputError: llama.cpp cannot reproduce this kind of tokenizer, or it has more ends than a file can name.
    """
    description = json.loads(tokenizer.backend_tokenizer.to_str()) if tokenizer.is_fast else {"model": {}}
    model = description["model"]
    _require_byte_level(description)
    tokens = [f"[PAD{number}]" for number in range(rows)]
    types = [UNUSED] * rows
    for token, number in model["vocab"].items():
        tokens[number], types[number] = token, NORMAL
    for added in description["added_tokens"]:
        tokens[added["id"]] = added["content"]
        types[added["id"]] = CONTROL if added["special"] else USER_DEFINED
    if len(ends) > len(_ENDS):
        raise InputError(
            f"gguf: the model has {len(ends)} tokens that end an answer (eos_token_id in generation_config.json), and "
            f"a GGUF file names at most {len(_ENDS)}; shorten the list"
        )
    ids = dict(zip(_ENDS, ends, strict=False))
    others = {"bos": tokenizer.bos_token_id, "padding": tokenizer.pad_token_id, "unknown": tokenizer.unk_token_id}
    ids |= {name: number for name, number in others.items() if number is not None}
    merges = (pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"])
    first = tokenizer("")["input_ids"]
    return Vocabulary(
        tuple(tokens), tuple(types), tuple(merges), ids,
        add_bos=bool(first) and first[0] == tokenizer.bos_token_id,
        chat_template=tokenizer.chat_template,
        normalizer=composition(tokenizer),
    )  # fmt: skip


def composition(tokenizer: Tokenizer) -> Literal["NFC", ""]:
    """Return the Unicode form into which a tokenizer brings text and llama.cpp does not."""
    normalizer = tokenizer.backend_tokenizer.normalizer
    composes = normalizer is not None and normalizer.normalize_str(_DECOMPOSED) == normalize("NFC", _DECOMPOSED)
    return "NFC" if composes else ""


_DECOMPOSED = "e\u0301"


def _require_byte_level(description: Mapping[str, Any]) -> None:
    """Check that a tokenizer is byte-level BPE.

    Raises:
        InputError: it is of another kind.
    """
    kind = description["model"].get("type")
    if kind == "BPE" and not description["model"].get("byte_fallback"):
        return
    named = {"Unigram": "Unigram (as of llm-jp)", "BPE": "SentencePiece BPE"}.get(kind, f"of the kind {kind}")
    raise InputError(f"gguf: the tokenizer is {named}, which llama.cpp would encode differently; {_FIX}")
