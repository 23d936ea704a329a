"""More tokens for a tokenizer and its model, learnt from the text that the model is to be adapted to.

A text in ASCII keeps its tokens. The row of a new token in the input and in the output embedding is the mean of
the rows of the tokens it joins (Gee et al. 2022, arXiv 2402.09977).
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from pydantic import Field

from jmedllm.errors import InputError
from jmedllm.files import read_json, to_json, write_atomic
from jmedllm.models.folder import fingerprint
from jmedllm.models.loading import load_network
from jmedllm.models.save import save_model
from jmedllm.models.tokenizer.bpe import LEAST, Merge, learn_merges, words
from jmedllm.models.tokenizer.encoding import Tokenizer
from jmedllm.models.tokenizer.load import load_tokenizer, read_tokenizer
from jmedllm.models.tokenizer.pieces import BYTES, pieces, scheme
from jmedllm.settings import Settings

_ALIGNED = 128
"""An embedding that is padded to a multiple of this, or of a power of two below, stays so."""

_WRITTEN = {byte: character for character, byte in BYTES.items()}


class Vocabulary(Settings):
    """New tokens for the base, learnt from the Japanese documents of the corpus and trained in stage 1."""

    add: int = Field(ge=1, le=100_000, description="new tokens; fewer where the text has no more to give")


def extend(base: Path, texts: Iterable[str], settings: Vocabulary, folder: Path) -> None:
    """Write `base` with new tokens as a plain model directory.

    Holds the model once, in the format it is stored in, in the memory of the CPU.

    Raises:
        InputError: the tokenizer is no byte-level BPE, no token can be learnt, or the base cannot be loaded.
    """
    tokenizer = load_tokenizer(base)
    extended, joined = extend_tokenizer(tokenizer, learn(tokenizer, texts, settings.add))
    network = load_network(base, "auto", torch.device("cpu"))
    extend_network(network, joined, size(tokenizer))
    save_model(network, extended, folder, {"base": str(base), "base_fingerprint": fingerprint(base)}, base)


def size(tokenizer: Tokenizer) -> int:
    """Rows that an embedding needs for a tokenizer: its highest id and one."""
    numbers: Iterable[int] = tokenizer.get_vocab().values()
    return max(numbers) + 1


def require_extendable(tokenizer: Tokenizer) -> None:
    """Check that new tokens can be added to a tokenizer.

    Raises:
        InputError: it is no byte-level BPE.
    """
    if scheme(tokenizer) != "byte-level" or type(tokenizer.backend_tokenizer.model).__name__ != "BPE":
        raise InputError(
            f"tokenizer {tokenizer.name_or_path}: only a byte-level BPE, as of Qwen2 or Llama 3, can be extended; "
            "leave corpus.vocabulary out"
        )


def learn(tokenizer: Tokenizer, texts: Iterable[str], count: int) -> list[Merge]:
    """Merges that bring at most `count` new tokens, the most saving first; the same from texts in any order.

    Keeps the different words of the texts in memory.

    Raises:
        InputError: the tokenizer is no byte-level BPE, or nothing in the texts can be joined.
    """
    require_extendable(tokenizer)
    merges = learn_merges(words(tokenizer, texts), pieces(tokenizer), count)
    if not merges:
        raise InputError(
            f"corpus.vocabulary: no two tokens stand together {LEAST} times in the Japanese documents; give more text"
        )
    return merges


def extend_tokenizer(tokenizer: Tokenizer, merges: Sequence[Merge]) -> tuple[Tokenizer, list[tuple[int, ...]]]:
    """The tokenizer with these merges behind its own, and for each new token the old ones that it joins.

    New ids follow the highest one there is, in order. A merge that spells a token which is there already brings it
    into reach and adds none.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer.save_pretrained(folder)
        description = read_json(folder / "tokenizer.json")
        joined = _add_merges(description, merges, size(tokenizer))
        write_atomic(folder / "tokenizer.json", to_json(description))
        extended = read_tokenizer(folder)
    extended.name_or_path = tokenizer.name_or_path
    return extended, joined


def _add_merges(description: dict[str, Any], merges: Sequence[Merge], first: int) -> list[tuple[int, ...]]:
    """Write merges into what a tokenizer.json holds; returns the old ids that each new token joins."""
    vocabulary: dict[str, int] = description["model"]["vocab"]
    # Special tokens often stand outside the vocabulary, and would get other ids once it has grown.
    vocabulary |= {token["content"]: token["id"] for token in description["added_tokens"]}
    parts: dict[str, tuple[int, ...]] = {piece: (number,) for piece, number in vocabulary.items()}
    ranked = dict.fromkeys(map(tuple, description["model"]["merges"]))
    joined: list[tuple[int, ...]] = []
    for merge in merges:
        left, right = ("".join(_WRITTEN[byte] for byte in side) for side in (merge.left, merge.right))
        ranked.setdefault((left, right))
        if left + right not in vocabulary:
            vocabulary[left + right] = first + len(joined)
            parts[left + right] = parts[left] + parts[right]
            joined.append(parts[left + right])
    description["model"]["merges"] = list(ranked)
    return joined


def extend_network(network: Any, joined: Sequence[Sequence[int]], first: int) -> None:
    """Give each new token the mean of the rows of the old tokens that it joins.

    Rows that only pad a grown embedding get the mean of all tokens' rows, so that they stay unlikely answers.

    Args:
        network: a causal model; its input and output embedding may be one.
        joined: for each new token the ids of old ones.
        first: id of the first new token; those below are the tokens there were.
    """
    rows = network.get_input_embeddings().weight.shape[0]
    wanted = first + len(joined)
    if wanted > rows:
        aligned = math.gcd(rows, _ALIGNED)
        network.resize_token_embeddings(math.ceil(wanted / aligned) * aligned, mean_resizing=False)
    layers = (network.get_input_embeddings(), network.get_output_embeddings())
    held = [getattr(layer, name, None) for layer in layers for name in ("weight", "bias")]
    with torch.no_grad():
        for values in {id(each): each for each in held if each is not None}.values():
            old = values[:first].float()
            values[rows:] = old.mean(0).to(values.dtype)
            for number, parts in enumerate(joined, first):
                values[number] = old[list(parts)].mean(0).to(values.dtype)
