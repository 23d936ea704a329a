"""Stage deploy: export the last model as files for machines without PyTorch, each with its proof."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any

from jmedllm.deploy.delivery import DeployConfig, deliver, delivery_bytes
from jmedllm.errors import InputError
from jmedllm.files import hash_text, to_json
from jmedllm.report import collect
from jmedllm.report.training import read_training
from jmedllm.stages.base_files import BaseFiles, PublishedBase
from jmedllm.stages.card import write_readme
from jmedllm.stages.stage import (
    Outputs,
    Run,
    Stage,
    fingerprint_before,
    in_section,
    model_before,
    own_folder,
    starts_from_base,
)

NAME = "deploy"


@dataclass(frozen=True, kw_only=True)
class DeployOutputs(Outputs):
    """Outputs of the deploy stage.

    Attributes:
        deployed: for each file its path in the run's folder, type, size, SHA-256, limit and proof.
    """

    deployed: list[dict[str, Any]]


def _settings(run: Run) -> DeployConfig:
    settings: DeployConfig = run.recipe.section(NAME)
    return settings


def _inputs(run: Run) -> dict[str, Any]:
    return _inputs_of_a_file(run) | {"types": _settings(run).types}


def _inputs_of_a_file(run: Run) -> dict[str, Any]:
    """Return what affects every file, so that another type in the recipe does not export the others again.

    The model card inside does not count: new scores of the same model are no reason to export it again.
    """
    corpus = run.outputs.get("corpus")
    return {
        "model": fingerprint_before(run, NAME),
        "name": run.recipe.name,
        "text": corpus.to_dict()["blocks"] if corpus else None,
        "settings": _settings(run).model_dump(exclude={"types"}),
    }


def _check(run: Run) -> Sequence[str]:
    from jmedllm.deploy.llama_cpp import require_llama_cpp
    from jmedllm.models.conversion.gguf import require_gguf

    require_gguf()
    require_llama_cpp(NAME)
    if starts_from_base(run, NAME):
        raise InputError(
            f"recipe {run.recipe.name}: deploy exports a trained model, but no stage trains one; add mfpt or "
            "mpeft, or export the base with: jmedllm deploy gguf MODEL --output FILE.gguf"
        )
    if (created := run.recipe.base.random_init) is not None:
        from jmedllm.models.random_init import planned_config

        _require_architecture(planned_config(created))
    return ("llama.cpp", "types")


def _check_base(run: Run, base: BaseFiles) -> Sequence[str]:
    from jmedllm.deploy.gguf.pretokenizer import find_pre_tokenizer
    from jmedllm.deploy.gguf.source import Source
    from jmedllm.deploy.gguf.vocabulary import vocabulary
    from jmedllm.training.preflight import folder_bytes, require_free

    _require_architecture(base.config)
    source = Source(base.folder, base.config, base.tokenizer)
    find_pre_tokenizer(base.tokenizer, vocabulary(base.tokenizer, base.config.vocab_size, source.ends), ())
    parameters = sum(each.numel() for each in base.structure.parameters())
    size = delivery_bytes(parameters, _settings(run).types) - folder_bytes(run.folder / NAME)
    require_free(run.folder, size, "deploy (files, and one in float32 for the proof)")
    return ("architecture", "tokenizer", "disk space")


def _check_config(run: Run, base: PublishedBase) -> Sequence[str]:
    _require_architecture(base.config)
    return ("architecture",)


def _require_architecture(config: Any) -> None:
    from jmedllm.deploy.gguf.architectures import architecture_metadata, architecture_of, text_config

    text = text_config(deepcopy(config))  # which it changes
    architecture_of(text)
    architecture_metadata(text)


def _perform(run: Run, _: str) -> DeployOutputs:
    from jmedllm.deploy.gguf.source import BLOCKS, source_of

    # A folder of these inputs keeps the files that a killed run, or a recipe with other types, has finished.
    folder = own_folder(run.folder / NAME, hash_text(to_json(_inputs_of_a_file(run))))
    _write_card(run)
    blocks = run.folder / BLOCKS
    source = source_of(model_before(run, NAME), run.folder.resolve().name, blocks if blocks.is_dir() else None)
    found = list(deliver(source, folder, run.recipe.name, _settings(run)))
    paths = [each.file.relative_to(run.folder).as_posix() for each in found]
    return DeployOutputs(
        deployed=[asdict(each) | {"file": path} for each, path in zip(found, paths, strict=True)], files=paths
    )


def _write_card(run: Run) -> None:
    """Write the model card that the files contain, with the scores so far."""
    training = [stage for stage in read_training([run.folder]) if stage.name in run.outputs]
    if training:
        write_readme(run, collect([run.folder]) if run.recipe.eval else [], training)


DEPLOY = Stage(
    name=NAME,
    section=DeployConfig,
    enabled=in_section(NAME),
    inputs=_inputs,
    perform=_perform,
    outputs=DeployOutputs,
    check=_check,
    check_base=_check_base,
    check_config=_check_config,
)
