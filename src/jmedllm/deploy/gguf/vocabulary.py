"""A tokenizer as metadata of a GGUF file."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from unicodedata import normalize

from jmedllm.deploy.text_normalization import TextNormalization
from jmedllm.errors import InputError
from jmedllm.models.conversion.gguf_tokens import CONTROL, USER_DEFINED
from jmedllm.models.tokenizer.encoding import Tokenizer

NORMAL, UNKNOWN, UNUSED, BYTE = 1, 2, 5, 6
"""Token types of ordinary tokens, the unknown token, rows of the embedding without a token, and bytes."""

MERGE_LIST = "gemma4"
"""llama.cpp's name of SentencePiece BPE that follows the list of merges instead of scores."""

_FIX = "serve the model directory with vLLM or transformers"

ENDS = ("eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep")
"""Keys of tokens at which llama.cpp ends an answer. The last three are of code completion, which no chat uses."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A BPE tokenizer as llama.cpp stores it.

    Attributes:
        tokens: tokens by id; of byte-level BPE in its characters.
        types: a token type for each.
        merges: pairs, separated by a space, the first merged first.
        is_byte_level: whether text is split into bytes first; else it is SentencePiece BPE, with bytes for characters
            without a token.
        scores: of SentencePiece BPE a number for each token; pairs with the largest are merged first.
        adds_space: whether SentencePiece BPE reads text as if a space preceded it.
        ids: ids of special tokens by llama.cpp's names, such as `bos`.
        add_bos: whether BOS begins each text.
        chat_template: the Jinja template, if the model has one.
        normalization: what the tokenizer does with text and llama.cpp does not.
    """

    tokens: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...]
    is_byte_level: bool
    scores: tuple[float, ...]
    adds_space: bool
    ids: Mapping[str, int]
    add_bos: bool
    chat_template: str | None
    normalization: TextNormalization


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
    _require_bpe(model.get("type"))
    is_byte_level = not model.get("byte_fallback")
    tokens = [f"[PAD{number}]" for number in range(rows)]
    types = [UNUSED] * rows
    for token, number in model["vocab"].items():
        tokens[number], types[number] = token, BYTE if not is_byte_level and _BYTE.fullmatch(token) else NORMAL
    for added in description["added_tokens"]:
        tokens[added["id"]] = added["content"]
        types[added["id"]] = CONTROL if added["special"] else USER_DEFINED
    if len(ends) > len(ENDS):
        raise InputError(
            f"gguf: the model has {len(ends)} tokens that end an answer (eos_token_id in generation_config.json), and "
            f"a GGUF file names at most {len(ENDS)}; shorten the list"
        )
    ids = dict(zip(ENDS, ends, strict=False))
    others = {"bos": tokenizer.bos_token_id, "padding": tokenizer.pad_token_id, "unknown": tokenizer.unk_token_id}
    ids |= {name: number for name, number in others.items() if number is not None}
    if not is_byte_level and tokenizer.unk_token_id is not None:
        types[tokenizer.unk_token_id] = UNKNOWN
    merges = tuple(pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"])
    first, normalization = tokenizer("")["input_ids"], normalization_of(tokenizer)
    return Vocabulary(
        tuple(tokens), tuple(types), merges, is_byte_level,
        scores=() if is_byte_level else _scores(tokens, merges),
        adds_space=_reads_space(tokenizer, "a") and normalization.space != "prepend",
        ids=ids,
        add_bos=bool(first) and first[0] == tokenizer.bos_token_id,
        chat_template=tokenizer.chat_template,
        normalization=normalization,
    )  # fmt: skip


def normalization_of(tokenizer: Tokenizer) -> TextNormalization:
    """Return what a tokenizer does with text and llama.cpp does not."""
    normalizer = tokenizer.backend_tokenizer.normalizer
    composes = normalizer is not None and normalize("NFC", _DECOMPOSED) in normalizer.normalize_str(_DECOMPOSED)
    return TextNormalization("NFC" if composes else "", _space(tokenizer), frozenset(tokenizer.added_tokens_encoder))


_DECOMPOSED = "e\u0301"


def _space(tokenizer: Tokenizer) -> Literal["trim", "prepend", ""]:
    if not _reads_space(tokenizer, "a"):
        return ""
    special = next(iter(tokenizer.added_tokens_encoder), "")
    if special and not _reads_space(tokenizer, f"{special}a"):
        return "prepend"
    return "trim" if tokenizer.tokenize(" a") == tokenizer.tokenize("a") else ""


def _reads_space(tokenizer: Tokenizer, text: str) -> bool:
    """Return whether the letter at the end of a text is read as if a space preceded it."""
    return bool("".join(tokenizer.tokenize(text)[-2:]).endswith("\u2581a"))


_BYTE = re.compile("<0x[0-9A-F]{2}>")


def _scores(tokens: list[str], merges: tuple[str, ...]) -> tuple[float, ...]:
    """Return the score of each token: the negative number of the first merge that makes it."""
    ranks: dict[str, int] = {}
    for rank, pair in enumerate(merges):
        ranks.setdefault(pair.replace(" ", ""), rank)
    return tuple(float(-ranks.get(token, len(merges))) for token in tokens)


def _require_bpe(kind: str | None) -> None:
    """Check that a tokenizer is BPE.

    Raises:
        InputError: it is of another kind.
    """
    if kind == "BPE":
        return
    named = "Unigram (as of llm-jp)" if kind == "Unigram" else f"of the kind {kind}"
    raise InputError(f"gguf: the tokenizer is {named}, which llama.cpp would encode differently; {_FIX}")
