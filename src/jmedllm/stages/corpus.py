"""Stage corpus: documents to packed blocks; also builds the base where the recipe wants one from scratch."""

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

BUILT_IN = {
    "demo": lambda: demo.documents(),
    "demo-without-exam-facts": lambda: demo.documents(exam_facts=False),
}
"""Corpora that come with the package, by the name a recipe gives as input."""


def read_corpus(recipe: Recipe) -> list[Document]:
    """All documents of the recipe's corpus that hold any text, in order.

    Raises:
        InputError: an input is missing or unreadable, or none of them holds text.
    """
    if recipe.corpus is None:
        return []
    found: list[Document] = []
    for name in recipe.corpus.inputs:
        found += BUILT_IN[name]() if name in BUILT_IN else read_documents(Path(name))
    documents = [document for document in found if document.text.strip()]
    if not documents:
        raise InputError(f"corpus {', '.join(recipe.corpus.inputs)}: holds no text; give files that do")
    return documents


def _inputs(run: Run) -> dict[str, Any]:
    recipe = run.recipe
    texts = hash_text("\n".join(f"{document.id}\t{document.text}" for document in read_corpus(recipe)))
    base = recipe.base.scratch.model_dump() if recipe.base.scratch else fingerprint(base_folder(run))
    block_size = recipe.corpus.block_size if recipe.corpus else None
    return {"documents": texts, "base": base, "block_size": block_size, "seed": recipe.seed}


def _perform(run: Run, identity: str) -> dict[str, Any]:
    from jmedllm.models.loading import load_tokenizer
    from jmedllm.models.scratch import build
    from jmedllm.training.examples import document_samples

    recipe, base = run.recipe, base_folder(run)
    documents = read_corpus(recipe)
    if recipe.base.scratch:
        build(recipe.base.scratch, (document.text for document in documents), base, recipe.seed)
    tokenizer = load_tokenizer(base)
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
        "files": ["corpus/blocks.npz", *(files_in(run, "base") if recipe.base.scratch else [])],
    }


STEP = Step("corpus", lambda recipe: recipe.corpus is not None, _inputs, _perform)
