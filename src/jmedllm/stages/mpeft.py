"""Stage mpeft: medical parameter-efficient tuning on questions and instructions."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from jmedllm.errors import InputError, unknown
from jmedllm.evaluation.prompts.format import PromptFormat, ask, ask_instruction, prepare
from jmedllm.evaluation.prompts.render import Instruction, answer_text
from jmedllm.evaluation.question import Language
from jmedllm.files import hash_text, to_json
from jmedllm.models.chat import ChatTemplate, ChatText, no_template, turn_end
from jmedllm.models.folder import fingerprint
from jmedllm.models.tokenizer.encoding import Tokenizer
from jmedllm.pipeline import Run, Stage, files_in, own_folder
from jmedllm.recipe import MpeftConfig, Recipe
from jmedllm.stages.corpus import read_corpus
from jmedllm.stages.models import (
    base_folder,
    numerics,
    require_trainable_here,
    shaping,
    tuned_fingerprint,
    tuned_folder,
)
from jmedllm.stages.questions import (
    left_out_of_training,
    notes_on_training,
    require_no_train_test_overlap,
    training_questions,
)
from jmedllm.stages.validation import open_validation, require_measurable, validation_inputs
from jmedllm.training.examples import (
    LengthLimits,
    conversation_samples,
    document_samples,
    example_sample,
    filter_by_length,
    split_document,
)
from jmedllm.training.instructions import Conversation, read_instructions
from jmedllm.training.mixing import repetitions
from jmedllm.training.packing import Sample, pack_examples


@dataclass(frozen=True, slots=True)
class Pair:
    """What the model is given and the answer it is to give."""

    name: str
    prompt: str
    answer: str


@dataclass(frozen=True, slots=True)
class Example:
    """Something to learn, as text.

    Attributes:
        source: the benchmark or file that the recipe names.
    """

    source: str
    language: Language
    content: Pair | Conversation


def examples(run: Run, settings: MpeftConfig, chat_text: ChatText) -> list[Example]:
    """All of them: questions first, then instructions, each through the prompt pack, conversations as they are.

    Raises:
        InputError: questions, instructions or the pack are missing or wrong.
    """
    prompt_format = prepare(run.prompt_config, run.data)
    found: list[Example] = []
    for source, question in training_questions(run):
        name, prompt = f"{source} {question.id}", ask(prompt_format, question, chat_text)
        pair = Pair(name, prompt, answer_text(question, prompt_format.answer_as))
        found.append(Example(source, question.language, pair))
    for file in settings.instructions:
        for item in read_instructions(Path(file), settings.read_options):
            found.append(Example(file, item.language, _content(prompt_format, item, chat_text)))
    return found


def _content(
    prompt_format: PromptFormat, item: Instruction | Conversation, chat_text: ChatText
) -> Pair | Conversation:
    if isinstance(item, Conversation):
        return item
    return Pair(item.name, ask_instruction(prompt_format, item, chat_text), item.output)


def weighted(found: Sequence[Example], weights: Mapping[str, float]) -> list[Example]:
    """Each example as often as the weight of its source times that of its language says, as `training.mixing`
    does it: what is not whole is decided by the example's hash.

    Raises:
        InputError: a weight names a source or language that no example has, or nothing is left.
    """
    known = {name for example in found for name in (example.source, example.language)}
    for name in weights:
        if name not in known:
            raise unknown("source or language in weights", name, known)
    kept = [
        example
        for example in found
        for _ in range(
            repetitions(_text(example), weights.get(example.source, 1.0) * weights.get(example.language, 1.0))
        )
    ]
    if not kept:
        raise InputError("mpeft.weights: leave no example to train on; raise them")
    return kept


def _text(example: Example) -> str:
    content = example.content
    return to_json([content.prompt, content.answer] if isinstance(content, Pair) else content.messages)


def _inputs(run: Run) -> dict[str, Any]:
    settings = run.recipe.mpeft
    assert settings is not None
    found = examples(run, settings, chat_text=to_json)
    return {
        "model": tuned_fingerprint(run),
        # As turns: the text that a chat template makes of them follows from its settings.
        "examples": hash_text(to_json([asdict(each) for each in found])),
        **_template_settings(run, found),
        "corpus": run.outputs["corpus"]["blocks"] if settings.replay else None,
        "settings": shaping(settings),
        **validation_inputs(run),
        **numerics(run),
    }


def _template_settings(run: Run, found: Sequence[Example]) -> dict[str, Any]:
    """What of the chat template shapes the examples; nothing where none goes through it."""
    from jmedllm.models.tokenizer.load import load_tokenizer

    if not (run.prompt_config.chat or any(isinstance(each.content, Conversation) for each in found)):
        return {}
    return {"template": _template(run, load_tokenizer(tuned_folder(run))).settings()}


def _template(run: Run, tokenizer: Tokenizer) -> ChatTemplate:
    return ChatTemplate(tokenizer, run.prompt_config.chat_template_kwargs, run.prompt_config.date)


def _check(run: Run) -> None:
    from jmedllm.deploy.preflight import report_frozen, require_mergeable
    from jmedllm.models.loading import load_structure
    from jmedllm.models.tokenizer.load import load_tokenizer
    from jmedllm.training.memory import require_untied_embedding

    settings = run.recipe.mpeft
    assert settings is not None
    require_trainable_here(run, settings)
    require_measurable(run, settings.early_stopping)
    for note in notes_on_training(run):
        sys.stderr.write(f"mpeft: {note}\n")
    if not run.recipe.corpus:  # else the corpus stage looks before it begins
        require_no_train_test_overlap(run)
    if run.recipe.base.random_init:
        weighted(examples(run, settings, to_json), settings.weights)
    else:
        _fitting(run, settings, load_tokenizer(base_folder(run)))
        network = load_structure(base_folder(run), quantization=settings.adapter.quantization)
        if settings.offload_embedding:
            require_untied_embedding(network)
        is_rewritten = run.recipe.mfpt is not None
        frozen = require_mergeable(base_folder(run), settings.adapter, is_rewritten=is_rewritten)
        report_frozen(frozen, "mpeft")


def _fitting(run: Run, settings: MpeftConfig, tokenizer: Tokenizer) -> tuple[list[Sample], dict[str, Any]]:
    """The examples that are not too long, as token ids; and what the manifest says of them."""
    template = _template(run, tokenizer)
    if template.variables:
        template.require_variables()
    chat = run.prompt_config.chat
    closing = turn_end(template).text if chat else ""
    found = weighted(examples(run, settings, template.prompt if chat else no_template), settings.weights)
    encoded = [sample for example in found for sample in _encoded(template, example, closing)]
    limits = LengthLimits(settings.max_prompt_tokens, settings.max_completion_tokens, settings.block_size)
    kept = filter_by_length(encoded, limits, settings.excess_length_strategy)
    dropped = {"dropped": len(encoded) - len(kept)} if settings.excess_length_strategy == "drop" else {}
    left_out = {"left_out": found_out} if (found_out := left_out_of_training(run)) else {}
    return kept, {"mixture": Counter(f"{each.source} {each.language}" for each in found), **dropped, **left_out}


def _samples(run: Run, settings: MpeftConfig, tokenizer: Tokenizer) -> tuple[list[Sample], dict[str, Any]]:
    """Examples in random order, among them the share of corpus documents that the recipe replays; and what
    the manifest says of them."""
    random = Random(run.recipe.seed)
    samples, made = _fitting(run, settings, tokenizer)
    if settings.replay:
        wanted = round(len(samples) * settings.replay / (1 - settings.replay))
        for document in document_samples(tokenizer, random.choices(read_corpus(run), k=wanted)):
            samples += split_document(document, settings.block_size)
    random.shuffle(samples)
    return samples, {"examples": len(samples), **made}


def _encoded(template: ChatTemplate, example: Example, closing: str) -> list[Sample]:
    content = example.content
    if isinstance(content, Pair):
        return [example_sample(template.tokenizer, content.name, content.prompt, content.answer, closing)]
    return conversation_samples(template, content.name, content.messages)


def _perform(run: Run, input_hash: str) -> dict[str, Any]:
    import torch

    from jmedllm.deploy.delta import left_frozen
    from jmedllm.models.loading import load_network, load_structure
    from jmedllm.models.save import save_adapter
    from jmedllm.models.tokenizer.load import load_tokenizer
    from jmedllm.planning.auto import memory_of
    from jmedllm.training.distributed import shard
    from jmedllm.training.loop import train
    from jmedllm.training.lora import add_adapter, add_adapter_layers, to_plain_lora
    from jmedllm.training.memory import offload_embedding
    from jmedllm.training.optim.weights import WEIGHT_FORMATS
    from jmedllm.training.preflight import folder_bytes, preview_example, require_free

    settings, base, seed = run.recipe.mpeft, tuned_folder(run), run.recipe.seed
    assert settings is not None
    folder = own_folder(run.folder / "mpeft", input_hash)
    require_no_train_test_overlap(run)
    require_free(run.folder, folder_bytes(base), "the merged model, as large as its base,")
    tokenizer = load_tokenizer(base)
    samples, told = _samples(run, settings, tokenizer)
    blocks = pack_examples(samples, settings.block_size, tokenizer.pad_token_id)
    evaluation = open_validation(run, tokenizer, settings.block_size)
    preview_example(tokenizer, blocks, "mpeft", text=run.shows_example)
    adapter = settings.adapter

    def load_adapted(device: torch.device) -> Any:
        network = load_network(base, run.precision.dtype, device, quantization=adapter.quantization)
        adapted = add_adapter(network, adapter, seed, WEIGHT_FORMATS[settings.weight_format].dtype)
        return offload_embedding(adapted) if settings.offload_embedding else adapted

    network, gather = shard(load_adapted, run.precision)
    trained = train(
        network,
        blocks,
        settings,
        run.precision,
        folder,
        seed=seed,
        input_hash=input_hash,
        title="mpeft",
        evaluation=evaluation,
    )
    memory = memory_of(run.recipe, run.folder, "mpeft", run.precision.device)
    whole = gather()
    if whole is None:
        return {}
    origin = {
        "base": str(base),
        "base_fingerprint": fingerprint(base),
        "quantization": adapter.quantization,
    }
    save_adapter(to_plain_lora(whole), folder / "adapter", origin)
    frozen = left_frozen(add_adapter_layers(load_structure(base), adapter))
    return {
        "adapter": fingerprint(folder / "adapter"),
        **({"left_frozen": frozen} if frozen else {}),
        **told,
        "files": files_in(run, "mpeft/adapter"),
        **trained.summary(),
        **memory,
        **({"evaluated": evaluation.sizes()} if evaluation else {}),
    }


def _enabled(recipe: Recipe) -> bool:
    return recipe.mpeft is not None


STAGE = Stage("mpeft", _enabled, _inputs, _perform, _check, keeps=("checkpoints/step-*", "adapter"), shared=True)
