"""Counts how many tokens a tokenizer needs for a text: more tokens cost more time, memory and context.

MedSwallow (arXiv 2406.14882) names a Japanese tokenizer among the reasons why Japanese base models gain more from
tuning. Fertility is usually measured in tokens per word (Rust et al. 2021, arXiv 2012.15613), but Japanese has no
spaces between words. This module reports characters and bytes per token, and tokens per term of a list.
"""

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jmedllm.corpus.cleaning.clean import clean
from jmedllm.corpus.documents import Document
from jmedllm.corpus.language import language
from jmedllm.errors import InputError, unknown
from jmedllm.evaluation.proportions import wilson
from jmedllm.models.tokenizer.encoding import Tokenizer, batches, encode_continuations
from jmedllm.models.tokenizer.pieces import pieces, whole


@dataclass(frozen=True, slots=True)
class TextFertility:
    """The tokens of one tokenizer for the texts of one language, without the special tokens that it adds to a text.

    Attributes:
        language: "ja", "en" or "other".
        documents: how many texts.
        characters: Unicode code points of the texts.
        bytes: of the texts in UTF-8.
        single: tokens of one character, not counting a space before it.
        partial: tokens that do not consist of whole characters: they begin or end inside one, or are the unknown
            token. Byte fallback counts for a character of several bytes, but not for one of a single byte, such as a
            line feed.
    """

    tokenizer: str
    language: str
    documents: int
    characters: int
    bytes: int
    tokens: int
    single: int
    partial: int


@dataclass(frozen=True, slots=True)
class TermFertility:
    """The tokens of one tokenizer for the distinct terms of one column.

    Attributes:
        terms: number of terms.
        tokens: number of tokens of all terms.
        one_token: number of terms that are one token.
        low: lower end of Wilson's 95 % interval of `one_token` / `terms`.
        high: upper end of that interval.
    """

    tokenizer: str
    column: str
    terms: int
    tokens: int
    one_token: int
    low: float
    high: float


def text_fertility(tokenizers: Mapping[str, Tokenizer], documents: Iterable[Document]) -> list[TextFertility]:
    """Count the tokens of documents by language, after the cleaning of a corpus.

    Raises:
        InputError: no document has any text, or the spelling of a tokenizer's tokens is unknown.
    """
    spelling = {name: _spelling(tokenizer) for name, tokenizer in tokenizers.items()}
    texts: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(3, np.int64))
    counts: dict[tuple[str, str], np.ndarray] = defaultdict(lambda: np.zeros(3, np.int64))
    for batch in batches(text for document in documents if (text := clean(document.text).text)):
        tags = [language(text) for text in batch]
        for tag, text in zip(tags, batch, strict=True):
            texts[tag] += (1, len(text), len(text.encode()))
        for name, tokenizer in tokenizers.items():
            for tag, ids in zip(tags, _ids(tokenizer, batch), strict=True):
                counts[tag, name] += (len(ids), *spelling[name][:, ids].sum(axis=1))
    if not texts:
        raise InputError("tokens: the texts are empty; give files that have text")
    return [
        TextFertility(name, tag, *map(int, texts[tag]), *map(int, counts[tag, name]))
        for tag in ("ja", "en", "other")
        if tag in texts
        for name in tokenizers
    ]


def characters_per_token(tokenizer: Tokenizer, texts: Sequence[str]) -> float:
    """Return the characters per token over all texts, of which at least one must not be empty."""
    tokens = sum(len(ids) for batch in batches(texts) for ids in _ids(tokenizer, batch))
    return sum(map(len, texts)) / tokens


def term_fertility(tokenizers: Mapping[str, Tokenizer], column: str, terms: Iterable[str]) -> list[TermFertility]:
    """Count the tokens of terms in running text: at the start of a line, and after a space unless they are Japanese.

    A tokenizer's own mark for the start of a text is not counted.

    Raises:
        InputError: there are no terms.
    """
    different = list(dict.fromkeys(filter(None, map(str.strip, terms))))
    if not different:
        raise InputError(f"terms: column {column!r} is empty; choose another column")
    placed = [term if language(term) == "ja" else f" {term}" for term in different]
    found = []
    for name, tokenizer in tokenizers.items():
        lengths = [len(encode_continuations(tokenizer, "\n", [term])[1][0]) for term in placed]
        single = lengths.count(1)
        interval = wilson(single, len(lengths))
        found.append(TermFertility(name, column, len(lengths), sum(lengths), single, *interval))
    return found


def read_terms(path: Path, columns: Iterable[str]) -> dict[str, list[str]]:
    """Return the cells of each column of a CSV file with a header.

    Raises:
        InputError: the file is missing or broken, or has no such column; the message names the nearest one.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle, strict=True)
            header = reader.fieldnames or ()
            for column in columns:
                if column not in header:
                    raise InputError(f"{path}:1: {unknown('column', column, header)}; choose it with --column")
            rows = list(reader)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8: {error.reason}; convert the file to UTF-8") from error
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: broken CSV: {error}; fix the line") from error
    return {column: [row[column] or "" for row in rows] for column in columns}


def text_table(rows: Iterable[TextFertility]) -> str:
    """Return the counts for texts as a Markdown table."""
    head = (
        "Text", "Tokenizer", "Documents", "Tokens", "Characters per token", "Bytes per token",
        "Single-character tokens", "Partial-character tokens",
    )  # fmt: skip
    return _table(
        head,
        (
            (
                row.language,
                row.tokenizer,
                f"{row.documents:,}",
                f"{row.tokens:,}",
                f"{row.characters / row.tokens:.2f}",
                f"{row.bytes / row.tokens:.2f}",
                f"{row.single / row.tokens:.1%}",
                f"{row.partial / row.tokens:.1%}",
            )
            for row in rows
        ),
    )


def term_table(rows: Iterable[TermFertility]) -> str:
    """Return the counts for terms as a Markdown table."""
    return _table(
        ("Terms", "Tokenizer", "n", "Tokens per term", "One token", "95 % interval"),
        (
            (
                row.column,
                row.tokenizer,
                f"{row.terms:,}",
                f"{row.tokens / row.terms:.2f}",
                f"{row.one_token / row.terms:.1%}",
                f"[{100 * row.low:.1f}, {100 * row.high:.1f}]",
            )
            for row in rows
        ),
    )


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---", "---", *("---:" for _ in head[2:])), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _spelling(tokenizer: Tokenizer) -> np.ndarray:
    """Return an array [2, V]: whether each token is a single character, and whether it is no whole character."""
    texts = [whole(piece) for piece in pieces(tokenizer)]
    single = [text is not None and len(text.removeprefix(" ") or text) == 1 for text in texts]
    partial = [text is None for text in texts]
    if tokenizer.unk_token_id is not None:
        partial[tokenizer.unk_token_id] = True
    return np.array([single, partial])


def _ids(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]
    return ids
