"""Stage corpus: documents to packed blocks; also builds the base where the recipe wants one from scratch."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

from jmedllm.corpus import demo
from jmedllm.corpus.pack import pack_documents, save_blocks
from jmedllm.corpus.read import Document, read_documents
from jmedllm.errors import InputError
from jmedllm.files import hash_text
from jmedllm.models.folder import fingerprint
from jmedllm.recipe import Recipe
from jmedllm.run import Run, Step, files_in, own_folder
from jmedllm.stages.models import base_folder
from jmedllm.training.holding import OTHER, is_held_out
from jmedllm.training.mixing import GENERAL, Mixing, mixture, parts

BUILT_IN = {
    "demo": lambda: demo.documents(),
    "demo-without-exam-facts": lambda: demo.documents(exam_facts=False),
}
"""Corpora that come with the package, by the name a recipe gives as input."""


def read_corpus(recipe: Recipe) -> list[Document]:
    """All documents of the recipe's corpus that hold any text and are trained on, in order.

    Raises:
        InputError: an input is missing or unreadable, or none of them holds text.
    """
    return [document for document in _read_all(recipe) if not is_held_out(document.text, held_out_share(recipe))]


def read_general(recipe: Recipe) -> list[Document]:
    """The general text that stage 1 replays, without what is held out of it."""
    found = _read(recipe.corpus.mixing.general) if recipe.corpus else []
    return [document for document in found if not is_held_out(document.text, held_out_share(recipe))]


def read_held_out(recipe: Recipe) -> list[tuple[str, Document]]:
    """What is held out of the corpus, each document with its language, and of the general text."""
    share = held_out_share(recipe)
    medical = [(document.language or OTHER, document) for document in _read_all(recipe)]
    general = [(GENERAL, document) for document in (_read(recipe.corpus.mixing.general) if recipe.corpus else [])]
    return [each for each in medical + general if is_held_out(each[1].text, share)]


def held_out_share(recipe: Recipe) -> float:
    """Share of the documents that are never trained on."""
    return recipe.evaluate.held_out if recipe.evaluate else 0.0


def _read_all(recipe: Recipe) -> list[Document]:
    if recipe.corpus is None:
        return []
    documents = _read(recipe.corpus.inputs)
    if not documents:
        raise InputError(f"corpus {', '.join(recipe.corpus.inputs)}: holds no text; give files that do")
    return documents


def _read(inputs: Sequence[str]) -> list[Document]:
    found: list[Document] = []
    for name in inputs:
        found += BUILT_IN[name]() if name in BUILT_IN else read_documents(Path(name))
    return [document for document in found if document.text.strip()]


def _inputs(run: Run) -> dict[str, Any]:
    recipe = run.recipe
    texts = hash_text("\n".join(f"{document.id}\t{document.text}" for document in read_corpus(recipe)))
    base = recipe.base.scratch.model_dump() if recipe.base.scratch else fingerprint(base_folder(run))
    block_size = recipe.corpus.block_size if recipe.corpus else None
    inputs = {"documents": texts, "base": base, "block_size": block_size, "seed": recipe.seed}
    if recipe.corpus and recipe.corpus.mixing != Mixing():
        general = hash_text("\n".join(document.text for document in read_general(recipe)))
        inputs |= {"mixing": recipe.corpus.mixing.model_dump(), "general": general}
    return inputs


def _perform(run: Run, identity: str) -> dict[str, Any]:
    from jmedllm.models.loading import load_tokenizer
    from jmedllm.models.scratch import build
    from jmedllm.training.examples import document_samples

    recipe, base = run.recipe, base_folder(run)
    documents = read_corpus(recipe)
    if recipe.base.scratch:
        build(recipe.base.scratch, (document.text for document in documents), base, recipe.seed)
    tokenizer = load_tokenizer(base)
    mixing = recipe.corpus.mixing if recipe.corpus else Mixing()
    members = list(mixture(lambda: documents, lambda: read_general(recipe), mixing))
    documents = [document for _, document, times in members for _ in range(times)]
    # Neighbours in a file are often alike; shuffled, the rows of a step are not.
    Random(recipe.seed).shuffle(documents)
    block_size = recipe.corpus.block_size if recipe.corpus else 0
    blocks = pack_documents(document_samples(tokenizer, documents), block_size, tokenizer.pad_token_id)
    file = own_folder(run.folder / "corpus", identity) / "blocks.npz"
    return {
        "base": fingerprint(base),
        "blocks": save_blocks(blocks, file),
        "documents": len(documents),
        "tokens": int(blocks.ids.size),
        **_mixture(members, mixing),
        "files": ["corpus/blocks.npz", *(files_in(run, "base") if recipe.base.scratch else [])],
    }


def _mixture(members: Sequence[tuple[str, Document, int]], mixing: Mixing) -> dict[str, Any]:
    """What one pass reads of each part, where the recipe mixes any."""
    return {} if mixing == Mixing() else {"mixture": {name: asdict(part) for name, part in parts(members).items()}}


STEP = Step("corpus", lambda recipe: recipe.corpus is not None, _inputs, _perform)
