"""Checks of adapter directories: base model, effect and tokenizer."""

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from jmedllm.errors import InputError
from jmedllm.files import read_json
from jmedllm.models.folder import (
    ORIGIN,
    TOKENIZER_FILES,
    Quantization,
    fingerprint,
    resolve,
    weight_files,
)
from jmedllm.models.tokenizer.encoding import Tokenizer, encode
from jmedllm.models.tokenizer.roundtrip import TEXTS
from jmedllm.progress import notice

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

_SAMPLE = 4096
"""Bytes of each tensor to compare: two models that agree in all of these are the same."""

_WRAPPER = re.compile(r"\.(modules_to_save|original_module|token_adapter|base_layer)(?=\.)")
"""Wrappers that peft puts around a module whose own weights it stores."""

_TOKENS = ".token_adapter.trainable_tokens_delta"
"""peft's name of individually trained token rows."""

_Sample = tuple[str, tuple[int, ...], str]
"""Dtype, shape and hash of the first bytes of a tensor."""


def quantization_of(adapter: Path) -> Quantization:
    """Return the quantization of the base during the adapter's training, if the adapter records it."""
    origin = read_json(adapter / ORIGIN) if (adapter / ORIGIN).is_file() else {}
    return "nf4" if origin.get("quantization") == "nf4" else "none"


def require_adapter(adapter: Path, base: Path) -> None:
    """Check that `adapter` is a PEFT directory and, as far as can be checked, was trained on `base`.

    Our adapters name their base by fingerprint. Others name it in their configuration: if that model is on this
    machine, its weights must be those of `base`; otherwise a notice on standard error reports a different name.

    Raises:
        InputError: it is not an adapter, or it was trained on another base.
    """
    if not (adapter / CONFIG).is_file():
        below = sorted(file.parent for file in adapter.glob(f"*/{CONFIG}"))
        fix = f"give {below[0]}" if below else "is this a PEFT adapter directory?"
        raise InputError(f"adapter {adapter}: no {CONFIG}; {fix}")
    if not (adapter / WEIGHTS).is_file():
        raise InputError(f"adapter {adapter}: no {WEIGHTS}")
    origin: dict[str, Any] | None = read_json(adapter / ORIGIN) if (adapter / ORIGIN).is_file() else None
    if origin is None or "fingerprint" in origin:  # the latter belongs to a model in the same directory
        _require_named_base(adapter, base)
        return
    actual = fingerprint(base)
    if origin.get("base_fingerprint") != actual:
        raise InputError(
            f"adapter {adapter}: trained on base {origin.get('base_fingerprint')} ({origin.get('base')}), "
            f"but {base} is {actual}; give the base it was trained on"
        )


def _require_named_base(adapter: Path, base: Path) -> None:
    named = _config(adapter).get("base_model_name_or_path")
    if not named:
        notice(f"adapter {adapter}: does not name its base; only the shapes of its tensors are checked against {base}")
        return
    try:
        there = resolve(str(named))
    except InputError:
        there = None
    if there is not None and (there / "config.json").is_file():
        alike = _compare(there, base)
        if alike == "different":
            raise InputError(
                f"adapter {adapter}: was trained on {named} ({CONFIG}), whose weights are not those of {base}; "
                f"give --model {named}, or correct base_model_name_or_path in {CONFIG}"
            )
        if alike == "same":
            return
    if Path(str(named)).name.casefold() not in _names(base):
        notice(
            f"adapter {adapter}: was trained on {named} ({CONFIG}); whether {base} is that model cannot be "
            "checked here, only its shapes"
        )


def _config(adapter: Path) -> dict[str, Any]:
    values = read_json(adapter / CONFIG)
    if not isinstance(values, dict):
        raise InputError(f"{adapter / CONFIG}: is not a JSON object; copy the adapter again")
    return values


def _names(base: Path) -> set[str]:
    """Return the possible names of a model directory: its own, its id in the cache, and those in its configuration."""
    config, origin = read_json(base / "config.json"), base / ORIGIN
    named = [config.get("_name_or_path"), read_json(origin).get("source") if origin.is_file() else None]
    cached = [part.rpartition("--")[2] for part in base.resolve().parts if part.startswith("models--")]
    return {name.casefold() for name in [base.resolve().name, *cached, *(Path(str(each)).name for each in named)]}


def _compare(one: Path, other: Path) -> Literal["same", "different", "unknown"]:
    """Return whether two model directories contain the same weights, by name, shape and first bytes of each tensor."""
    if one.resolve() == other.resolve():
        return "same"
    left, right = _samples(one), _samples(other)
    common = left.keys() & right.keys()
    if any(left[name][1] != right[name][1] for name in common):
        return "different"
    if not common or any(left[name][0] != right[name][0] for name in common):
        return "unknown"  # under other names, or in another dtype, whose bytes differ
    return "same" if all(left[name] == right[name] for name in common) else "different"


def _samples(folder: Path) -> dict[str, _Sample]:
    return {name: each for file in weight_files(folder) for name, each in _sample(file).items()}


@cache
def _sample(file: Path) -> dict[str, _Sample]:
    found = {}
    with file.open("rb") as handle:
        for name, entry in header(file).items():
            start, end = entry["data_offsets"]
            handle.seek(entry["offset"] + start)
            digest = hashlib.sha256(handle.read(min(end - start, _SAMPLE))).hexdigest()
            found[name] = (str(entry["dtype"]), tuple(entry["shape"]), digest)
    return found


def header(file: Path) -> dict[str, dict[str, Any]]:
    """Read dtype, shape and data_offsets of each tensor in a safetensors file; offsets are relative to `offset`.

    Raises:
        InputError: the file is not a safetensors file.
    """
    try:
        with file.open("rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
            if length > file.stat().st_size:
                raise ValueError("its header is longer than the file")
            entries: dict[str, dict[str, Any]] = json.loads(handle.read(length))
            if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
                raise ValueError("its header is not a list of tensors")
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: is not a safetensors file: {error}; copy it again") from error
    entries.pop("__metadata__", None)
    return {name: entry | {"offset": 8 + length} for name, entry in entries.items()}


def stored_twice(name: str, stored: Collection[str]) -> bool:
    """Whether peft wrote a tensor twice: also under its name within peft, or for a head tied to the embedding."""
    plain = _WRAPPER.sub("", name)
    end = name.rpartition(_TOKENS)[1]
    return (plain != name and plain in stored) or (bool(end) and sum(each.endswith(end) for each in stored) > 1)


def embedding_rows(adapter: Path) -> dict[str, int]:
    """Return the number of rows of each full embedding or head in an adapter, by the module's name in the base."""
    return {
        _WRAPPER.sub("", name).removeprefix("base_model.model.").removesuffix(".weight"): entry["shape"][0]
        for name, entry in header(adapter / WEIGHTS).items()
        if "lora_" not in name and name.endswith(".weight") and len(entry["shape"]) == 2
    }


def changes_nothing(adapter: Path) -> bool:
    """Return whether an adapter leaves every weight unchanged: its scale or one factor of each product is 0."""
    from safetensors.torch import load_file

    config, tensors = _config(adapter), load_file(adapter / WEIGHTS)
    if config.get("peft_type") != "LORA" or not all("lora_A" in name or "lora_B" in name for name in tensors):
        return False
    pairs = [(a, tensors.get(name.replace("lora_A", "lora_B"))) for name, a in tensors.items() if "lora_A" in name]
    is_scaled = config.get("lora_alpha") != 0
    return bool(pairs) and not any(is_scaled and b is not None and a.any() and b.any() for a, b in pairs)


def brings_tokenizer(adapter: Path, base: Path) -> bool:
    """Return whether an adapter's directory contains tokenizer files that differ from those of the base."""
    if (adapter / "config.json").is_file():  # a model directory: the files are the model's
        return False
    own = [file for name in TOKENIZER_FILES if (file := adapter / name).is_file()]
    return any(not (base / f.name).is_file() or (base / f.name).read_bytes() != f.read_bytes() for f in own)


def differences(own: Tokenizer, base: Tokenizer) -> list[str]:
    """List differences between two tokenizers that affect a model's input."""
    found = []
    mine: Mapping[str, int] = own.get_vocab()
    theirs: Mapping[str, int] = base.get_vocab()
    if new := mine.keys() - theirs.keys():
        found.append(f"{len(new):,} new tokens")
    if lost := theirs.keys() - mine.keys():
        found.append(f"{len(lost):,} tokens fewer")
    if moved := [token for token in mine.keys() & theirs.keys() if mine[token] != theirs[token]]:
        found.append(f"other ids of {len(moved):,} tokens")
    if own.eos_token_id != base.eos_token_id:
        found.append(f"{own.eos_token} as EOS")
    if encode(own, TEXTS) != encode(base, TEXTS):
        found.append("other tokens for the same text")
    if own.chat_template != base.chat_template:
        found.append("another chat template" if own.chat_template else "no chat template")
    return found
