"""Stage mfpt: medical full-parameter training on the packed corpus."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jmedllm.models.folder import fingerprint
from jmedllm.planning.plan import TrainingStage, packed_rows
from jmedllm.recipe import MfptConfig, Recipe
from jmedllm.stages.base_files import BaseFiles, PublishedBase
from jmedllm.stages.canary import origin_of_canaries
from jmedllm.stages.corpus import CorpusOutputs
from jmedllm.stages.models import start_folder
from jmedllm.stages.stage import (
    ModelOutputs,
    Outputs,
    Run,
    Stage,
    StageModel,
    files_in,
    in_section,
    own_folder,
)
from jmedllm.stages.training_setup import (
    TrainingJob,
    TrainingOutputs,
    check_architecture,
    check_trainable,
    check_training,
    has_benchmarks,
    numerics,
    shaping,
    train_stage,
)
from jmedllm.stages.validation import validation_inputs
from jmedllm.training.packing import load_blocks

MODEL = StageModel(
    "mfpt",
    "mfpt/model",
    description="medical full-parameter training: stage 1, further training of all weights on medical text.",
)


@dataclass(frozen=True, kw_only=True)
class MfptOutputs(TrainingOutputs, ModelOutputs):
    """Outputs of stage 1.

    Attributes:
        epochs: number of times that each part of the corpus was read, if the recipe mixes texts.
    """

    epochs: dict[str, float] | None = None


def _settings(recipe: Recipe) -> MfptConfig:
    assert recipe.mfpt is not None
    return recipe.mfpt


def _inputs(run: Run) -> dict[str, Any]:
    corpus = run.output("corpus", CorpusOutputs)
    return {
        "base": corpus.base,
        "blocks": corpus.blocks,
        "settings": shaping(_settings(run.recipe)),
        **validation_inputs(run),
        **numerics(run),
    }


def _check(run: Run) -> Sequence[str]:
    return check_training(run, _settings(run.recipe))


def _check_base(run: Run, base: BaseFiles) -> Sequence[str]:
    from jmedllm.deploy.preflight import report_frozen_parts, report_unused_tensors, require_loadable
    from jmedllm.models.layers import freeze_beside_text
    from jmedllm.models.loading import load_structure

    host_memory = _check_host_memory(run)  # first, because its message is more specific than that of all memory
    checked = check_trainable(run, base, _plan(run.recipe, None))
    report_unused_tensors(require_loadable(base.folder, base.structure), "mfpt")
    report_frozen_parts(freeze_beside_text(load_structure(base.folder)), "mfpt")
    return (*checked, "saving of the weights", *host_memory)


def _check_config(run: Run, base: PublishedBase) -> Sequence[str]:
    from jmedllm.deploy.preflight import report_frozen_parts
    from jmedllm.models.layers import freeze_beside_text

    checked = check_architecture(run, base, _plan(run.recipe, None))
    report_frozen_parts(freeze_beside_text(base.build()), "mfpt")
    return checked


def _check_host_memory(run: Run) -> Sequence[str]:
    from jmedllm.planning.machine import this_machine
    from jmedllm.planning.needs import require_host_memory
    from jmedllm.planning.plan import base_of

    settings, corpus = _settings(run.recipe), run.recipe.corpus
    if settings.cpu_offload == "none" or corpus is None:
        return ()
    require_host_memory(settings, corpus.block_size, base_of(run.recipe), this_machine(run.precision.device))
    return ("host memory",)


def _perform(run: Run, input_hash: str) -> Outputs:
    import torch

    from jmedllm.models.layers import freeze_beside_text
    from jmedllm.models.loading import load_network
    from jmedllm.models.save import save_model
    from jmedllm.models.tokenizer.load import load_tokenizer
    from jmedllm.training.optim.weights import cast_weights

    settings, base, corpus = _settings(run.recipe), start_folder(run), run.output("corpus", CorpusOutputs)
    folder = own_folder(run.folder / "mfpt", input_hash)
    tokenizer = load_tokenizer(base)
    blocks = load_blocks(run.folder / "corpus" / "blocks")

    def load(device: torch.device) -> Any:
        home = torch.device("cpu") if settings.cpu_offload == "layers" else device
        network = load_network(base, "auto", home)
        freeze_beside_text(network)
        return cast_weights(network, settings.weight_format)

    trained = train_stage(run, TrainingJob("mfpt", settings, folder, tokenizer, blocks, load), input_hash)
    if trained is None:
        return Outputs()
    network = trained.network
    origin = {"base": str(base), "base_fingerprint": corpus.base, "blocks": corpus.blocks}
    origin |= origin_of_canaries(run)
    save_model(network.to(network.config.dtype), tokenizer, run.folder / MODEL.folder, origin, base)
    passes = trained.outputs.steps * settings.batch_size / len(blocks)
    return MfptOutputs(
        model=fingerprint(run.folder / MODEL.folder),
        epochs={name: round(passes * part["read"] / part["bytes"], 3) for name, part in (corpus.mixture or {}).items()}
        or None,
        **trained.outputs.to_dict() | {"files": files_in(run, MODEL.folder)},
    )


def _plan(recipe: Recipe, folder: Path | None) -> TrainingStage:
    block_size = recipe.corpus.block_size if recipe.corpus else 0
    return TrainingStage(
        "mfpt", _settings(recipe), block_size, packed_rows(folder, block_size), has_benchmarks(recipe)
    )


MFPT = Stage(
    name="mfpt",
    section=MfptConfig,
    enabled=in_section("mfpt"),
    needs=("corpus",),
    inputs=_inputs,
    perform=_perform,
    outputs=MfptOutputs,
    model=MODEL,
    training=_plan,
    check=_check,
    check_base=_check_base,
    check_config=_check_config,
    keeps=("checkpoints/step-*", "model"),
    shared=True,
)
