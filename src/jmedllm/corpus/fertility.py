"""How finely tokenizers cut a text: the fewer characters to a token, the more time, memory and context it costs.

Paper 2 (MedSwallow, arXiv 2406.14882) names a Japanese tokenizer among the reasons why Japanese-centric bases
gain more from tuning; here that is counted. Fertility as it is known, tokens per word (Rust et al. 2021, arXiv
2012.15613), needs words, and Japanese has no spaces: so characters and bytes of text per token, and tokens per
term of a list.
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
from jmedllm.evaluation.statistics import wilson
from jmedllm.models.tokenizer.encoding import Tokenizer, batches, encode_continuations
from jmedllm.models.tokenizer.pieces import pieces, whole


@dataclass(frozen=True, slots=True)
class TextFertility:
    """How one tokenizer cuts the texts of one language. Special tokens that it adds to a text are not counted.

    Attributes:
        language: "ja", "en" or "other".
        documents: how many texts.
        characters: Unicode code points of the texts.
        bytes: of the texts in UTF-8.
        single: tokens that spell one character, a space before it not counted.
        partial: tokens that spell no whole characters: they begin or end inside one, or stand for what the
            tokenizer does not know. Byte fallback for a character of several bytes counts; for one of a single
            byte, such as a line feed, it does not.
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
    """How one tokenizer cuts the different terms of one column.

    Attributes:
        terms: how many.
        tokens: of all terms together.
        one_token: terms that are one token.
        low: lower end of Wilson's 95 % interval of the share `one_token` / `terms`.
        high: its upper end.
    """

    tokenizer: str
    column: str
    terms: int
    tokens: int
    one_token: int
    low: float
    high: float


def text_fertility(tokenizers: Mapping[str, Tokenizer], documents: Iterable[Document]) -> list[TextFertility]:
    """Count the tokens of documents, by language; all tokenizers read the same texts, cleaned as a corpus is.

    Raises:
        InputError: no document has any text, or it is not known what a tokenizer's tokens spell.
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
        raise InputError("tokens: the texts are empty; give files that hold text")
    return [
        TextFertility(name, tag, *map(int, texts[tag]), *map(int, counts[tag, name]))
        for tag in ("ja", "en", "other")
        if tag in texts
        for name in tokenizers
    ]


def characters_per_token(tokenizer: Tokenizer, texts: Sequence[str]) -> float:
    """Characters of all texts together to a token; at least one text that is not empty."""
    tokens = sum(len(ids) for batch in batches(texts) for ids in _ids(tokenizer, batch))
    return sum(map(len, texts)) / tokens


def term_fertility(tokenizers: Mapping[str, Tokenizer], column: str, terms: Iterable[str]) -> list[TermFertility]:
    """Count the tokens of terms as they stand in running text: at the head of a line, and behind a space unless
    they are Japanese. A tokenizer's own mark for the beginning of a text is then no part of a term.

    Raises:
        InputError: there are no terms.
    """
    different = list(dict.fromkeys(filter(None, map(str.strip, terms))))
    if not different:
        raise InputError(f"terms: column {column!r} is empty; choose another one")
    placed = [term if language(term) == "ja" else f" {term}" for term in different]
    found = []
    for name, tokenizer in tokenizers.items():
        lengths = [len(encode_continuations(tokenizer, "\n", [term])[1][0]) for term in placed]
        single = lengths.count(1)
        interval = wilson(single, len(lengths))
        found.append(TermFertility(name, column, len(lengths), sum(lengths), single, *interval))
    return found


def read_terms(path: Path, columns: Iterable[str]) -> dict[str, list[str]]:
    """The cells of each column of a CSV file with a header.

    Raises:
        InputError: the file is missing or no such file, or has no such column; names the nearest one.
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
        raise InputError(f"{path}:{reader.line_num}: broken CSV: {error}; mend the line") from error
    return {column: [row[column] or "" for row in rows] for column in columns}


def text_table(rows: Iterable[TextFertility]) -> str:
    """The counts of texts as a Markdown table."""
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
    """The counts of terms as a Markdown table."""
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
    """[2, V]: whether each token spells a single character, and whether it spells no whole ones."""
    texts = [whole(piece) for piece in pieces(tokenizer)]
    single = [text is not None and len(text.removeprefix(" ") or text) == 1 for text in texts]
    partial = [text is None for text in texts]
    if tokenizer.unk_token_id is not None:
        partial[tokenizer.unk_token_id] = True
    return np.array([single, partial])


def _ids(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]
    return ids
