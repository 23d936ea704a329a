"""Recognize quantized weights, by config.json and by the tensors themselves, and say what can be done with them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from jmedllm.errors import InputError
from jmedllm.files import read_json
from jmedllm.models.adapters import header
from jmedllm.models.folder import weight_files
from jmedllm.models.weights.decode import LAYOUTS, Layout

UNKNOWN = "unknown"
"""Name of a quantization that only the dtypes of the tensors show."""

CONFIG_KEYS = ("quantization_config", "compression_config")
"""Keys of config.json, and of the configs in it, that describe quantized weights."""


@dataclass(frozen=True, slots=True)
class Method:
    """A quantization method of stored weights.

    Attributes:
        title: name for messages.
        needs: what transformers needs to compute with such weights.
        runs_on: whether transformers can compute with them on a device, without dequantizing them.
        trains: whether an adapter can be trained on the frozen weights as they are stored.
        four_bits: whether linear layers take 4 bits in memory, like `quantization: nf4`.
    """

    title: str
    needs: str
    runs_on: Callable[[torch.device], bool]
    trains: bool = False
    four_bits: bool = False


def _has(*packages: str) -> Callable[[torch.device], bool]:
    return lambda device: all(find_spec(package) is not None for package in packages)


def _is_gpu(capability: tuple[int, int], *packages: str) -> Callable[[torch.device], bool]:
    def check(device: torch.device) -> bool:
        return device.type == "cuda" and torch.cuda.get_device_capability(device) >= capability and has(device)

    has = _has(*packages)
    return check


def _never(_: torch.device) -> bool:
    return False


_GPU = "a CUDA GPU of capability 8.9 or later"

METHODS = {
    "mxfp4": Method("MXFP4", "a CUDA GPU and the packages triton and kernels", _is_gpu((7, 5), "triton", "kernels")),
    "fp8": Method("FP8", f"{_GPU} and the package kernels", _is_gpu((8, 9), "kernels")),
    "mxfp8": Method("MXFP8", f"{_GPU} and the package kernels", _is_gpu((8, 9), "kernels")),
    "fbgemm_fp8": Method(
        "FBGEMM FP8", f"{_GPU} and the package fbgemm_gpu", _is_gpu((8, 9), "fbgemm_gpu")
    ),
    "gptq": Method("GPTQ", "the packages gptqmodel and optimum", _has("gptqmodel", "optimum")),
    "awq": Method("AWQ", "the package gptqmodel", _has("gptqmodel")),
    "compressed-tensors": Method(
        "compressed-tensors", "the package compressed-tensors", _has("compressed_tensors")
    ),
    "modelopt": Method("ModelOpt", "another program, because transformers cannot read it", _never),
    "bitsandbytes_4bit": Method(
        "bitsandbytes, 4 bits", "the package bitsandbytes", _has("bitsandbytes"), trains=True, four_bits=True
    ),
    "bitsandbytes_8bit": Method("bitsandbytes, 8 bits", "the package bitsandbytes", _has("bitsandbytes")),
}  # fmt: skip
"""The methods that can be dequantized here, by their names in `quantization_config`, with bitsandbytes' two apart."""


@dataclass(frozen=True, slots=True)
class Quantization:
    """The quantization of a model's weights.

    Attributes:
        name: key of `METHODS`, or another name from config.json; or `UNKNOWN`.
        config: the `quantization_config`; empty if there is none.
    """

    name: str
    config: Mapping[str, Any]

    @property
    def method(self) -> Method | None:
        """The method; None for one that is not supported here."""
        return METHODS.get(self.name)

    @property
    def title(self) -> str:
        """Name for messages."""
        return self.method.title if self.method else self.name

    def runs_on(self, device: torch.device) -> bool:
        """Return whether transformers may be able to compute with the weights as they are stored."""
        return self.method.runs_on(device) if self.method else self.name != UNKNOWN


@dataclass(frozen=True, slots=True)
class StoredWeight:
    """A quantized weight in the files of a model.

    Attributes:
        name: name of the plain weight.
        layout: how it is stored.
        parts: names of its tensors, by the ends of `Layout`; that of the numbers is under "".
    """

    name: str
    layout: Layout
    parts: Mapping[str, str]


def quantization_in(config: Mapping[str, Any]) -> Quantization | None:
    """Return the quantization that a config.json states, at its top or in one of its configs, if any."""
    for part in (config, *(value for value in config.values() if isinstance(value, Mapping))):
        for key in CONFIG_KEYS:
            found = part.get(key)
            if isinstance(found, Mapping) and found:
                return Quantization(_name(found, key), found)
    return None


def _name(found: Mapping[str, Any], key: str) -> str:
    bits = next(
        (bits for bits in ("4bit", "8bit") if found.get(f"load_in_{bits}") or found.get(f"_load_in_{bits}")), ""
    )
    name = str(
        found.get("quant_method")
        or ("bitsandbytes" if bits else "compressed-tensors" if "config_groups" in found else key)
    )
    return f"bitsandbytes_{bits or '4bit'}" if name == "bitsandbytes" else name


def stored_weights(stored: Mapping[str, Mapping[str, Any]]) -> list[StoredWeight]:
    """Return the quantized weights among the tensors of a model's files.

    Args:
        stored: `dtype` and `shape` of each tensor, by name.
    """
    found: list[StoredWeight] = []
    claimed: set[str] = set()
    for layout in LAYOUTS:
        for name, entry in stored.items():
            if entry["dtype"] not in layout.dtypes or not name.endswith(layout.numbers) or name in claimed:
                continue
            start = name.removesuffix(layout.numbers)
            parts = {"": name} | {
                end: start + end for end in (*layout.beside, *layout.optional) if start + end in stored
            }
            shapes = {end: tuple(stored[each]["shape"]) for end, each in parts.items()}
            if all(end in parts for end in layout.beside) and layout.matches(shapes):
                found.append(StoredWeight(start + layout.weight, layout, parts))
                claimed |= {*parts.values()}
    return found


def quantization_of(folder: Path) -> Quantization | None:
    """Return the quantization of a model directory, by its config.json and by the headers of its weight files.

    Raises:
        InputError: config.json states a quantization that the tensors do not have.
    """
    config = read_json(folder / "config.json")
    stated = quantization_in(config) if isinstance(config, dict) else None
    stored = headers(folder)
    dtypes = {str(entry["dtype"]) for entry in stored.values()}
    if dtypes <= _PLAIN and stated and stored:
        raise InputError(
            f"model {folder}: config.json states {stated.title} ({_key(config)}), but all its tensors are plain "
            f"numbers ({', '.join(sorted(dtypes))}); remove that key from config.json"
        )
    if stated or dtypes <= _PLAIN:
        return stated
    if weights := stored_weights(stored):
        return Quantization(weights[0].layout.methods[0], _config_beside(folder))
    return Quantization(UNKNOWN, {}) if any(dtype.startswith("F8_") for dtype in dtypes) else None


def _config_beside(folder: Path) -> Mapping[str, Any]:
    """Return the content of the file in which early GPTQ and AWQ models state their quantization."""
    files = [folder / name for name in ("quantize_config.json", "quant_config.json")]
    found: object = next((read_json(file) for file in files if file.is_file()), {})
    return found if isinstance(found, Mapping) else {}


_PLAIN = {"F64", "F32", "F16", "BF16"}


def _key(config: Mapping[str, Any]) -> str:
    places = [("", config), *((f"{name}.", value) for name, value in config.items() if isinstance(value, Mapping))]
    return next(f"{start}{key}" for start, part in places for key in CONFIG_KEYS if part.get(key))


def headers(folder: Path) -> dict[str, dict[str, Any]]:
    """Return `file`, `dtype` and `shape` of each tensor in a model's weight files."""
    return {
        name: {"file": file, "dtype": entry["dtype"], "shape": tuple(entry["shape"])}
        for file in weight_files(folder)
        for name, entry in header(file).items()
    }


def without_quantization(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a config.json without what it states on quantization."""
    return {
        key: without_quantization(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if key not in CONFIG_KEYS
    }


def require_trainable_weights(found: Quantization | None, name: str, *, adapter: bool) -> None:
    """Check that a base with these weights can be trained as they are stored.

    Args:
        found: quantization of the base; None if its weights are plain numbers.
        name: name of the base, for the message.
        adapter: whether only an adapter is trained.

    Raises:
        InputError: it cannot; the message has the key to set.
    """
    if found is None or (adapter and found.method and found.method.trains):
        return
    if found.method is None:
        raise _unsupported(f"base {name}", found)
    what = "no adapter can be trained on them" if adapter else "they cannot be trained"
    raise InputError(
        f"base {name}: its weights are quantized ({found.title}), so {what} as they are; "
        "set base.dequantize: true, which loads them in bfloat16"
    )


def _unsupported(what: str, found: Quantization) -> InputError:
    """Return the error for weights that cannot be dequantized here."""
    if found.name == UNKNOWN:
        return InputError(
            f"{what}: its weights are stored in 8 bits, but config.json states no quantization and no scales are "
            "beside them; copy config.json and weights again, or take its release in bfloat16"
        )
    return InputError(
        f"{what}: its weights are quantized ({found.title}) in a way that cannot be dequantized here; take its "
        "release in bfloat16"
    )


def require_runnable(found: Quantization | None, folder: Path, device: torch.device) -> None:
    """Check that a model with these weights can be evaluated as they are stored.

    Raises:
        InputError: it cannot on this machine; the message has the option to set.
    """
    if found is None or found.runs_on(device):
        return
    if found.method is None:
        raise _unsupported(f"model {folder}", found)
    raise InputError(
        f"model {folder}: its weights are quantized ({found.title}); to compute with them, transformers needs "
        f"{found.method.needs}; load them in bfloat16 with --dequantize (base.dequantize: true in a recipe)"
    )


def require_method(found: Quantization | None, what: str) -> Quantization:
    """Check that weights are quantized by a method that can be dequantized here.

    Args:
        found: quantization of a model; None if its weights are plain numbers.
        what: name of the model, for the message.

    Raises:
        InputError: they are plain numbers, or the method is not supported.
    """
    if found is None:
        raise InputError(f"{what}: its weights are not quantized; leave dequantize out")
    if found.method is None:
        raise _unsupported(what, found)
    return found


def require_decodable(folder: Path) -> Quantization:
    """Check that a model directory can be dequantized.

    Returns:
        Its quantization.

    Raises:
        InputError: its weights are plain numbers, or stored in a way that cannot be decoded.
    """
    found = require_method(quantization_of(folder), f"model {folder}")
    weights = stored_weights(headers(folder))
    if not weights:
        raise _unsupported(f"model {folder}", found)
    if found.name == "gptq" and not found.config:
        raise InputError(
            f"model {folder}: config.json states no quantization, but its weights are stored like {found.title}, "
            "whose zeros depend on the version that it states; copy config.json again"
        )
    if found.config and (foreign := next((each for each in weights if found.name not in each.layout.methods), None)):
        raise InputError(
            f"model {folder}: config.json states {found.title}, but {foreign.name} is stored like "
            f"{' or '.join(METHODS[name].title for name in foreign.layout.methods)}; copy config.json again"
        )
    return found
