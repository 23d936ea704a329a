"""An adapter folded into its base: a plain model directory that transformers loads by itself."""

from pathlib import Path
from typing import Any

import torch

from jmedllm.errors import InputError
from jmedllm.files import is_vacant, read_json
from jmedllm.models.folder import ORIGIN, fingerprint, quantization_of, require_adapter
from jmedllm.models.loading import load_adapter, load_network, load_tokenizer
from jmedllm.models.save import save_model


def merge(base: Path, adapter: Path, output: Path) -> str:
    """Write base plus adapter to `output` in the number format the base is stored in.

    The sum is taken in float32 and rounded once; an `output` that holds this very merge is left as it is.
    Returns the merged model's fingerprint.

    Raises:
        InputError: base or adapter is unusable, they do not belong together, or `output` is unwritable or
            holds anything else.
    """
    if output.resolve() in (base.resolve(), adapter.resolve()):
        raise InputError(f"merge: {output} is an input; choose another --output")
    tokenizer = load_tokenizer(base)
    require_adapter(adapter, base)
    origin = {"base": str(base), "base_fingerprint": fingerprint(base), "adapter": fingerprint(adapter)}
    if _same_merge(output, origin):
        return fingerprint(output)
    if not is_vacant(output):
        raise InputError(f"merge: {output} is not empty; choose another --output")
    network, stored = _as_trained(base, adapter)
    merged = load_adapter(network, adapter, base).merge_and_unload().to(stored)
    save_model(merged, tokenizer, output, origin)
    return fingerprint(output)


def _same_merge(output: Path, origin: dict[str, str]) -> bool:
    if not (output / ORIGIN).is_file():
        return False
    before = read_json(output / ORIGIN)
    wanted = {key: origin[key] for key in ("base_fingerprint", "adapter")} | {"fingerprint": fingerprint(output)}
    return isinstance(before, dict) and before.items() >= wanted.items()


def _as_trained(base: Path, adapter: Path) -> tuple[Any, torch.dtype]:
    """The base in float32 as the adapter knew it, and the number format it is stored in.

    An adapter trained on a 4-bit base corrects that base's rounding too, so it is merged into the 4-bit
    weights written out, not into the original ones.
    """
    cpu = torch.device("cpu")
    if quantization_of(adapter) == "none":
        network = load_network(base, "auto", cpu)
        stored = network.dtype
        return network.float(), stored
    network = load_network(base, "auto", cpu, quantization="nf4")
    stored = network.dtype
    return network.dequantize().float(), stored
