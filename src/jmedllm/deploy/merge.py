"""An adapter folded into its base: a plain model directory that transformers loads by itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import copyfile

import torch
from pydantic import Field

from jmedllm.deploy.delta import Delta, read_deltas
from jmedllm.deploy.divergence import TEXTS, Divergence, divergence
from jmedllm.deploy.shards import Change, rewrite, tensors_in
from jmedllm.errors import InputError
from jmedllm.files import atomic_folder, is_vacant, read_json, to_json, write_atomic
from jmedllm.models.folder import (
    ORIGIN,
    adapter_fingerprint,
    fingerprint,
    model_files,
    quantization_of,
    require_adapter,
    require_model,
    require_unambiguous,
    weight_files,
)
from jmedllm.models.loading import in_4_bits, layers_in_4_bits, load_tokenizer
from jmedllm.precision import Precision
from jmedllm.progress import progress
from jmedllm.settings import Settings

ACCEPTED = 0.01
"""Nats a token. Rounding the sum to bfloat16 costs 1e-4, a merge of a 4-bit adapter into the original weights 0.05
(docs/merge.md)."""


class Merging(Settings):
    """What a recipe says of the merge, which is done wherever there is an mpeft section."""

    accept_divergence: float = Field(
        ACCEPTED, gt=0, description="largest KL of the merged from the trained model, in nats a token"
    )


@dataclass(frozen=True, slots=True)
class Merged:
    """A merged model by its fingerprint, and how far it is from the model that was trained."""

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
    """Write base plus adapter to `output`, tensor by tensor, in the number format the base is stored in.

    The sum is taken in float32 and rounded once. An adapter trained on a 4-bit base corrects that base's
    rounding too, so it is added to the 4-bit weights written out, not to the original ones. An `output` that
    holds this very merge is left as it is.

    Args:
        base: directory of the model the adapter was trained on.
        adapter: PEFT directory.
        output: where to write; nothing stays of a merge that is refused.
        precision: where the sums are taken, and the number format the adapter was trained in.
        texts: on which the merged model is held against the trained one.
        accepted: largest divergence, in nats a token.

    Raises:
        InputError: base or adapter is unusable, they do not belong together, the merged model differs from
            the trained one by more than `accepted`, or `output` is unwritable or holds anything else.
    """
    if output.resolve() in (base.resolve(), adapter.resolve()):
        raise InputError(f"merge: {output} is an input; choose another --output")
    require_model(base)
    require_unambiguous(base, adapter=adapter)
    load_tokenizer(base)
    require_adapter(adapter, base)
    origin = {"base": str(base), "base_fingerprint": fingerprint(base), "adapter": adapter_fingerprint(adapter)}
    if before := _same_merge(output, origin):
        return before
    if not is_vacant(output):
        raise InputError(f"merge: {output} is not empty; choose another --output")
    changes = _changes(base, adapter, precision)
    with atomic_folder(output, ORIGIN) as temporary:
        for file in model_files(base):
            copyfile(file, temporary / file.name)
        with progress("merge", len(weight_files(base))) as advance:
            for file in weight_files(base):
                rewrite(file, temporary / file.name, changes)
                advance(1, file.name)
        found = divergence(base, adapter, temporary, texts, precision)
        if not found.nats <= accepted:
            raise InputError(
                f"merge: the merged model differs from the trained one by {found.nats} nats a token, more "
                f"than {accepted}; accept it with --accept-divergence (merge.accept_divergence in a recipe)"
            )
        merged = fingerprint(temporary)
        whole = origin | {"divergence": found.record(), "fingerprint": merged}
        write_atomic(temporary / ORIGIN, to_json(whole, indent=2) + "\n")
    return Merged(merged, found)


def _same_merge(output: Path, origin: dict[str, str]) -> Merged | None:
    if not (output / ORIGIN).is_file():
        return None
    before = read_json(output / ORIGIN)
    wanted = {key: origin[key] for key in ("base_fingerprint", "adapter")} | {"fingerprint": fingerprint(output)}
    if not isinstance(before, dict) or not before.items() >= wanted.items() or "divergence" not in before:
        return None
    return Merged(wanted["fingerprint"], Divergence(**before["divergence"]))


def _changes(base: Path, adapter: Path, precision: Precision) -> dict[str, Change]:
    """What happens to the tensors of the base, by the names they have in its files.

    Raises:
        InputError: the adapter adapts a layer that the base does not have, or not in this shape.
    """
    deltas = read_deltas(adapter)
    rounded = layers_in_4_bits(base) if quantization_of(adapter) == "nf4" else frozenset()
    shapes = {name: tuple(entry["shape"]) for f in weight_files(base) for name, entry in tensors_in(f).items()}
    changes: dict[str, Change] = {}
    for layer in sorted(deltas.keys() | rounded):
        name = _stored_name(layer, shapes)
        delta = deltas.get(layer)
        if name is None or (delta is not None and shapes[name] != delta.shape):
            there = "no such layer" if name is None else f"{list(shapes[name])} there"
            of = "" if delta is None else f" {list(delta.shape)}"
            raise InputError(
                f"adapter {adapter}: adapts {layer}{of}, but {base} has {there}; give the base it was trained on"
            )
        changes[name] = partial(_changed, delta=delta, rounded=layer in rounded, precision=precision)
    return changes


def _stored_name(layer: str, stored: Mapping[str, object]) -> str | None:
    """Name of a layer's weight in the files; some leave the first part of the layer's name out."""
    names = (f"{layer}.weight", f"{layer.partition('.')[2]}.weight")
    return next((name for name in names if name in stored), None)


def _changed(weight: torch.Tensor, delta: Delta | None, rounded: bool, precision: Precision) -> torch.Tensor:
    weight = weight.to(precision.device)
    weight = (in_4_bits(weight.to(precision.dtype)) if rounded else weight).float()
    return weight if delta is None else delta.add_to(weight)
