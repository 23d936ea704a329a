"""The model to export: a directory, a run, or a base with an adapter."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jmedllm.deploy.gguf.architectures import text_config
from jmedllm.deploy.merge import merge
from jmedllm.errors import InputError
from jmedllm.files import read_json
from jmedllm.manifest import last_model, read_manifest
from jmedllm.models.folder import fingerprint, require_model, require_unambiguous, resolve
from jmedllm.models.loading import read_config
from jmedllm.models.tokenizer.encoding import Tokenizer
from jmedllm.models.tokenizer.load import load_tokenizer
from jmedllm.models.weights.quantization import quantization_of
from jmedllm.precision import Precision
from jmedllm.progress import notice

BLOCKS = "corpus/blocks"
"""Where a run has its training text as token ids, without held-out documents."""


@dataclass(frozen=True, slots=True)
class Source:
    """A model to export.

    Attributes:
        folder: model directory with plain weights.
        config: configuration of its language model.
        tokenizer: its tokenizer.
        name: what people call it: the name of the run's, the adapter's or the model's directory.
        blocks: directory of the token ids that the model was trained on, see `training.packing.load_blocks`.
    """

    folder: Path
    config: Any
    tokenizer: Tokenizer
    name: str = ""
    blocks: Path | None = None

    @property
    def ends(self) -> list[int]:
        """Ids of the tokens that end an answer, as transformers uses them."""
        file = self.folder / "generation_config.json"
        named = read_json(file).get("eos_token_id") if file.is_file() else None
        named = self.config.eos_token_id if named is None else named
        named = self.tokenizer.eos_token_id if named is None else named
        return [int(number) for number in (named if isinstance(named, list) else [named])]


@contextmanager
def open_source(given: str, adapter: Path | None, precision: Precision) -> Iterator[Source]:
    """Open a model directory, the last model of a run, or, with an adapter, a temporary merge.

    Args:
        given: directory of a model or a run, or id in the local Hugging Face cache.
        adapter: PEFT directory.
        precision: device and dtype of the merge.

    Raises:
        InputError: there is no complete model, or its weights are quantized.
    """
    folder = Path(given)
    blocks = folder / BLOCKS
    model = _model_of_run(folder) if read_manifest(folder) else resolve(given)
    trained_on = blocks if blocks.is_dir() else None
    if adapter is None:
        yield source_of(model, folder.resolve().name, trained_on)
        return
    with TemporaryDirectory(prefix="jmedllm-merged-") as temporary:
        merged = Path(temporary) / "model"
        merge(model, adapter, merged, precision)
        yield source_of(merged, adapter.resolve().name, trained_on)


def _model_of_run(run: Path) -> Path:
    """Return a run's last model, with a notice if stages are missing or the model has been changed since."""
    model, manifest = last_model(run), read_manifest(run) or {}
    stages = manifest["stages"]
    if missing := [stage for stage in manifest["enabled"] if stage not in stages]:
        notice(f"{run}: the run is not finished ({', '.join(missing)}); its last model so far is {model}")
    if fingerprint(model) != stages[model.parent.name]["outputs"]["model"]:
        notice(f"{model}: is not the model that the run wrote; it was changed afterwards")
    return model


def source_of(folder: Path, name: str, blocks: Path | None) -> Source:
    """Return the model in a directory, under a name, with the token ids that it was trained on.

    Raises:
        InputError: it is incomplete, also contains an adapter, or its weights are quantized.
    """
    require_model(folder)
    require_unambiguous(folder)
    if (stored := quantization_of(folder)) is not None:
        raise InputError(
            f"model {folder}: its weights are quantized ({stored.title}); dequantize them first with: jmedllm convert "
            f"{folder} --output DIRECTORY"
        )
    return Source(folder, text_config(read_config(folder)), load_tokenizer(folder), name, blocks)
