"""Load weights and adapters from model directories; errors are one line."""

import re
import sys
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from ctypes import CDLL
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch

from jmedllm.errors import InputError, is_out_of_memory, not_installed
from jmedllm.models.adapters import (
    WEIGHTS,
    changes_nothing,
    embedding_rows,
    header,
    require_adapter,
    stored_twice,
)
from jmedllm.models.classes import class_for, sees, whole_class_for
from jmedllm.models.folder import Quantization, require_model
from jmedllm.models.layers import parts_beside_text
from jmedllm.models.libraries import be_quiet
from jmedllm.models.weights.dequantized import STORED_NAMES, DequantizedTensor, dequantized
from jmedllm.models.weights.mapping import conversions
from jmedllm.models.weights.quantization import (
    headers,
    quantization_in,
    quantization_of,
    without_quantization,
)
from jmedllm.models.weights.tensor_check import (
    WHOLE_NUMBERS,
    require_fractions,
    require_no_difference,
    require_tensors,
)
from jmedllm.progress import notice

_M_MMAP_THRESHOLD = -3
"""glibc's number of the parameter for the size from which it maps memory separately."""

_NO_ADAPTER = {"subfolder": "config.json"}
"""Subfolder in which transformers looks for an adapter to apply by itself. There can be none below a file; the default
would be the model directory."""


_STRUCTURE: dict[str, Any] = {"device_map": {"": "meta"}}


@contextmanager
def loading(what: str) -> Iterator[None]:
    """Convert any exception of a library about unusable files into one line."""
    try:
        yield
    except (
        Exception
    ) as error:  # tokenizers and transformers raise many kinds of exceptions, including plain `Exception`
        if isinstance(error, InputError) or is_out_of_memory(error):
            raise
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        # peft and torch put the reason after a heading that ends with a colon.
        reason = " ".join(lines[:2] if lines and lines[0].endswith(":") else lines[:1])
        if isinstance(error, KeyError):
            reason = f"{reason} is missing"
        raise InputError(f"{what}: cannot be loaded: {reason or type(error).__name__}") from error


def read_config(folder: Path) -> Any:
    """Read the transformers configuration of a model directory.

    Raises:
        InputError: the file is missing or broken, or of an architecture that transformers does not know.
    """
    from transformers import AutoConfig

    with loading(f"model {folder}"):
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)


def _class_of(folder: Path) -> Any:
    return class_for(read_config(folder))


def load_network(
    folder: Path,
    dtype: torch.dtype | Literal["auto"],
    device: torch.device,
    *,
    quantization: Quantization = "none",
    dequantize: bool = False,
) -> Any:
    """Load the weights of a model directory (safetensors only, no code from the directory).

    Args:
        folder: the model directory.
        dtype: dtype of the weights; "auto" keeps the stored one.
        device: device of the weights.
        quantization: "nf4" quantizes linear layers to 4 bits with double quantization (Dettmers et al. 2023,
            arXiv 2305.14314) and computes in bfloat16. Layers that text does not pass through keep their weights.
        dequantize: dequantize weights that are stored quantized, one tensor at a time.

    Raises:
        InputError: the directory is not a loadable model.
    """
    stored = None if dequantize else quantization_of(folder)
    if stored and quantization == "nf4" and not (stored.method and stored.method.four_bits):
        raise InputError(
            f"model {folder}: its weights are already quantized ({stored.title}); dequantize them too "
            "(--dequantize, base.dequantize: true in a recipe), or leave the quantization nf4 out"
        )
    options = {"quantization_config": _nf4(folder)} if quantization == "nf4" and not stored else {}
    if options or stored:
        options["device_map"] = {"": device}
    is_packed_here = bool(options) and device.type == "cpu"
    with _without_holes() if is_packed_here else nullcontext():
        network = _load(folder, dequantize=dequantize, dtype=dtype, **options)
    return network if options else network.to(device)


def _load(folder: Path, *, dequantize: bool = False, **options: Any) -> Any:
    """Load the network of a model directory, without an adapter in the same directory.

    Raises:
        InputError: the directory is not a loadable model, or its tensors do not match its class.
    """
    require_model(folder)
    be_quiet()
    if "device_map" in options and options != _STRUCTURE:
        # transformers compares no shapes if weights are packed or stay on disk
        load_structure(folder)
    with loading(f"model {folder}"):
        options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}  # reported below, with the others
        if dequantize:
            tensors = _dequantized_tensors(folder)
            names: Collection[str] = tensors
            network, found = _from_tensors(folder, tensors, options)
        else:
            names = headers(folder)
            network, found = _class_of(folder).from_pretrained(
                folder, use_safetensors=True, trust_remote_code=False, adapter_kwargs=_NO_ADAPTER, **options
            )
        if found["unexpected_keys"]:
            found |= {"unexpected_keys": _unknown_to_whole(folder, found["unexpected_keys"], names)}
        require_tensors(f"model {folder}", network, found)
        if dequantize:
            _require_scaled(folder, network, {name: STORED_NAMES[each.dtype] for name, each in tensors.items()})
        elif not quantization_in(network.config.to_dict()):
            _require_scaled(folder, network, {name: entry["dtype"] for name, entry in headers(folder).items()})
    _report_untied_head(folder, network)
    return network


def _dequantized_tensors(folder: Path) -> Mapping[str, DequantizedTensor]:
    """Return the tensors of a model after dequantization to bfloat16, by name."""
    return dequantized(folder, torch.bfloat16, names_in_float32(_empty_network(folder))).by_name()


def _empty_network(folder: Path) -> Any:
    """Build the network of a config on the device "meta", as if its weights were not quantized."""
    from transformers import AutoConfig

    config = AutoConfig.for_model(**without_quantization(read_config(folder).to_dict()))
    with torch.device("meta"):
        return class_for(config).from_config(config)


def _from_tensors(folder: Path, tensors: Mapping[str, DequantizedTensor], options: Mapping[str, Any]) -> Any:
    """Load a network from tensors that are decoded one by one, and return it with transformers' report."""
    from transformers import GenerationConfig

    empty = _empty_network(folder)
    is_structure = options.get("device_map") == _STRUCTURE["device_map"]
    state = {name: each.empty() for name, each in tensors.items()} if is_structure else tensors
    settings = {"dtype": torch.bfloat16} | {key: value for key, value in options.items() if value != "auto"}
    network, found = type(empty).from_pretrained(None, config=empty.config, state_dict=state, **settings)
    if (folder / "generation_config.json").is_file() and network.can_generate():
        network.generation_config = GenerationConfig.from_pretrained(folder)
    return network, found


def names_in_float32(network: Any) -> re.Pattern[str] | None:
    """Return a pattern of the names of parameters that a class keeps in float32, whatever the dtype of the others."""
    names = sorted(network._keep_in_fp32_modules_strict or ())
    return re.compile("|".join(rf"(^|\.){re.escape(name)}(\.|$)" for name in names)) if names else None


def _require_scaled(folder: Path, network: Any, dtypes: Mapping[str, str]) -> None:
    """Check that no weights are integers without a scale.

    Args:
        folder: the model directory.
        network: its network.
        dtypes: dtypes of the tensors in its files, or of those after dequantization.

    Raises:
        InputError: a weight is.
    """
    whole = {name for name, dtype in dtypes.items() if dtype.startswith(WHOLE_NUMBERS)}
    if not whole:
        return
    parameters = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    made = [each for each in conversions(network, whole) if each.first in parameters]
    require_fractions(f"model {folder}", {name: dtypes[name] for each in made for name in each.names})


def _report_untied_head(folder: Path, network: Any) -> None:
    """Report a separate output head in the files, which transformers uses although config.json ties it."""
    head, embedding = network.get_output_embeddings(), network.get_input_embeddings()
    if not getattr(network.config, "tie_word_embeddings", False) or head is None or head.weight.is_meta:
        return
    if head.weight is not embedding.weight:
        notice(
            f"model {folder}: its files contain an output head other than the embedding, which is used although "
            "config.json shares them; other programs may leave it out: set tie_word_embeddings to false"
        )


def _unknown_to_whole(folder: Path, unexpected: Collection[str], names: Collection[str]) -> Collection[str]:
    """Return the unexpected tensors of a language model that do not belong to its vision-language model either."""
    config = read_config(folder)
    kind = whole_class_for(config)
    if kind is None:
        return unexpected
    stored = {*names}
    with torch.device("meta"):
        whole = kind.from_config(config)
    known = {name for conversion in conversions(whole, stored) for name in conversion.names}
    ignored = whole._keys_to_ignore_on_load_unexpected or ()
    return {name for name in stored - known if not any(re.search(pattern, name) for pattern in ignored)}


@contextmanager
def _without_holes() -> Iterator[None]:
    """Return large blocks of host memory to the system as soon as they are freed, if the C library is glibc.

    glibc keeps freed blocks of up to 32 MiB in its heap. Packing weights on a CPU leaves small results between large
    copies, so the heap can grow by the sum of all copies: more than the whole model in 16 bits.
    """
    change = getattr(CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if change is None:
        yield
        return
    change(_M_MMAP_THRESHOLD, 2**17)
    try:
        yield
    finally:
        change(_M_MMAP_THRESHOLD, 2**25)  # the maximum of glibc's own adjustment


def load_structure(folder: Path, *, quantization: Quantization = "none") -> Any:
    """Build the network of a model directory without weights; reads only the headers of the weight files.

    Weights that are stored quantized have the names and shapes that they have after dequantization.

    Raises:
        InputError: the directory is not a loadable model, or its tensors do not match its class.
    """
    require_model(folder)
    stored = quantization_of(folder)
    if stored and stored.method:
        return _load(folder, dequantize=True, **_STRUCTURE)
    options = {"quantization_config": _nf4(folder)} if quantization == "nf4" else {}
    return _load(folder, **_STRUCTURE, **options)


def load_from_disk(folder: Path, dtype: torch.dtype, device: torch.device, offload: Path) -> Any:
    """Load a model for a single run: its weights stay in their files and are read layer by layer.

    A GPU gets as many layers as fit.

    Args:
        folder: the model directory.
        dtype: dtype of the computation.
        device: device to compute on.
        offload: directory for weights whose form in the network differs from their files, such as those of experts;
            needed as long as the network is used.

    Raises:
        InputError: the directory is not a loadable model, or its tensors do not match its class.
    """
    device_map = "auto" if device.type == "cuda" else {"": "disk"}
    return _load(folder, dtype=dtype, device_map=device_map, offload_folder=offload)


def layers_in_4_bits(folder: Path) -> dict[str, bool]:
    """Return the names of the layers that `quantization="nf4"` quantizes, and whether each is transposed (GPT-2).

    Layers that text does not pass through, such as a vision tower, are not among them: an adapter has not learned to
    correct their rounding. This reads no weights.
    """
    from transformers.pytorch_utils import Conv1D

    network = load_structure(folder, quantization="nf4")
    return {
        name: issubclass(layer.source_cls, Conv1D)
        for name, layer in network.named_modules()
        if type(layer).__name__ == "Linear4bit"
    }


def in_4_bits(weight: torch.Tensor, *, transposed: bool = False) -> torch.Tensor:
    """Quantize a weight to 4 bits, transposed if asked, and dequantize it."""
    if transposed:
        return in_4_bits(weight.T.contiguous()).T
    config = _nf4()
    import bitsandbytes

    library: Any = bitsandbytes
    packed = library.nn.Params4bit(
        weight,
        requires_grad=False,
        quant_type=config.bnb_4bit_quant_type,
        compress_statistics=config.bnb_4bit_use_double_quant,
    ).to(weight.device)
    return torch.as_tensor(library.functional.dequantize_4bit(packed.data, packed.quant_state))


def require_4_bits() -> None:
    """Check that weights can be quantized to 4 bits.

    Raises:
        InputError: bitsandbytes is missing.
    """
    if find_spec("bitsandbytes") is None:
        raise not_installed("quantization nf4", "bitsandbytes")


def _nf4(folder: Path | None = None) -> Any:
    """Return the settings of 4-bit weights, for the network of a model directory if one is given."""
    from transformers import BitsAndBytesConfig
    from transformers.quantizers.base import get_keys_to_not_convert

    require_4_bits()
    skipped: list[str] | None = None
    if folder is not None and sees(read_config(folder)):
        # An adapter has not learned to correct the rounding of a vision tower.
        network = _load(folder, **_STRUCTURE)
        skipped = [*get_keys_to_not_convert(network), *parts_beside_text(network)]
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=skipped,
    )


def load_adapter(network: Any, adapter: Path, base: Path) -> Any:
    """Apply a PEFT adapter that was trained on `base` to its network, with or without weights.

    The embedding is enlarged if the adapter has additional tokens.

    Raises:
        InputError: the directory is not an adapter, it belongs to another base, or its tensors do not match its
            configuration.
    """
    from peft import PeftModel

    require_adapter(adapter, base)
    what = f"adapter {adapter}"
    with loading(f"{what} on {base}"):
        _resize(network, embedding_rows(adapter))
        mapping = getattr(network, "_checkpoint_conversion_mapping", None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # problems for which peft only warns are reported below
            adapted = PeftModel.from_pretrained(network, str(adapter))
            found = adapted.load_adapter(str(adapter), adapted.active_adapter, key_mapping=mapping)
        missing, unknown = ([name.replace(".default", "") for name in names] for names in found)
        stored = header(adapter / WEIGHTS)
        require_fractions(what, {name: str(entry["dtype"]) for name, entry in stored.items()})
        unknown = [name for name in unknown if not stored_twice(name, stored)]
        require_no_difference(what, "its adapter_config.json", missing, unknown, [])
    if changes_nothing(adapter):
        notice(f"{what}: changes nothing: its scale, or one factor of every product, is zero")
    return adapted


def _resize(network: Any, rows: Mapping[str, int]) -> None:
    """Resize the embedding of a network to the number of rows in an adapter."""
    layers = (network.get_input_embeddings(), network.get_output_embeddings())
    wanted = {rows[name] for name, module in network.named_modules() if name in rows and module in layers}
    if wanted and max(wanted) != layers[0].weight.shape[0]:
        network.resize_token_embeddings(max(wanted), mean_resizing=False)
