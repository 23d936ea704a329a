"""Measure how many tokens new tokens save on held-out text and on medical terms, and print tables.

python benchmarks/fertility.py --data DIR      DIR contains the project's real data

New tokens for Qwen2's tokenizer are learned from nine tenths of the Japanese texts and counted on the other tenth.
The hash of a text decides which part it is in.
"""

import argparse
from pathlib import Path

from jmedllm.corpus.cleaning.clean import clean
from jmedllm.corpus.documents import Document
from jmedllm.corpus.fertility import read_terms, term_fertility, term_table, text_fertility, text_table
from jmedllm.corpus.readers.reader import read_documents
from jmedllm.models.tokenizer.extend import extend_tokenizer, learn
from jmedllm.models.tokenizer.load import read_tokenizer
from jmedllm.training.mixing import is_held_out

SOURCES = ("ja_laws", "ja_pharmacopoeia.jsonl", "ja_wikipedia_medical.jsonl", "ja_case_reports.jsonl")
ADDED = (500, 2000, 8000)
LENGTH = 1_500
"""Characters of a document. A tenth of the 38 whole statutes would be too few."""


def main() -> None:
    """Learn the tokens, count, and print the tables."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--data", type=Path, required=True)
    data = options.parse_args().data
    texts = {source: _pieces(data / "corpus" / source) for source in SOURCES}
    learned_from = [text for each in texts.values() for text in each if not is_held_out(text, 0.1)]
    tokenizer = read_tokenizer(data / "tokenizers" / "qwen2")
    merges = learn(tokenizer, learned_from, max(ADDED))
    tokenizers = {"qwen2": tokenizer}
    for count in ADDED:
        # Merges are in order, so the first ones form the smaller set.
        extended, joined = extend_tokenizer(tokenizer, merges[:count])
        tokenizers[f"qwen2 + {len(joined):,}"] = extended
    for source, each in texts.items():
        rows = text_fertility(tokenizers, [Document("", text) for text in each if is_held_out(text, 0.1)])
        print(f"{source}\n{text_table([row for row in rows if row.language == 'ja'])}")
    terms = read_terms(data / "terminology" / "wikidata_large_en_ja_pairs.csv", ["ja_label"])
    print(term_table(term_fertility(tokenizers, "ja_label", terms["ja_label"])))


def _pieces(path: Path) -> list[str]:
    """The distinct pieces of the cleaned texts."""
    texts = (clean(document.text).text for document in read_documents(path))
    return list(dict.fromkeys(text[start : start + LENGTH] for text in texts for start in range(0, len(text), LENGTH)))


if __name__ == "__main__":
    main()
