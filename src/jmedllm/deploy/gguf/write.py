"""Write a GGUF file: metadata, then the tensors one at a time, so that a model need not fit in memory."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jmedllm.deploy.gguf.architectures import architecture_metadata, architecture_of
from jmedllm.deploy.gguf.tensors import exported_tensors, shapes
from jmedllm.deploy.gguf.types import FileType, encoded, encoded_size, tensor_format
from jmedllm.deploy.gguf.vocabulary import Vocabulary
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
    described: Mapping[str, str],
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

    Raises:
        InputError: the architecture is not supported, or the file cannot be written.
    """
    from gguf import GGMLQuantizationType, GGUFWriter

    architecture = architecture_of(config)
    formats = {name: tensor_format(name, shape, file_type) for name, shape in shapes(model, config, architecture)}
    with atomic_file(output) as handle:
        writer = GGUFWriter(None, architecture.name)
        for key, value in architecture_metadata(config).items():
            _add(writer, f"{architecture.name}.{key}", value)
        writer.add_file_type(file_type.file_type)
        writer.add_quantization_version(2)
        for key, text in sorted(described.items()):
            writer.add_string(key, text)
        _add_vocabulary(writer, vocabulary, pre)
        for name, shape in shapes(model, config, architecture):
            size = encoded_size(shape, formats[name])
            writer.add_tensor_info(name, shape, np.dtype(np.float32), size, GGMLQuantizationType[formats[name]])
        _begin(writer, handle)
        with progress("gguf", len(formats)) as advance:
            for name, tensor in exported_tensors(model, config, architecture):
                writer.write_tensor_data(encoded(tensor, formats[name]))
                advance(1, name)
    matrices = [shape_format for name, shape_format in formats.items() if shape_format != "F32"]
    return Written(dict(Counter(formats.values())), sum(each != file_type.matrix for each in matrices))


def _begin(writer: Any, handle: Any) -> None:
    """Write everything before the tensors to an open file."""
    from gguf.gguf_writer import WriterState

    writer.fout, writer.state = [handle], WriterState.EMPTY  # its own open would not be atomic
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()


def _add(writer: Any, key: str, value: int | float | bool | str) -> None:
    kinds = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    kinds[type(value)](key, value)


def _add_vocabulary(writer: Any, vocabulary: Vocabulary, pre: str) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(list(vocabulary.tokens))
    writer.add_token_types(list(vocabulary.types))
    writer.add_token_merges(list(vocabulary.merges))
    for name, number in vocabulary.ids.items():
        writer.add_uint32(f"tokenizer.ggml.{name}_token_id", number)
    writer.add_add_bos_token(vocabulary.add_bos)
    if vocabulary.chat_template:
        writer.add_chat_template(vocabulary.chat_template)
