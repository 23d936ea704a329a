"""Dequantize a model: replace quantized weights by plain numbers."""

from importlib.metadata import version
from pathlib import Path

import torch

from jmedllm.errors import InputError
from jmedllm.files import is_vacant, read_json
from jmedllm.models.folder import fingerprint, require_model
from jmedllm.models.libraries import be_quiet, go_offline
from jmedllm.models.loading import loading, whole_class_of
from jmedllm.models.save import save_model
from jmedllm.models.tokenizer.load import load_tokenizer
from jmedllm.models.weights.quantization import DEQUANTIZED, quantization_in
from jmedllm.models.weights.tensor_check import require_tensors


def dequantize(folder: Path, output: Path, dtype: torch.dtype) -> str:
    """Write a copy of a model with dequantized weights, each rounded once to `dtype`.

    Needs host memory for the whole model. A vision-language model is converted completely.

    Args:
        folder: a model directory whose config.json names a method of `DEQUANTIZED`.
        output: directory to write; nothing is left there if the conversion is refused.
        dtype: dtype of the new weights.

    Returns:
        The new model's fingerprint.

    Raises:
        InputError: the model cannot be loaded, its weights are not quantized or by another method, or `output` is not
            empty.
    """
    go_offline()
    require_model(folder)
    method = quantization_in(read_json(folder / "config.json"))
    if method not in DEQUANTIZED:
        state = "are not quantized" if method is None else f"are quantized by {method}"
        known = " and ".join(DEQUANTIZED)
        raise InputError(f"model {folder}: its weights {state}; only those of {known} can be dequantized")
    if not is_vacant(output):
        raise InputError(f"convert: {output} is not empty; choose another --output")
    import transformers

    be_quiet()
    with loading(f"model {folder}"):
        settings = getattr(transformers, DEQUANTIZED[method])(dequantize=True)
        network, found = whole_class_of(folder).from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            quantization_config=settings,
            output_loading_info=True,
        )
        require_tensors(f"model {folder}", network, found)
    network._weight_conversions = None  # otherwise transformers writes the scales again
    origin = {
        "source": str(folder),
        "source_fingerprint": fingerprint(folder),
        "transformers": version("transformers"),
    }
    save_model(network.to(dtype), load_tokenizer(folder), output, origin, folder)
    return fingerprint(output)
