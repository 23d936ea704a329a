"""Stage deploy: export the last model as files for machines without PyTorch, each with its proof."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any

from jmedllm.deploy.delivery import DeployConfig, deliver, delivery_bytes
from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks.file_formats import is_custom_file
from jmedllm.evaluation.evaluate import EvalConfig, split_language
from jmedllm.files import hash_text, to_json
from jmedllm.report import collect
from jmedllm.report.training import read_training
from jmedllm.stages.base_files import BaseFiles, PublishedBase
from jmedllm.stages.canary import has_canaries
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

if TYPE_CHECKING:
    from jmedllm.deploy.gguf.benchmarks import Benchmarks

NAME = "deploy"
_BUNDLE = "bundle"


@dataclass(frozen=True, kw_only=True)
class DeployOutputs(Outputs):
    """Outputs of the deploy stage.

    Attributes:
        deployed: for each file its path in the run's folder, type, size, SHA-256, limit, proof, and the bundle that
            has it.
    """

    deployed: list[dict[str, Any]]


def _settings(run: Run) -> DeployConfig:
    settings: DeployConfig = run.recipe.section(NAME)
    return settings


def _inputs(run: Run) -> dict[str, Any]:
    return _inputs_of_a_file(run) | {"settings": _settings(run).model_dump()}


def _inputs_of_a_file(run: Run) -> dict[str, Any]:
    """Return what affects each file, so that another type in the recipe does not export the others again.

    The model card inside does not count: new scores of the same model are no reason to export it again.
    """
    settings, benchmarks, corpus = _settings(run), _benchmarks(run), run.outputs.get("corpus")
    return {
        "model": fingerprint_before(run, NAME),
        "name": run.recipe.name,
        "text": corpus.to_dict()["blocks"] if corpus else None,
        "accept_divergence": settings.accept_divergence,
        **(
            {"benchmarks": [each.settings() | {"questions": each.questions_hash()} for each in benchmarks.tasks()]}
            if benchmarks
            else {}
        ),
    }


_ASKED = {"selection", "split", "limit", "max_new_tokens", "thinking_budget", "shuffle", "map", "skip_invalid"}
"""Settings of the run's evaluation that these benchmarks share."""


def _benchmarks(run: Run) -> "Benchmarks | None":
    """Return the benchmarks that the model and each file answer, with the prompts and scorers of the run."""
    from jmedllm.deploy.gguf.benchmarks import Benchmarks, reading_scorers

    names, asked = _settings(run).benchmarks, run.recipe.eval
    if not names:
        return None
    shared = asked.model_dump(include=_ASKED) if asked else {}
    if not any(is_custom_file(split_language(name)[0]) for name in names):
        shared |= {"map": {}, "skip_invalid": False}
    config = EvalConfig(benchmarks=names, scorers=reading_scorers(asked.scorers if asked else ()), **shared)
    return Benchmarks(config, run.prompt_config, run.data)


def _check(run: Run) -> Sequence[str]:
    from jmedllm.deploy.llama_cpp import require_llama_cpp
    from jmedllm.models.conversion.gguf import require_gguf

    require_gguf()
    require_llama_cpp(NAME)
    _require_wheels(run)
    if has_canaries(run):
        raise InputError(
            f"recipe {run.recipe.name}: its training data contain canaries, and such a model is not for delivery; "
            "remove deploy, or train on the data without them"
        )
    if starts_from_base(run, NAME):
        raise InputError(
            f"recipe {run.recipe.name}: deploy exports a trained model, but no stage trains one; add mfpt or "
            "mpeft, or export the base with: jmedllm deploy gguf MODEL --output FILE.gguf"
        )
    if (created := run.recipe.base.random_init) is not None:
        from jmedllm.models.random_init import planned_config

        _require_architecture(planned_config(created))
    if benchmarks := _benchmarks(run):
        benchmarks.tasks()
    return (
        "llama.cpp",
        "types",
        *(["benchmarks"] if benchmarks else []),
        *(["wheels"] if _settings(run).wheels else []),
    )


def _require_wheels(run: Run) -> None:
    wheels = _settings(run).wheels
    if wheels is not None and not any(Path(wheels).glob("*.whl")):
        raise InputError(f"recipe {run.recipe.name}: deploy.wheels: {wheels} has no wheels; name a directory that has")


def _check_base(run: Run, base: BaseFiles) -> Sequence[str]:
    from jmedllm.deploy.gguf.architectures import text_config
    from jmedllm.deploy.gguf.pretokenizer import find_pre_tokenizer
    from jmedllm.deploy.gguf.source import Source
    from jmedllm.deploy.gguf.vocabulary import vocabulary
    from jmedllm.deploy.ollama.chat_template import go_template
    from jmedllm.models.chat import ChatTemplate
    from jmedllm.training.preflight import folder_bytes, require_free

    _require_architecture(base.config)
    source = Source(base.folder, text_config(deepcopy(base.config)), base.tokenizer)
    found = vocabulary(base.tokenizer, source.config.vocab_size, source.ends)
    find_pre_tokenizer(base.tokenizer, found, ())
    if _settings(run).modelfile and found.chat_template:
        go_template(ChatTemplate(base.tokenizer), adds_bos=found.add_bos, today=run.date)
    parameters = sum(each.numel() for each in base.structure.parameters())
    size = delivery_bytes(parameters, _settings(run).types) - folder_bytes(run.folder / NAME)
    require_free(run.folder, size, "deploy (files, and one in float32 for the proof)")
    return ("architecture", "tokenizer", "disk space")


def _check_config(run: Run, base: PublishedBase) -> Sequence[str]:
    config = deepcopy(base.config)
    config.architectures = [type(base.structure).__name__]  # a published config may lack it
    _require_architecture(config)
    return ("architecture",)


def _require_architecture(config: Any) -> None:
    from jmedllm.deploy.gguf.architectures import architecture_metadata, architecture_of, text_config

    text = text_config(deepcopy(config))  # which it changes
    architecture_of(text)
    architecture_metadata(text)


def _perform(run: Run, _: str) -> DeployOutputs:
    from jmedllm.deploy.gguf.source import BLOCKS, source_of

    # A folder of these inputs keeps the files that a killed run, or a recipe with other types, has finished.
    settings = _settings(run)
    folder = own_folder(run.folder / NAME, hash_text(to_json(_inputs_of_a_file(run))))
    _write_card(run)
    blocks = run.folder / BLOCKS
    source = source_of(model_before(run, NAME), run.folder.resolve().name, blocks if blocks.is_dir() else None)
    found = list(deliver(source, folder, run.recipe.name, settings, _benchmarks(run), run.date))
    deployed = [asdict(each) | {"file": each.file.relative_to(run.folder).as_posix()} for each in found]
    deployed[0] |= {"bundle": _bundle(run, found[0].file)}
    return DeployOutputs(deployed=deployed, files=_files(run))


def _files(run: Run) -> list[str]:
    """Return the paths of what users take; of a bundle the list of its files, which its installer checks."""
    names = [
        name
        for pattern in ("*.gguf", "*.proof.json", "*.Modelfile", f"{_BUNDLE}/SHA256SUMS")
        for name in (run.folder / NAME).glob(pattern)
    ]
    return sorted(each.relative_to(run.folder).as_posix() for each in names)


def _bundle(run: Run, file: Path) -> dict[str, Any] | None:
    """Pack a file if the recipe asks for it; else remove an earlier bundle."""
    from jmedllm.bundle.served_model import find_model
    from jmedllm.bundle.target import parse_target, this_python, usual_platform
    from jmedllm.bundle.write import write_bundle

    folder, settings = run.folder / NAME / _BUNDLE, _settings(run)
    if not settings.bundle:
        rmtree(folder, ignore_errors=True)
        return None
    wheels = Path(settings.wheels) if settings.wheels else None
    written = write_bundle(find_model(str(file)), folder, parse_target(this_python(), usual_platform()), wheels)
    return {"folder": f"{NAME}/{_BUNDLE}", "bytes": written.size, "sha256": written.sha256}


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
