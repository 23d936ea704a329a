"""New tokens for a recipe's base, as a part of the corpus stage: they are learnt from its documents."""

from random import Random
from typing import Any

from jmedllm.corpus.documents import Documents
from jmedllm.corpus.fertility import characters_per_token
from jmedllm.models.folder import ORIGIN
from jmedllm.pipeline import Run
from jmedllm.stages.models import base_folder, start_folder

LEARNT_FROM = 16 << 20
"""UTF-8 bytes of text that tokens are learnt from at most; a pair that is frequent is so in these."""


def require_extendable_base(run: Run) -> None:
    """Check, before a corpus is made for days, that its tokens could be added to the base.

    Raises:
        InputError: they could not.
    """
    from jmedllm.models.tokenizer.extend import require_extendable
    from jmedllm.models.tokenizer.load import load_tokenizer

    if run.recipe.corpus and run.recipe.corpus.vocabulary and not run.recipe.base.random_init:
        require_extendable(load_tokenizer(base_folder(run)))


def extend_base(run: Run, documents: Documents) -> dict[str, Any]:
    """Write the model with new tokens that stage 1 starts from, where the recipe wants any.

    Returns:
        What the manifest says of them: their number, and characters per token of the text they were learnt from.

    Raises:
        InputError: the base cannot be extended, or no token can be learnt from the Japanese documents.
    """
    from jmedllm.models.tokenizer.extend import extend, size
    from jmedllm.models.tokenizer.load import load_tokenizer

    settings = run.recipe.corpus.vocabulary if run.recipe.corpus else None
    if settings is None:
        return {}
    base, folder = base_folder(run), start_folder(run)
    texts = _japanese(documents)
    if not (folder / ORIGIN).is_file():  # else made by a run that was killed later on
        extend(base, texts, settings, folder)
    before, after = load_tokenizer(base), load_tokenizer(folder)
    return {
        "tokens_added": size(after) - size(before),
        "characters_per_token_before": round(characters_per_token(before, texts), 3),
        "characters_per_token_after": round(characters_per_token(after, texts), 3),
    }


def _japanese(documents: Documents) -> list[str]:
    """Japanese documents in random order, up to `LEARNT_FROM`; the same for every seed of a recipe."""
    texts, length = [], 0
    for number in Random(0).sample(range(len(documents)), len(documents)):
        document = documents[number]
        if document.language == "ja":
            texts.append(document.text)
            length += len(document.text.encode())
        if length >= LEARNT_FROM:
            break
    return texts
