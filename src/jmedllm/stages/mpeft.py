"""Stage mpeft: medical parameter-efficient tuning on questions and instructions."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from jmedllm.evaluation.benchmarks import BENCHMARKS
from jmedllm.files import hash_text, to_json
from jmedllm.models.folder import fingerprint
from jmedllm.models.tokenizer.encoding import Tokenizer
from jmedllm.planning.plan import TrainingStage
from jmedllm.recipe import MpeftConfig, Recipe
from jmedllm.stages.base_files import BaseFiles, PublishedBase
from jmedllm.stages.canary import origin_of_canaries
from jmedllm.stages.corpus import CorpusOutputs, read_corpus
from jmedllm.stages.examples import (
    examples,
    fitting,
    notes_on_examples,
    require_fitting,
    template_settings,
    weighted,
)
from jmedllm.stages.questions import notes_on_training, require_no_train_test_overlap
from jmedllm.stages.stage import (
    Outputs,
    Run,
    Stage,
    files_in,
    fingerprint_before,
    in_section,
    model_before,
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
from jmedllm.training.examples import document_samples, split_document
from jmedllm.training.packing import TrainingSample, pack_examples

UNKNOWN_LICENCE = "**unknown**"


@dataclass(frozen=True, kw_only=True)
class MpeftOutputs(TrainingOutputs):
    """Outputs of stage 2.

    Attributes:
        adapter: fingerprint of the adapter.
        examples: number of training examples.
        mixture: number of examples by source and language.
        with_thoughts: number of examples with thoughts, before any is dropped.
        separate_turns: number of turns of conversations that are further examples, because the chat template writes
            them differently once others follow.
        dropped: number of examples that were dropped because they are too long.
        left_out: number of questions and instructions that were left out, by source and reason.
        adapted_share: share of all weights in the matrices that the adapter changes.
        left_frozen: shares of the weights that the adapter does not change, by kind.
        compared_with: number of benchmark items that the training data were compared with, by benchmark.
    """

    adapter: str
    examples: int
    mixture: dict[str, int]
    with_thoughts: int | None = None
    separate_turns: int | None = None
    dropped: int | None = None
    left_out: dict[str, dict[str, int]] | None = None
    adapted_share: float | None = None
    left_frozen: dict[str, float] | None = None
    compared_with: dict[str, int] | None = None


def _settings(recipe: Recipe) -> MpeftConfig:
    assert recipe.mpeft is not None
    return recipe.mpeft


def _inputs(run: Run) -> dict[str, Any]:
    settings = _settings(run.recipe)
    found = examples(run, settings, chat_text=to_json)
    return {
        "model": fingerprint_before(run, "mpeft"),
        # Hash the messages, because the settings of the chat template determine their text.
        "examples": hash_text(to_json([asdict(each) for each in found])),
        **template_settings(run, found),
        "corpus": run.output("corpus", CorpusOutputs).blocks if settings.replay else None,
        "settings": shaping(settings),
        **validation_inputs(run),
        **numerics(run),
    }


def _check(run: Run) -> Sequence[str]:
    settings = _settings(run.recipe)
    checked = check_training(run, settings)
    for note in notes_on_training(run):
        sys.stderr.write(f"mpeft: {note}\n")
    if not run.recipe.corpus:  # otherwise the corpus stage checks it
        require_no_train_test_overlap(run)
    weighted(examples(run, settings, to_json), settings.weights)
    return (*checked, "examples")


def _check_base(run: Run, base: BaseFiles) -> Sequence[str]:
    from jmedllm.models.loading import load_structure
    from jmedllm.training.memory import require_untied_embedding
    from jmedllm.training.preflight import require_free

    settings = _settings(run.recipe)
    checked = check_trainable(run, base, _plan(run.recipe, None))
    for note in require_fitting(run, settings, base.tokenizer):
        sys.stderr.write(f"mpeft: {note}\n")
    network = load_structure(base.folder, quantization=settings.adapter.quantization)
    if settings.offload_embedding:
        require_untied_embedding(network)
    require_free(run.folder, base.weight_bytes, MERGED)
    return (*checked, "chat template", "lengths of the examples")


def _check_config(run: Run, base: PublishedBase) -> Sequence[str]:
    from jmedllm.training.memory import require_untied_embedding

    checked = check_architecture(run, base, _plan(run.recipe, None))
    if _settings(run.recipe).offload_embedding:
        require_untied_embedding(base.structure)
    return checked


MERGED = "the merged model, as large as its base,"


def _samples(run: Run, settings: MpeftConfig, tokenizer: Tokenizer) -> tuple[list[TrainingSample], dict[str, Any]]:
    """Return examples in random order with the recipe's share of corpus documents, and outputs about them."""
    random = Random(run.recipe.seed)
    samples, outputs = fitting(run, settings, tokenizer)
    if settings.replay:
        wanted = round(len(samples) * settings.replay / (1 - settings.replay))
        for document in document_samples(tokenizer, random.choices(read_corpus(run), k=wanted)):
            samples += split_document(document, settings.block_size)
    random.shuffle(samples)
    return samples, {"examples": len(samples), **outputs}


def _perform(run: Run, input_hash: str) -> Outputs:
    import torch

    from jmedllm.deploy.preflight import coverage
    from jmedllm.models.loading import load_network, load_structure
    from jmedllm.models.save import save_adapter
    from jmedllm.models.tokenizer.load import load_tokenizer
    from jmedllm.training.lora import add_adapter, to_plain_lora
    from jmedllm.training.memory import offload_embedding
    from jmedllm.training.optim.weights import WEIGHT_FORMATS
    from jmedllm.training.preflight import folder_bytes, require_free

    settings, base = _settings(run.recipe), model_before(run, "mpeft")
    adapter, folder = settings.adapter, own_folder(run.folder / "mpeft", input_hash)
    compared = require_no_train_test_overlap(run)
    require_free(run.folder, folder_bytes(base), MERGED)
    tokenizer = load_tokenizer(base)
    samples, counts = _samples(run, settings, tokenizer)
    blocks = pack_examples(samples, settings.block_size, tokenizer.pad_token_id)

    def load(device: torch.device) -> Any:
        network = load_network(base, run.precision.dtype, device, quantization=adapter.quantization)
        adapted = add_adapter(network, adapter, run.recipe.seed, WEIGHT_FORMATS[settings.weight_format].dtype)
        return offload_embedding(adapted) if settings.offload_embedding else adapted

    trained = train_stage(run, TrainingJob("mpeft", settings, folder, tokenizer, blocks, load), input_hash)
    if trained is None:
        return Outputs()
    origin = {"base": str(base), "base_fingerprint": fingerprint(base), "quantization": adapter.quantization}
    save_adapter(to_plain_lora(trained.network), folder / "adapter", origin | origin_of_canaries(run))
    found = coverage(load_structure(base), adapter)
    return MpeftOutputs(
        adapter=fingerprint(folder / "adapter"),
        adapted_share=round(found.adapted, 6),
        left_frozen=found.frozen or None,
        compared_with=compared or None,
        **counts,
        **trained.outputs.to_dict() | {"files": files_in(run, "mpeft/adapter")},
    )


def _plan(recipe: Recipe, _: Path | None) -> TrainingStage:
    settings = _settings(recipe)
    return TrainingStage("mpeft", settings, settings.block_size, None, has_benchmarks(recipe))


def _card(run: Run) -> Sequence[str]:
    return (f"Fingerprint of the adapter (mpeft): `{run.output('mpeft', MpeftOutputs).adapter}`",)


def _card_data(run: Run) -> Sequence[str]:
    settings, outputs = _settings(run.recipe), run.output("mpeft", MpeftOutputs)
    lines = [
        f"{source.benchmark} ({', '.join(source.languages)}; split {source.split}), "
        f"licence: {BENCHMARKS[source.benchmark].licence if source.benchmark in BENCHMARKS else UNKNOWN_LICENCE}"
        for source in settings.questions
    ]
    lines += [f"Instructions {name}, licence: {UNKNOWN_LICENCE}" for name in settings.instructions]
    if settings.replay:
        lines.append(f"Documents of the corpus, mixed in (replay): {settings.replay:.0%} of the examples")
    dropped = f"; left out as too long: {outputs.dropped:,}" if outputs.dropped is not None else ""
    lines.append(f"Examples: {outputs.examples:,}{dropped}")
    lines += notes_on_examples(settings, outputs.with_thoughts or 0, outputs.separate_turns or 0)
    for name, left_out in (outputs.left_out or {}).items():
        reasons = "; ".join(f"{count:,} {reason}" for reason, count in left_out.items())
        lines.append(f"Left out of {name}: {reasons}")
    return [*lines, _overlap_line(outputs.compared_with)]


def _overlap_line(compared_with: Mapping[str, int] | None) -> str:
    if not compared_with:
        return "**Not compared with any benchmark**: none was on disk, so these data may contain benchmark items"
    counts = ", ".join(f"{name} ({count:,})" for name, count in compared_with.items())
    return f"Before training all were compared with the benchmark items on disk, and none of them is one: {counts}"


MPEFT = Stage(
    name="mpeft",
    section=MpeftConfig,
    enabled=in_section("mpeft"),
    inputs=_inputs,
    perform=_perform,
    outputs=MpeftOutputs,
    training=_plan,
    check=_check,
    check_base=_check_base,
    check_config=_check_config,
    card=_card,
    card_data=_card_data,
    keeps=("checkpoints/step-*", "adapter"),
    shared=True,
)
