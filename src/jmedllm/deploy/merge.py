"""An adapter folded into its base: a plain model directory that transformers loads by itself."""

from pathlib import Path
from typing import Any

import torch

from jmedllm.files import read_json, to_json, write_atomic
from jmedllm.models.folder import ORIGIN, fingerprint, require_adapter
from jmedllm.models.local import load_adapter, load_network, load_tokenizer
from jmedllm.models.save import save_model


def merge(base: Path, adapter: Path, output: Path) -> str:
    """Write base plus adapter to `output` in the number format the base is stored in.

    The sum is taken in float32 and rounded once. Returns the merged model's fingerprint.

    Raises:
        InputError: base or adapter is unusable, they do not belong together, or `output` is unwritable.
    """
    tokenizer = load_tokenizer(base)
    require_adapter(adapter, base)
    network, stored = _as_trained(base, adapter)
    merged = load_adapter(network, adapter, base).merge_and_unload().to(stored)
    save_model(merged, tokenizer, output)
    origin = {"base": str(base), "base_fingerprint": fingerprint(base), "adapter": fingerprint(adapter)}
    write_atomic(output / ORIGIN, to_json(origin, indent=2) + "\n")
    return fingerprint(output)


def _as_trained(base: Path, adapter: Path) -> tuple[Any, torch.dtype]:
    """The base in float32 as the adapter knew it, and the number format it is stored in.

    An adapter trained on a 4-bit base corrects that base's rounding too, so it is merged into the 4-bit
    weights written out, not into the original ones.
    """
    origin = read_json(adapter / ORIGIN) if (adapter / ORIGIN).is_file() else {}
    cpu = torch.device("cpu")
    if origin.get("quantization") != "nf4":
        network = load_network(base, "auto", cpu)
        stored = network.dtype
        return network.float(), stored
    network = load_network(base, "auto", cpu, quantization="nf4")
    stored = network.dtype
    return network.dequantize().float(), stored
