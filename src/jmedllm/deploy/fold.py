"""Apply an adapter's updates to the tensors in the files of its base."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from jmedllm.deploy.shards import FORMATS, Change, tensors_in
from jmedllm.errors import InputError
from jmedllm.models.folder import weight_files
from jmedllm.models.weights.dequantized import STORED_NAMES, dequantized
from jmedllm.models.weights.mapping import Conversion, conversions
from jmedllm.models.weights.quantization import quantization_of

Shape = tuple[int, ...]
ChangeParameter = Callable[[str, torch.Tensor], torch.Tensor]
"""Called with the name and value of a parameter; returns the new value."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in a file."""

    file: Path
    dtype: str
    shape: Shape


def stored_tensors(base: Path) -> dict[str, StoredTensor]:
    """Return all tensors in the weight files of a model, by name; of quantized weights those after dequantization.

    Raises:
        InputError: a file is not a safetensors file, or is truncated; or weights cannot be decoded.
    """
    if quantization_of(base):
        return {
            each.name: StoredTensor(file, STORED_NAMES[each.dtype], each.shape)
            for file, tensors in dequantized(base, torch.bfloat16).tensors.items()
            for each in tensors
        }
    return {
        name: StoredTensor(file, entry["dtype"], tuple(entry["shape"]))
        for file in weight_files(base)
        for name, entry in tensors_in(file).items()
    }


def tensors_to_write(network: Any, folder: Path) -> dict[str, StoredTensor]:
    """Return all tensors that `save_model` would write of a network, by name; its weights may be missing."""
    from transformers.core_model_loading import revert_weight_conversion

    written = revert_weight_conversion(network, network.state_dict())
    file = folder / "model.safetensors"
    return {name: StoredTensor(file, "F32", tuple(value.shape)) for name, value in written.items()}


@dataclass(frozen=True, slots=True)
class Layout:
    """Mapping of a network's parameters to the tensors in its files.

    Attributes:
        base: the model directory.
        stored: all tensors in its files.
        made: shape and conversion of each parameter, by name.
        shared: parameters that more than one module uses.
    """

    base: Path
    stored: Mapping[str, StoredTensor]
    made: Mapping[str, tuple[Shape, Conversion]]
    shared: Collection[str]

    def require(self, wanted: Mapping[str, Shape]) -> None:
        """Check that each parameter can be changed in the files without changing others.

        Args:
            wanted: shape of each parameter.

        Raises:
            InputError: a parameter has no tensor in the files, has another shape, is shared by layers, has a dtype
                that does not support addition, or cannot be written back by transformers.
        """
        for name, shape in wanted.items():
            layer = name.removesuffix(".weight")
            found, conversion = self.made.get(name, (None, None))
            if conversion is None or found != shape:
                there = "no such layer" if found is None else f"{list(found)} there"
                raise InputError(
                    f"adapter: adapts {layer} {list(shape)}, but {self.base} has {there}; give the base it was "
                    "trained on"
                )
            if name in self.shared:
                raise InputError(
                    f"adapter target {layer} shares its weights with another layer, which a merge would change "
                    "too; leave it out of targets"
                )
            _require_writable(self.stored, conversion)


def _require_writable(stored: Mapping[str, StoredTensor], conversion: Conversion) -> None:
    for name in conversion.names:
        if stored[name].dtype not in FORMATS:
            raise InputError(
                f"{stored[name].file}: {name} is stored as {stored[name].dtype}, to which no update can be added; "
                f"give a base in {', '.join(FORMATS)}"
            )
    empty = {name: _empty(stored[name]) for name in conversion.names}
    back = conversion.to_stored(conversion.to_parameters(empty))
    if {name: value.shape for name, value in back.items()} != {name: value.shape for name, value in empty.items()}:
        raise InputError(
            f"{conversion.first}: transformers cannot write it as its files have it; leave it out of targets"
        )


def _empty(stored: StoredTensor) -> torch.Tensor:
    return torch.empty(stored.shape, dtype=FORMATS.get(stored.dtype, torch.float32), device="meta")


def layout(base: Path, network: Any, stored: Mapping[str, StoredTensor]) -> Layout:
    """Map the parameters of a network to the tensors in its files.

    Args:
        base: the model directory.
        network: structure of the model, from `load_structure`, without an adapter.
        stored: tensors of its files, present or planned.
    """
    made = {
        name: (tuple(value.shape), conversion)
        for conversion in conversions(network, stored)
        for name, value in conversion.to_parameters({n: _empty(stored[n]) for n in conversion.names}).items()
    }
    modules = dict(network.named_modules())
    uses = Counter(id(each) for module in modules.values() for each in module._parameters.values())
    shared = {name for name, each in network.named_parameters(remove_duplicate=False) if uses[id(each)] > 1}
    return Layout(base, stored, made, shared)


def file_changes(where: Layout, names: Collection[str], change: ChangeParameter) -> dict[str, Change]:
    """Return the changes of the tensors in the files that change these parameters, by the names in the files."""
    changes: dict[str, Change] = {}
    for conversion in {id(each): each for _, each in (where.made[name] for name in names)}.values():
        group = _Group(where.stored, conversion, frozenset(names), change)
        changes |= {name: group.changed(name) for name in conversion.names}
    return changes


@dataclass(slots=True)
class _Group:
    """Tensors of the files that are read and changed together and written one by one."""

    stored: Mapping[str, StoredTensor]
    conversion: Conversion
    names: frozenset[str]
    change: ChangeParameter
    ready: dict[str, torch.Tensor] = field(default_factory=dict)

    def changed(self, name: str) -> Change:
        """Return a function that returns the new value of a tensor once and then frees it."""

        def value(old: torch.Tensor) -> torch.Tensor:
            if not self.ready:
                self.ready = self._all({name: old})
            return self.ready.pop(name)

        return value

    def _all(self, read: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        from safetensors import safe_open

        for name in self.conversion.names:
            if name not in read:
                with safe_open(self.stored[name].file, "pt") as file:
                    read[name] = file.get_tensor(name)
        parameters = self.conversion.to_parameters(read)
        read.clear()
        for name in self.names & parameters.keys():
            parameters[name] = self.change(name, parameters[name]).to("cpu", parameters[name].dtype)
        return self.conversion.to_stored(parameters)
