"""Tensors of a model directory, by their names in llama.cpp."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from jmedllm.deploy.gguf.architectures import Architecture
from jmedllm.deploy.gguf.edits import Edit, unchanged
from jmedllm.deploy.gguf.rope import rope_factors
from jmedllm.deploy.shards import tensors_in
from jmedllm.errors import InputError, not_installed
from jmedllm.models.folder import weight_files

_HEAD = "lm_head.weight"

_ENDINGS = (".weight", ".bias")

_LAYER = re.compile(r"model\.layers\.\d+\.")

_EXPERT = re.compile(r"\.experts\.(\d+)\.")

_BESIDE_TEXT = (
    "visual.",
    "vision_tower.",
    "vision_model.",
    "multi_modal_projector.",
    "audio_tower.",
    "embed_vision.",
    "embed_audio.",
    "mtp.",
)
"""Beginnings of names of tensors that text does not pass through; those of `mtp` only draft tokens."""


@dataclass(frozen=True, slots=True)
class InFile:
    """A tensor of the model's files.

    Attributes:
        file: the file.
        name: its name there.
        shape: its shape.
    """

    file: Path
    name: str
    shape: tuple[int, ...]

    def read(self) -> torch.Tensor:
        """Return the values."""
        with safe_open(self.file, "pt") as opened:
            values: torch.Tensor = opened.get_tensor(self.name)
        return values


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a tensor of llama.cpp comes from.

    Attributes:
        name: name of the text model's tensor in transformers, without the number of an expert.
        tensors: the tensor in the files; one of each expert, if they are stored one by one.
        part: which part of the tensor is taken.
        edit: how its values are changed.
    """

    name: str
    tensors: tuple[InFile, ...]
    part: Edit
    edit: Edit

    def shape(self, config: Any) -> tuple[int, ...]:
        """Return the shape in llama.cpp."""
        return tuple(self._made([torch.empty(each.shape, device="meta") for each in self.tensors], config).shape)

    def read(self, config: Any) -> torch.Tensor:
        """Return the values in llama.cpp, in the dtype of the model's files unless an edit needs another."""
        return self._made([each.read() for each in self.tensors], config).contiguous()

    def _made(self, tensors: list[torch.Tensor], config: Any) -> torch.Tensor:
        joined = torch.stack(tensors) if _EXPERT.search(self.tensors[0].name) else tensors[0]
        return self.edit(self.part(joined, config), config)


def text_name(name: str) -> str:
    """Return the name that a tensor has, or would have, in a model of text alone."""
    return name.replace("language_model.", "", 1)


def is_beside_text(name: str) -> bool:
    """Return whether text does not pass through a tensor, such as those of a vision tower."""
    return name.removeprefix("model.").startswith(_BESIDE_TEXT)


def left_out(folder: Path) -> int:
    """Return the number of tensors of a model that are not exported because text does not pass through them."""
    return sum(is_beside_text(name) for file in weight_files(folder) for name in tensors_in(file))


def stored_tensors(folder: Path, config: Any, architecture: Architecture) -> dict[str, Stored]:
    """Return for each of llama.cpp's names where it comes from, sorted by llama.cpp's name.

    Raises:
        InputError: llama.cpp has no name for a tensor, or the installed `gguf` does not know the architecture.
    """
    from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, get_tensor_name_map

    known = next((each for each in MODEL_ARCH if MODEL_ARCH_NAMES[each] == architecture.name), None)
    if known is None:
        raise not_installed(f"gguf: the architecture {architecture.name}", "gguf")
    names = get_tensor_name_map(known, config.num_hidden_layers)
    found: dict[str, Stored] = {}
    for name, tensors in _joined(folder, config).items():
        layer = match[0] if (match := _LAYER.match(name)) else ""
        inside = name.removeprefix(layer)
        for part_name, part in architecture.parts.get(inside, {inside: unchanged}).items():
            target = names.get_name(layer + part_name, try_suffixes=_ENDINGS) or names.get_name(layer + part_name)
            if target is None:
                raise InputError(
                    f"gguf: llama.cpp has no tensor for {tensors[0].name} in {tensors[0].file}; serve the model "
                    "directory with vLLM or transformers"
                )
            edits = (edit for pattern, edit in architecture.edits.items() if fnmatchcase(part_name, pattern))
            found[target] = Stored(name, tensors, part, next(edits, unchanged))
    return dict(sorted(found.items()))


def _joined(folder: Path, config: Any) -> dict[str, tuple[InFile, ...]]:
    """Return the tensors of each name of the text model; experts that are stored one by one have one name."""
    found: dict[str, dict[int, InFile]] = {}
    for file in weight_files(folder):
        for name, described in tensors_in(file).items():
            if is_beside_text(name) or name.endswith(".rotary_emb.inv_freq"):
                continue  # the latter is derived from the config
            text = text_name(name)
            if text == _HEAD and config.tie_word_embeddings:
                continue  # llama.cpp uses the embedding
            number = int(match[1]) if (match := _EXPERT.search(text)) else 0
            experts = found.setdefault(_EXPERT.sub(".experts.", text), {})
            experts[number] = InFile(file, name, tuple(described["shape"]))
    return {name: tuple(experts[number] for number in sorted(experts)) for name, experts in found.items()}


def shapes(folder: Path, config: Any, architecture: Architecture) -> list[tuple[str, tuple[int, ...]]]:
    """Return llama.cpp's name and the shape of each tensor, in the order of `exported_tensors`."""
    first = [(name, tuple(factors.shape)) for name, factors in rope_factors(config).items()]
    stored = stored_tensors(folder, config, architecture)
    return first + [(target, each.shape(config)) for target, each in stored.items()]


def exported_tensors(folder: Path, config: Any, architecture: Architecture) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield llama.cpp's name and the values of each tensor, one at a time."""
    yield from rope_factors(config).items()
    for target, stored in stored_tensors(folder, config, architecture).items():
        yield target, stored.read(config)
