"""Adds tokens to the base model of a recipe, learned from the documents of the corpus stage."""

from random import Random
from typing import Any

from jmedllm.corpus.documents import Documents
from jmedllm.corpus.fertility import characters_per_token
from jmedllm.models.folder import ORIGIN
from jmedllm.models.tokenizer.encoding import Tokenizer
from jmedllm.stages.models import start_folder
from jmedllm.stages.stage import Run, base_folder

LEARNED_FROM = 16 << 20
"""Maximum UTF-8 bytes of the text from which tokens are learned; a sample of this size contains all frequent pairs."""


def require_extendable_base(run: Run, tokenizer: Tokenizer) -> None:
    """Check that tokens can be added to the base model if the recipe asks for it, before a long corpus build starts.

    Raises:
        InputError: they cannot be added.
    """
    from jmedllm.models.tokenizer.extend import require_extendable

    if run.recipe.corpus and run.recipe.corpus.vocabulary:
        require_extendable(tokenizer)


def extend_base(run: Run, documents: Documents) -> dict[str, Any]:
    """Write the model with new tokens that stage 1 starts from, if the recipe enables it.

    Returns:
        Number of new tokens, and characters per token of the text from which they were learned, for the manifest.

    Raises:
        InputError: the base cannot be extended, or no token can be learned from the Japanese documents.
    """
    from jmedllm.models.tokenizer.extend import extend, size
    from jmedllm.models.tokenizer.load import load_tokenizer

    settings = run.recipe.corpus.vocabulary if run.recipe.corpus else None
    if settings is None:
        return {}
    base, folder = base_folder(run), start_folder(run)
    texts = _japanese(documents)
    if not (folder / ORIGIN).is_file():  # otherwise an earlier, killed run wrote it
        extend(base, texts, settings, folder)
    before, after = load_tokenizer(base), load_tokenizer(folder)
    return {
        "tokens_added": size(after) - size(before),
        "characters_per_token_before": round(characters_per_token(before, texts), 3),
        "characters_per_token_after": round(characters_per_token(after, texts), 3),
    }


def _japanese(documents: Documents) -> list[str]:
    """Japanese documents in random order, up to `LEARNED_FROM`; the order is the same for every seed of a recipe."""
    texts, length = [], 0
    for number in Random(0).sample(range(len(documents)), len(documents)):
        document = documents[number]
        if document.language == "ja":
            texts.append(document.text)
            length += len(document.text.encode())
        if length >= LEARNED_FROM:
            break
    return texts
