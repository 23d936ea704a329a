"""Weights and adapters from model directories; whatever is wrong with them is one line."""

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
from jmedllm.models.folder import Quantization, require_model, weight_files
from jmedllm.models.libraries import be_quiet, go_offline
from jmedllm.models.weights.mapping import conversions
from jmedllm.models.weights.quantization import quantization_in
from jmedllm.models.weights.tensor_check import (
    WHOLE_NUMBERS,
    require_fractions,
    require_no_difference,
    require_tensors,
)
from jmedllm.progress import notice

_M_MMAP_THRESHOLD = -3
"""glibc's number of the size from which on a piece of memory is one of its own."""

_NO_ADAPTER = {"subfolder": "config.json"}
"""Where transformers looks for an adapter to apply by itself: no adapter can be below a file. The default would be
the model's directory."""


_STRUCTURE: dict[str, Any] = {"device_map": {"": "meta"}}


@contextmanager
def loading(what: str) -> Iterator[None]:
    """Turn whatever a library raises at files it cannot use into one line."""
    try:
        yield
    except Exception as error:  # tokenizers and transformers raise exceptions of many kinds, some of them plain
        if isinstance(error, InputError) or is_out_of_memory(error):
            raise
        told = [line.strip() for line in str(error).splitlines() if line.strip()]
        # peft and torch put the reason behind a heading that ends with a colon.
        reason = " ".join(told[:2] if told and told[0].endswith(":") else told[:1])
        if isinstance(error, KeyError):
            reason = f"{reason} is missing"
        raise InputError(f"{what}: cannot be loaded: {reason or type(error).__name__}") from error


def read_config(folder: Path) -> Any:
    """Configuration of a model directory, as transformers reads it.

    Raises:
        InputError: the file is missing or broken, or of an architecture that transformers does not know.
    """
    go_offline()
    from transformers import AutoConfig

    with loading(f"model {folder}"):
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)


def class_for(kind: str) -> Any:
    """What transformers loads a kind of model by: as a language model where it can, else as one that sees pictures
    too.

    Args:
        kind: `model_type` in config.json.
    """
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    is_known = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or not _sees(kind)
    return AutoModelForCausalLM if is_known else AutoModelForImageTextToText


def _sees(kind: str) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    return kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES


def whole_class_of(folder: Path) -> Any:
    """What transformers loads all of a model by: with its vision tower where it has one."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    return AutoModelForImageTextToText if _sees(read_config(folder).model_type) else AutoModelForCausalLM


def _class_of(folder: Path) -> Any:
    return class_for(read_config(folder).model_type)


def load_network(
    folder: Path,
    dtype: torch.dtype | Literal["auto"],
    device: torch.device,
    *,
    quantization: Quantization = "none",
) -> Any:
    """Load the weights of a model directory (safetensors only, no code from the directory).

    Args:
        folder: the model directory.
        dtype: format of the weights; "auto" keeps the one they are stored in.
        device: where to put them.
        quantization: "nf4" keeps linear layers in 4 bits with double quantisation (Dettmers et al. 2023,
            arXiv 2305.14314) and computes in bfloat16.

    Raises:
        InputError: the directory is no model that can be loaded.
    """
    options = {"quantization_config": _nf4(), "device_map": {"": device}} if quantization == "nf4" else {}
    is_packed_here = bool(options) and device.type == "cpu"
    with _without_holes() if is_packed_here else nullcontext():
        network = _load(folder, dtype=dtype, **options)
    return network if options else network.to(device)


def _load(folder: Path, **options: Any) -> Any:
    """The network of a model directory with its weights alone: an adapter beside them is not applied.

    Raises:
        InputError: the directory is no model that can be loaded, or its tensors are not those of its class.
    """
    go_offline()
    require_model(folder)
    be_quiet()
    if "device_map" in options and options != _STRUCTURE:
        _load(folder, **_STRUCTURE)  # shapes are not compared where weights are packed or stay on the disk
    with loading(f"model {folder}"):
        loaded: Any = _class_of(folder).from_pretrained(
            folder,
            use_safetensors=True,
            trust_remote_code=False,
            adapter_kwargs=_NO_ADAPTER,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told below, with the others
            **options,
        )
        network, found = loaded
        if found["unexpected_keys"]:
            found |= {"unexpected_keys": _unknown_to_whole(folder, found["unexpected_keys"])}
        require_tensors(f"model {folder}", network, found)
        _require_scaled(folder, network)
    _tell_untied_head(folder, network)
    return network


def _require_scaled(folder: Path, network: Any) -> None:
    """Check that no weights are whole numbers where nothing says what they stand for.

    Raises:
        InputError: some are.
    """
    stored = {name: entry for file in weight_files(folder) for name, entry in header(file).items()}
    whole = {name for name, entry in stored.items() if str(entry["dtype"]).startswith(WHOLE_NUMBERS)}
    if not whole or quantization_in(network.config.to_dict()):
        return
    parameters = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    made = [each for each in conversions(network, whole) if each.first in parameters]
    require_fractions(f"model {folder}", stored, [name for each in made for name in each.names])


def _tell_untied_head(folder: Path, network: Any) -> None:
    """Say where the files hold a head of its own, which transformers uses, though config.json shares it."""
    head, embedding = network.get_output_embeddings(), network.get_input_embeddings()
    if not getattr(network.config, "tie_word_embeddings", False) or head is None or head.weight.is_meta:
        return
    if head.weight is not embedding.weight:
        notice(
            f"model {folder}: its files hold an output head other than the embedding, which is used, though "
            "config.json shares them; other programs may leave it out: set tie_word_embeddings to false"
        )


def _unknown_to_whole(folder: Path, unexpected: Collection[str]) -> Collection[str]:
    """Those of the unexpected tensors of a language model that are not of the vision-language model either whose
    files they come from, if they do."""
    from safetensors import safe_open

    config = read_config(folder)
    if not _sees(config.model_type):
        return unexpected
    stored: set[str] = set()
    for file in weight_files(folder):
        with safe_open(file, "pt") as opened:
            stored |= {*opened.keys()}
    with torch.device("meta"):
        whole = whole_class_of(folder).from_config(config)
    known = {name for conversion in conversions(whole, stored) for name in conversion.names}
    ignored = whole._keys_to_ignore_on_load_unexpected or ()
    return {name for name in stored - known if not any(re.search(pattern, name) for pattern in ignored)}


@contextmanager
def _without_holes() -> Iterator[None]:
    """Have every large piece of host memory given back when it is freed, where the C library is glibc.

    glibc keeps freed pieces of up to 32 MiB in its heap. Packing weights on a CPU leaves small results between
    large copies, so the heap can grow by all the copies together: as much as the whole model in 16 bits, and more.
    """
    change = getattr(CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if change is None:
        yield
        return
    change(_M_MMAP_THRESHOLD, 2**17)
    try:
        yield
    finally:
        change(_M_MMAP_THRESHOLD, 2**25)  # where glibc's own adjustment ends


def load_structure(folder: Path, *, quantization: Quantization = "none") -> Any:
    """The network of a model directory without its weights; of their files only the headers are read.

    Raises:
        InputError: the directory is no model that can be loaded, or its tensors are not those of its class.
    """
    options = {"quantization_config": _nf4()} if quantization == "nf4" else {}
    return _load(folder, **_STRUCTURE, **options)


def load_from_disk(folder: Path, dtype: torch.dtype, device: torch.device, offload: Path) -> Any:
    """Load a model to be run once: its weights stay in their files and are read as each layer is reached.

    A GPU takes as many layers as it has room for.

    Args:
        folder: the model directory.
        dtype: format to compute in.
        device: where to compute.
        offload: directory for the weights that the network holds otherwise than their files, such as those of
            experts; needed as long as the network is.

    Raises:
        InputError: the directory is no model that can be loaded, or its tensors are not those of its class.
    """
    device_map = "auto" if device.type == "cuda" else {"": "disk"}
    return _load(folder, dtype=dtype, device_map=device_map, offload_folder=offload)


def layers_in_4_bits(folder: Path) -> dict[str, bool]:
    """By name the layers that `quantization="nf4"` holds in 4 bits, and whether each is held transposed (GPT-2);
    reads no weights."""
    from transformers.pytorch_utils import Conv1D

    network = load_structure(folder, quantization="nf4")
    return {
        name: issubclass(layer.source_cls, Conv1D)
        for name, layer in network.named_modules()
        if type(layer).__name__ == "Linear4bit"
    }


def in_4_bits(weight: torch.Tensor, *, transposed: bool = False) -> torch.Tensor:
    """What a weight becomes when it is held in 4 bits, as it is or transposed, and written out again."""
    if transposed:
        return in_4_bits(weight.T.contiguous()).T
    config = _nf4()
    import bitsandbytes

    library: Any = bitsandbytes
    held = library.nn.Params4bit(
        weight,
        requires_grad=False,
        quant_type=config.bnb_4bit_quant_type,
        compress_statistics=config.bnb_4bit_use_double_quant,
    ).to(weight.device)
    return torch.as_tensor(library.functional.dequantize_4bit(held.data, held.quant_state))


def require_4_bits() -> None:
    """Check that weights can be held in 4 bits.

    Raises:
        InputError: bitsandbytes is missing.
    """
    if find_spec("bitsandbytes") is None:
        raise not_installed("quantization nf4", "bitsandbytes")


def _nf4() -> Any:
    from transformers import BitsAndBytesConfig

    require_4_bits()
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def load_adapter(network: Any, adapter: Path, base: Path) -> Any:
    """Put a PEFT adapter trained on `base` onto its network, with or without contents.

    An embedding that has grown with the adapter's own tokens grows here, too.

    Raises:
        InputError: the adapter is none, belongs to another base, or its tensors are not those that its
            configuration promises.
    """
    from peft import PeftModel

    require_adapter(adapter, base)
    what = f"adapter {adapter}"
    with loading(f"{what} on {base}"):
        _resize(network, embedding_rows(adapter))
        mapping = getattr(network, "_checkpoint_conversion_mapping", None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what peft only warns of is told below
            adapted = PeftModel.from_pretrained(network, str(adapter))
            found = adapted.load_adapter(str(adapter), adapted.active_adapter, key_mapping=mapping)
        missing, unknown = ([name.replace(".default", "") for name in names] for names in found)
        stored = header(adapter / WEIGHTS)
        require_fractions(what, stored, stored)
        unknown = [name for name in unknown if not stored_twice(name, stored)]
        require_no_difference(what, "its adapter_config.json", missing, unknown, [])
    if changes_nothing(adapter):
        notice(f"{what}: changes nothing: its scale, or one factor of every product, is zero")
    return adapted


def _resize(network: Any, rows: Mapping[str, int]) -> None:
    """Give the embedding of a network as many rows as an adapter has for it."""
    layers = (network.get_input_embeddings(), network.get_output_embeddings())
    wanted = {rows[name] for name, module in network.named_modules() if name in rows and module in layers}
    if wanted and max(wanted) != layers[0].weight.shape[0]:
        network.resize_token_embeddings(max(wanted), mean_resizing=False)
