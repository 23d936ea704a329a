"""Vocabulary extension: new tokens for a tokenizer and its model, learned from the training text.

ASCII text keeps its tokens. The row of a new token in the input and output embedding is the mean of the rows of the
tokens that it merges (Gee et al. 2022, arXiv 2402.09977).
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
from jmedllm.models.tokenizer.byte_characters import BYTES
from jmedllm.models.tokenizer.encoding import Tokenizer
from jmedllm.models.tokenizer.load import load_tokenizer, read_tokenizer
from jmedllm.models.tokenizer.pieces import pieces, scheme
from jmedllm.settings import Settings

_ALIGNED = 128
"""An embedding that is padded to a multiple of this, or of a smaller power of two, stays padded."""

_WRITTEN = {byte: character for character, byte in BYTES.items()}


class Vocabulary(Settings):
    """New tokens for the base model, learned from the Japanese documents of the corpus and trained in stage 1."""

    add: int = Field(ge=1, le=100_000, description="number of new tokens; fewer if the text yields no more")


def extend(base: Path, texts: Iterable[str], settings: Vocabulary, folder: Path) -> None:
    """Write `base` with new tokens as a plain model directory.

    Loads the model once into host memory, in its stored format.

    Raises:
        InputError: the tokenizer is not a byte-level BPE, no token can be learned, or the base cannot be loaded.
    """
    tokenizer = load_tokenizer(base)
    extended, joined = extend_tokenizer(tokenizer, learn(tokenizer, texts, settings.add))
    network = load_network(base, "auto", torch.device("cpu"))
    extend_network(network, joined, size(tokenizer))
    save_model(network, extended, folder, {"base": str(base), "base_fingerprint": fingerprint(base)}, base)


def size(tokenizer: Tokenizer) -> int:
    """Return the number of embedding rows that a tokenizer needs: its highest id plus one."""
    numbers: Iterable[int] = tokenizer.get_vocab().values()
    return max(numbers) + 1


def require_extendable(tokenizer: Tokenizer) -> None:
    """Check that new tokens can be added to a tokenizer.

    Raises:
        InputError: it is not a byte-level BPE.
    """
    if scheme(tokenizer) != "byte-level" or type(tokenizer.backend_tokenizer.model).__name__ != "BPE":
        raise InputError(
            f"tokenizer {tokenizer.name_or_path}: only a byte-level BPE (Qwen2, Llama 3) can be extended; "
            "leave corpus.vocabulary out"
        )


def learn(tokenizer: Tokenizer, texts: Iterable[str], count: int) -> list[Merge]:
    """Learn merges for at most `count` new tokens, in order of savings; the order of texts does not matter.

    The distinct words of the texts are kept in memory.

    Raises:
        InputError: the tokenizer is not a byte-level BPE, or nothing in the texts can be merged.
    """
    require_extendable(tokenizer)
    merges = learn_merges(words(tokenizer, texts), pieces(tokenizer), count)
    if not merges:
        raise InputError(
            f"corpus.vocabulary: no two tokens occur together {LEAST} times in the Japanese documents; give more text"
        )
    return merges


def extend_tokenizer(tokenizer: Tokenizer, merges: Sequence[Merge]) -> tuple[Tokenizer, list[tuple[int, ...]]]:
    """Add merges to a tokenizer; return it with the old tokens that each new token merges.

    New ids follow the highest old one, in order. A merge that spells an existing token adds none and only makes that
    token reachable.
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
    """Add merges to the content of a tokenizer.json; returns the old ids that each new token merges."""
    vocabulary: dict[str, int] = description["model"]["vocab"]
    # Special tokens are often outside the vocabulary and would get other ids when it grows.
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
    """Set the row of each new token to the mean of the rows of the old tokens that it merges.

    Rows that only pad a larger embedding get the mean of all rows, so that they stay improbable outputs.

    Args:
        network: a causal model; its input and output embedding may be tied.
        joined: for each new token the ids of old tokens.
        first: id of the first new token; lower ids are old tokens.
    """
    rows = network.get_input_embeddings().weight.shape[0]
    wanted = first + len(joined)
    if wanted > rows:
        aligned = math.gcd(rows, _ALIGNED)
        network.resize_token_embeddings(math.ceil(wanted / aligned) * aligned, mean_resizing=False)
    layers = (network.get_input_embeddings(), network.get_output_embeddings())
    tensors = [getattr(layer, name, None) for layer in layers for name in ("weight", "bias")]
    with torch.no_grad():
        for values in {id(each): each for each in tensors if each is not None}.values():
            old = values[:first].float()
            values[rows:] = old.mean(0).to(values.dtype)
            for number, parts in enumerate(joined, first):
                values[number] = old[list(parts)].mean(0).to(values.dtype)
