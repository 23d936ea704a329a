"""Merge an adapter into its base: write a plain model directory that transformers loads without peft."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile

import torch
from pydantic import Field

from jmedllm.deploy.delta import read_deltas
from jmedllm.deploy.divergence import TEXTS, Divergence, divergence
from jmedllm.deploy.fold import file_changes, layout, stored_tensors
from jmedllm.deploy.shards import Change, rewrite
from jmedllm.errors import InputError
from jmedllm.files import atomic_folder, is_vacant, temporary_folder_beside, to_json, write_atomic
from jmedllm.models.adapters import quantization_of, require_adapter
from jmedllm.models.conversion.dequantize import dequantize
from jmedllm.models.folder import (
    CANARIES,
    ORIGIN,
    TOKENIZER_FILES,
    adapter_fingerprint,
    complete_origin,
    fingerprint,
    has_canaries,
    has_tokenizer,
    model_files,
    require_model,
    require_unambiguous,
    weight_files,
)
from jmedllm.models.loading import in_4_bits, layers_in_4_bits, load_structure
from jmedllm.models.tokenizer.load import adapter_tokenizer_differences, load_tokenizer
from jmedllm.models.weights.quantization import quantization_of as stored_quantization_of
from jmedllm.precision import Precision
from jmedllm.progress import progress
from jmedllm.settings import Settings

ACCEPTED = 0.01
"""Largest accepted divergence in nats per token. Rounding the sum to bfloat16 costs 1e-4; merging a 4-bit adapter into
the original weights would cost 0.05 (docs/merge.md)."""


class MergeConfig(Settings):
    """Settings of the merge stage, which runs if the recipe has an mpeft section."""

    accept_divergence: float = Field(
        ACCEPTED, gt=0, description="largest KL divergence of the merged from the trained model, in nats per token"
    )


@dataclass(frozen=True, slots=True)
class Merged:
    """Fingerprint of a merged model, and its divergence from the trained model."""

    fingerprint: str
    divergence: Divergence


def merge(
    base: Path,
    adapter: Path,
    output: Path,
    precision: Precision,
    *,
    texts: Sequence[str] = TEXTS,
    accepted: float = ACCEPTED,
) -> Merged:
    """Write base plus adapter to `output`, tensor by tensor, in the dtype of the base's files, or in bfloat16 if those
    are quantized.

    The sum is computed in float32 and rounded once. An adapter trained on a 4-bit base also corrects that base's
    rounding, so it is added to the dequantized 4-bit weights, not to the original ones. An `output` that already
    contains this merge is left unchanged.

    Args:
        base: directory of the model on which the adapter was trained.
        adapter: PEFT directory.
        output: directory to write; removed again if the merge fails.
        precision: device of the computation, and dtype of the adapter's training.
        texts: texts on which the merged model is compared with the trained one.
        accepted: largest accepted divergence in nats per token.

    Raises:
        InputError: base or adapter is unusable, they do not belong together, the merged model differs from
            the trained one by more than `accepted`, or `output` is not writable or contains anything else.
    """
    if output.resolve() in (base.resolve(), adapter.resolve()):
        raise InputError(f"merge: {output} is an input; choose another --output")
    require_model(base)
    require_unambiguous(base, adapter=adapter)
    require_adapter(adapter, base)
    load_tokenizer(base, adapter)
    origin = {"base": str(base), "base_fingerprint": fingerprint(base), "adapter": adapter_fingerprint(adapter)}
    before = complete_origin(output, {key: origin[key] for key in ("base_fingerprint", "adapter")})
    if before and "divergence" in before:
        return Merged(before["fingerprint"], Divergence(**before["divergence"]))
    if not is_vacant(output):
        raise InputError(f"merge: {output} is not empty; choose another --output")
    with _plain(base, output.parent) as plain, atomic_folder(output, ORIGIN) as temporary:
        changes = _changes(plain, adapter, precision)
        for file in model_files(plain):
            copyfile(file, temporary / file.name)
        if adapter_tokenizer_differences(adapter, base):
            _replace_tokenizer(adapter, temporary)
        with progress("merge", len(weight_files(plain))) as advance:
            for file in weight_files(plain):
                rewrite(file, temporary / file.name, changes)
                advance(1, file.name)
        found = divergence(base, adapter, temporary, texts, precision)
        if not found.nats <= accepted:
            raise InputError(
                f"merge: the merged model differs from the trained one by {found.nats} nats per token, more "
                f"than {accepted}; accept it with --accept-divergence (merge.accept_divergence in a recipe)"
            )
        merged = fingerprint(temporary)
        canaries = {CANARIES: "trained"} if has_canaries(base) or has_canaries(adapter) else {}
        whole = origin | canaries | {"divergence": found.record(), "fingerprint": merged}
        write_atomic(temporary / ORIGIN, to_json(whole, indent=2) + "\n")
    return Merged(merged, found)


@contextmanager
def _plain(base: Path, beside: Path) -> Iterator[Path]:
    """Yield the base with plain weights: itself, or a temporary copy in bfloat16 if its weights are quantized."""
    if stored_quantization_of(base) is None:
        yield base
        return
    with temporary_folder_beside(beside / "dequantized") as folder:
        dequantize(base, folder / "model", torch.bfloat16)
        yield folder / "model"


def _replace_tokenizer(adapter: Path, merged: Path) -> None:
    """Replace the base's tokenizer or chat template by the adapter's, if it has one."""
    brought = [name for name in TOKENIZER_FILES if (adapter / name).is_file()]
    for name in TOKENIZER_FILES if has_tokenizer(adapter) else brought:
        (merged / name).unlink(missing_ok=True)
    for name in brought:
        copyfile(adapter / name, merged / name)


def _changes(base: Path, adapter: Path, precision: Precision) -> dict[str, Change]:
    """Return the changes of the base's tensors, by their names in its files.

    Raises:
        InputError: the adapter changes a layer that the base lacks, or whose shape or dtype does not match.
    """
    network = load_structure(base)
    where = layout(base, network, stored_tensors(base))
    deltas = read_deltas(adapter, deepcopy(network))  # transformers' rules need the network without adapter layers
    layers = layers_in_4_bits(base) if quantization_of(adapter) == "nf4" else {}
    rounded = {f"{layer}.weight": transposed for layer, transposed in layers.items()}
    where.require({name: delta.shape for name, delta in deltas.items()})

    def change(name: str, weight: torch.Tensor) -> torch.Tensor:
        weight = weight.to(precision.device)
        if name in rounded:
            weight = in_4_bits(weight.to(precision.dtype), transposed=rounded[name]).float()
        return deltas[name].add_to(weight) if name in deltas else weight

    return file_changes(where, deltas.keys() | rounded.keys(), change)
