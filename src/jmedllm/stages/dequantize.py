"""Stage dequantize: write the base model in bfloat16, from weights that are stored quantized."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jmedllm.manifest import BASE
from jmedllm.models.folder import fingerprint
from jmedllm.stages.base_files import BaseFiles, PublishedBase
from jmedllm.stages.stage import ModelOutputs, Run, Stage, base_folder, files_in, source_folder

DTYPE = "bfloat16"


def _inputs(run: Run) -> dict[str, Any]:
    return {"base": fingerprint(source_folder(run)), "dtype": DTYPE}


def _check_base(run: Run, base: BaseFiles) -> Sequence[str]:
    from jmedllm.models.weights.quantization import require_decodable
    from jmedllm.training.preflight import folder_bytes, require_free

    require_decodable(base.folder)
    base.require_loadable()
    require_free(run.folder, base.weight_bytes - folder_bytes(run.folder / BASE), "the base in bfloat16")
    return ("quantized weights", "disk space")


def _check_config(_: Run, base: PublishedBase) -> Sequence[str]:
    from jmedllm.models.weights.quantization import quantization_in, require_method
    from jmedllm.planning.shape import config_of

    require_method(quantization_in(config_of(base.name)), f"base {base.name}")
    return ("quantized weights",)


def _perform(run: Run, _: str) -> ModelOutputs:
    import torch

    from jmedllm.models.conversion.dequantize import dequantize

    target: Path = base_folder(run)
    model = dequantize(source_folder(run), target, torch.bfloat16, replace=True)
    return ModelOutputs(model=model, files=files_in(run, BASE))


DEQUANTIZE = Stage(
    name="dequantize",
    enabled=lambda recipe: recipe.base.dequantize,
    inputs=_inputs,
    perform=_perform,
    outputs=ModelOutputs,
    check_base=_check_base,
    check_config=_check_config,
)
