"""Tokenization by the rules of a GGUF file, independent of any tokenizer library.

llama.cpp names the rule that splits text before any merge (`tokenizer.ggml.pre`). `ReferenceTokenizer` follows it,
and the converted tokenizer is compared with it.
"""

import heapq
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import regex

from jmedllm.errors import InputError
from jmedllm.models.conversion.gguf import Gguf
from jmedllm.models.tokenizer.byte_characters import BYTES

_SPACE = "\u2581"
_CHARACTERS = {byte: character for character, byte in BYTES.items()}

CONTROL = 3
USER_DEFINED = 4
"""Token types of tokens that are matched whole; those of CONTROL are special."""

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

_GPT2_NAMES = (
    *("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "gigachat", "a.x-4.0", "mellum", "modern-bert"),
    *("granite-docling", "exaone4"),
)
_DIGITS_NAMES = ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2")
_WHOLE_FIRST_NAMES = (
    *("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"),
    "tekken",
)


@dataclass(frozen=True, slots=True)
class Split:
    """How text is split before any merge.

    Attributes:
        pattern: regular expression of one piece; text between matches is a piece as well.
        single_digits: whether every digit is split off first.
        whole_first: whether a piece that is a token is used directly, whatever the merges are.
        add_bos: whether BOS is put first if the file does not specify it.
    """

    pattern: str
    single_digits: bool = False
    whole_first: bool = False
    add_bos: bool = False


def split_rule(gguf: Gguf) -> Split:
    """Return the rule that a byte-level BPE file names.

    Raises:
        InputError: the rule is unknown, so text would be split differently than in training.
    """
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    name = str(gguf.of_tokenizer("pre", "default"))
    if name in _GPT2_NAMES:
        return Split(_GPT2)
    if name in _DIGITS_NAMES:
        return Split(_GPT2, single_digits=True)
    if name in GGUF_PRE_TOKENIZER_SPLITS:
        is_whole_first = name in _WHOLE_FIRST_NAMES
        pattern = GGUF_PRE_TOKENIZER_SPLITS[name]
        return Split(pattern, whole_first=is_whole_first, add_bos=is_whole_first)
    raise InputError(
        f"{gguf.path}: splits text by the rule {name!r} (tokenizer.ggml.pre), which is not supported: token "
        "ids would differ; give the model as a safetensors directory"
    )


@dataclass(frozen=True)
class ReferenceTokenizer:
    """Token ids by a file's own vocabulary, scores and merges."""

    gguf: Gguf

    @cached_property
    def tokens(self) -> dict[str, int]:
        """The id of each token, as spelled in the file."""
        return {token: number for number, token in enumerate(self.gguf.of_tokenizer("tokens"))}

    @cached_property
    def kind(self) -> Literal["gpt2", "llama"]:
        """Byte-level BPE, or SentencePiece BPE.

        Raises:
            InputError: any other kind.
        """
        kind = self.gguf.of_tokenizer("model")
        if kind not in ("gpt2", "llama"):
            raise InputError(
                f"{self.gguf.path}: a tokenizer of the kind {kind!r}, which convert cannot check; give the model "
                "as a safetensors directory"
            )
        return kind  # type: ignore[no-any-return]

    @property
    def add_bos(self) -> bool:
        """Whether text begins with BOS."""
        default = True if self.kind == "llama" else split_rule(self.gguf).add_bos
        return bool(self.gguf.of_tokenizer("add_bos_token", default))

    @property
    def adds_space(self) -> bool:
        """Whether text, and text after a token that is matched whole, is read as if a space preceded it."""
        return self.kind == "llama" and bool(self.gguf.of_tokenizer("add_space_prefix", True))

    def encode(self, text: str) -> list[int]:
        """Ids of a text without BOS; tokens that are matched whole are found first, the longest first."""
        found: list[int] = []
        for part in self._wholes.split(text) if self._wholes else [text]:
            if part in self._whole_ids:
                found.append(self._whole_ids[part])
            elif part:
                found.extend(self._bytes(part) if self.kind == "gpt2" else self._sentencepiece(part))
        return found

    @cached_property
    def _whole_ids(self) -> dict[str, int]:
        types = self.gguf.of_tokenizer("token_type", [])
        return {
            token: number
            for (token, number), kind in zip(self.tokens.items(), types, strict=False)
            if kind in (CONTROL, USER_DEFINED)
        }

    @cached_property
    def _wholes(self) -> re.Pattern[str] | None:
        longest_first = sorted(self._whole_ids, key=len, reverse=True)
        return re.compile(f"({'|'.join(map(re.escape, longest_first))})") if longest_first else None

    @cached_property
    def _ranks(self) -> dict[tuple[str, str], int]:
        merges = (tuple(merge.split(" ", 1)) for merge in self.gguf.of_tokenizer("merges"))
        return {pair: rank for rank, pair in enumerate(merges)}

    def _bytes(self, text: str) -> Iterator[int]:
        rule = split_rule(self.gguf)
        parts = regex.findall(r"\p{N}|[^\p{N}]+", text) if rule.single_digits else [text]
        for part in parts:
            for piece in _pieces(rule.pattern, part):
                spelled = "".join(_CHARACTERS[byte] for byte in piece.encode())
                if rule.whole_first and spelled in self.tokens:
                    yield self.tokens[spelled]
                    continue
                for symbol in merged(list(spelled), lambda left, right: self._ranks.get((left, right))):
                    yield self.tokens[symbol]

    @cached_property
    def _scores(self) -> list[float]:
        return list(self.gguf.of_tokenizer("scores"))

    def _sentencepiece(self, text: str) -> Iterator[int]:
        prefix = " " if self.adds_space else ""

        def rank(left: str, right: str) -> float | None:
            number = self.tokens.get(left + right)
            return None if number is None else -self._scores[number]

        for symbol in merged(list((prefix + text).replace(" ", _SPACE)), rank):
            if symbol in self.tokens:
                yield self.tokens[symbol]
            else:
                yield from (self.tokens[f"<0x{byte:02X}>"] for byte in symbol.encode())


def _pieces(pattern: str, text: str) -> Iterator[str]:
    place = 0
    for match in regex.finditer(pattern, text):
        if match.start() > place:
            yield text[place : match.start()]
        if match.end() > match.start():
            yield match.group()
        place = match.end()
    if place < len(text):
        yield text[place:]


def merged(symbols: list[str], rank: Any) -> list[str]:
    """Merge neighbours, lowest rank first and leftmost of equal ones, until none has a rank."""
    left, right = list(range(-1, len(symbols) - 1)), list(range(1, len(symbols) + 1))
    queue: list[tuple[float, int, str, str]] = []

    def consider(start: int) -> None:
        if start >= 0 and right[start] < len(symbols):
            pair = symbols[start], symbols[right[start]]
            if (found := rank(*pair)) is not None:
                heapq.heappush(queue, (found, start, *pair))

    for start in range(len(symbols) - 1):
        consider(start)
    while queue:
        _, start, first, second = heapq.heappop(queue)
        behind = right[start]
        if symbols[start] != first or behind >= len(symbols) or symbols[behind] != second:
            continue  # one of the two has been merged with another symbol meanwhile
        symbols[start], symbols[behind] = first + second, ""
        right[start] = right[behind]
        if right[start] < len(symbols):
            left[right[start]] = start
        consider(start)
        consider(left[start])
    return [symbol for symbol in symbols if symbol]
