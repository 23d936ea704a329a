"""Write a GGUF file: metadata, then the tensors one at a time, so that a model need not fit in memory."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jmedllm.deploy.gguf.architectures import architecture_metadata, architecture_of
from jmedllm.deploy.gguf.importance import Importance, columns
from jmedllm.deploy.gguf.quantize import quantizing
from jmedllm.deploy.gguf.tensors import exported_tensors, shapes, stored_tensors
from jmedllm.deploy.gguf.types import FileType, encoded, encoded_size, tensor_format
from jmedllm.deploy.gguf.vocabulary import MERGE_LIST, Vocabulary
from jmedllm.errors import InputError
from jmedllm.files import atomic_file
from jmedllm.progress import progress


@dataclass(frozen=True, slots=True)
class Written:
    """What a file contains.

    Attributes:
        formats: number of tensors by ggml's name of their format.
        fallbacks: number of matrices that could not be stored in the format of the file's type.
    """

    formats: Mapping[str, int]
    fallbacks: int


def write_gguf(
    model: Path,
    config: Any,
    vocabulary: Vocabulary,
    pre: str,
    file_type: FileType,
    output: Path,
    described: Mapping[str, Any],
    importance: Importance | None = None,
) -> Written:
    """Write a model directory as a GGUF file. The same input gives the same bytes.

    Args:
        model: the model directory, with plain weights.
        config: its configuration.
        vocabulary: its tokenizer.
        pre: llama.cpp's name of the rule by which text is split before any merge.
        file_type: number format of the matrices.
        output: the file, replaced when it is complete.
        described: further metadata, such as the licence, by their keys.
        importance: importance matrix for K-quants, see `importance_matrix`.

    Raises:
        InputError: the architecture is not supported, or the file cannot be written.
    """
    architecture = architecture_of(config)
    listed = shapes(model, config, architecture)
    formats = {
        name: tensor_format(name, shape, file_type, layers=config.num_hidden_layers, tied=config.tie_word_embeddings)
        for name, shape in listed
    }
    metadata = file_metadata(config, vocabulary, pre, file_type) | dict(described)
    stored = stored_tensors(model, config, architecture)
    weighed = {name: columns(importance or {}, name, each.name) for name, each in stored.items()}
    with (
        progress("gguf", len(formats)) as advance,
        quantizing() if file_type.is_k_quant else nullcontext() as quantize,
    ):
        data = (
            (name, encoded(_representable(name, tensor, formats[name]), formats[name], quantize, weighed.get(name)))
            for name, tensor in exported_tensors(model, config, architecture)
        )
        _write(output, metadata, [(name, shape, formats[name]) for name, shape in listed], data, advance)
    wanted = {"F32", file_type.matrix, file_type.sensitive}
    fallbacks = sum(each not in wanted for each in formats.values())
    return Written(dict(Counter(formats.values())), fallbacks)


def _representable(name: str, tensor: torch.Tensor, stored: str) -> torch.Tensor:
    """Return a tensor that its format can store.

    Raises:
        InputError: a value is NaN, infinite, or too large for the format.
    """
    if not tensor.isfinite().all():
        raise InputError(f"gguf: tensor {name} of the model has NaN or infinity; restore the model or train it again")
    largest = float(tensor.abs().max())
    if stored == "F16" and largest > torch.finfo(torch.float16).max:
        raise InputError(f"gguf: tensor {name} has a value of {largest:.3g}, too large for float16; give --type bf16")
    return tensor


def write_vocabulary(vocabulary: Vocabulary, pre: str, output: Path) -> None:
    """Write a tokenizer with the smallest network that llama.cpp loads; its weights are zero.

    Raises:
        InputError: the file cannot be written.
    """
    rows, size = len(vocabulary.tokens), 32
    metadata = {"general.architecture": "llama", "general.file_type": 1} | vocabulary_metadata(vocabulary, pre)
    numbers = {"block_count": 1, "context_length": _STUB_CONTEXT, "embedding_length": size}
    numbers |= {"feed_forward_length": size, "attention.head_count": 1, "attention.head_count_kv": 1}
    metadata |= {f"llama.{key}": value for key, value in (numbers | {"vocab_size": rows}).items()}
    metadata["llama.attention.layer_norm_rms_epsilon"] = 1e-5
    square, vector = (size, size), (size,)
    parts: dict[str, tuple[int, ...]] = {
        "attn_q": square,
        "attn_k": square,
        "attn_v": square,
        "attn_output": square,
        "ffn_gate": square,
    }
    parts |= {"ffn_up": square, "ffn_down": square, "attn_norm": vector, "ffn_norm": vector}
    listed: dict[str, tuple[int, ...]] = {"token_embd.weight": (rows, size), "output_norm.weight": vector}
    listed |= {f"blk.0.{name}.weight": shape for name, shape in parts.items()}
    formats = {name: "F16" if len(shape) > 1 else "F32" for name, shape in listed.items()}
    zeros = ((name, np.zeros(encoded_size(shape, formats[name]), np.uint8)) for name, shape in listed.items())
    _write(output, metadata, [(name, shape, formats[name]) for name, shape in listed.items()], zeros, lambda *_: None)


_STUB_CONTEXT = 8192


def file_metadata(config: Any, vocabulary: Vocabulary, pre: str, file_type: FileType) -> dict[str, Any]:
    """Return the metadata that determine the outputs of a file, by key.

    Raises:
        InputError: the architecture is not supported.
    """
    name = architecture_of(config).name
    return {
        "general.architecture": name,
        **{f"{name}.{key}": value for key, value in architecture_metadata(config).items()},
        "general.file_type": file_type.file_type,
        "general.quantization_version": _QUANTIZATION_VERSION,
        **vocabulary_metadata(vocabulary, pre),
    }


_QUANTIZATION_VERSION = 2


def _model(vocabulary: Vocabulary, pre: str) -> str:
    """Return llama.cpp's kind of tokenizer; a merge list of SentencePiece BPE is a kind and a rule at once."""
    if vocabulary.is_byte_level:
        return "gpt2"
    return pre if pre == MERGE_LIST else "llama"


def vocabulary_metadata(vocabulary: Vocabulary, pre: str) -> dict[str, Any]:
    """Return a tokenizer's metadata by key."""
    found: dict[str, Any] = {
        "tokenizer.ggml.model": _model(vocabulary, pre),
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": list(vocabulary.tokens),
        "tokenizer.ggml.token_type": list(vocabulary.types),
        "tokenizer.ggml.merges": list(vocabulary.merges),
        **{f"tokenizer.ggml.{name}_token_id": number for name, number in vocabulary.ids.items()},
        "tokenizer.ggml.add_bos_token": vocabulary.add_bos,
        "jmedllm.normalizer": vocabulary.normalization.normalizer,
    }
    if not vocabulary.is_byte_level:
        found["tokenizer.ggml.scores"] = list(vocabulary.scores)
        found["tokenizer.ggml.add_space_prefix"] = vocabulary.adds_space
        found["jmedllm.space"] = vocabulary.normalization.space
    if vocabulary.chat_template:
        found["tokenizer.chat_template"] = vocabulary.chat_template
    return found


def _write(
    output: Path,
    metadata: Mapping[str, Any],
    listed: Sequence[tuple[str, tuple[int, ...], str]],
    data: Iterable[tuple[str, "np.ndarray[Any, Any]"]],
    advance: Callable[[int, str], None],
) -> None:
    from gguf import GGMLQuantizationType, GGUFWriter

    writer = GGUFWriter(None, metadata["general.architecture"])
    for key, value in metadata.items():
        if key != "general.architecture":  # the writer has it
            _add(writer, key, value)
    for name, shape, each in listed:
        size = encoded_size(shape, each)
        writer.add_tensor_info(name, shape, np.dtype(np.float32), size, GGMLQuantizationType[each])
    with atomic_file(output) as handle:
        _begin(writer, handle)
        for name, values in data:
            writer.write_tensor_data(values)
            advance(1, name)


def _begin(writer: Any, handle: Any) -> None:
    """Write everything before the tensors to an open file."""
    from gguf.gguf_writer import WriterState

    writer.fout, writer.state = [handle], WriterState.EMPTY  # its own open would not be atomic
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()


def _add(writer: Any, key: str, value: Any) -> None:
    kinds = {bool: "bool", int: "uint32", float: "float32", str: "string", list: "array"}
    getattr(writer, f"add_{kinds[type(value)]}")(key, value)
