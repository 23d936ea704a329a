"""An adapter folded into its base: a plain model directory that transformers loads by itself."""

from pathlib import Path

import torch

from jmedllm.files import to_json, write_atomic
from jmedllm.models.folder import ORIGIN, fingerprint
from jmedllm.models.local import load_adapter, load_network, load_tokenizer
from jmedllm.models.save import save_model


def merge(base: Path, adapter: Path, output: Path) -> str:
    """Write base plus adapter to `output` in the number format the base is stored in.

    The sum is taken in float32 and rounded once. Returns the merged model's fingerprint.

    Raises:
        InputError: base or adapter is unusable, they do not belong together, or `output` is unwritable.
    """
    tokenizer = load_tokenizer(base)
    network = load_network(base, "auto", torch.device("cpu"))
    stored = network.dtype
    merged = load_adapter(network.float(), adapter, base).merge_and_unload().to(stored)
    save_model(merged, tokenizer, output)
    origin = {"base": str(base), "base_fingerprint": fingerprint(base), "adapter": fingerprint(adapter)}
    write_atomic(output / ORIGIN, to_json(origin, indent=2) + "\n")
    return fingerprint(output)
