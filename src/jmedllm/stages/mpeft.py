"""Stage mpeft: medical parameter-efficient tuning on questions and instructions."""

from pathlib import Path
from random import Random
from typing import Any

from jmedllm.corpus.pack import Sample, pack_examples
from jmedllm.exam.benchmarks import load
from jmedllm.exam.prompts.asking import ChatText, ask, ask_instruction, prepare
from jmedllm.exam.prompts.render import answer_text
from jmedllm.exam.selection import select
from jmedllm.files import hash_text, to_json
from jmedllm.models.folder import fingerprint
from jmedllm.recipe import Mpeft, Recipe
from jmedllm.run import Run, Step, files_in, own_folder
from jmedllm.stages.corpus import read_corpus
from jmedllm.stages.evaluation import evaluation_inputs, open_evaluation
from jmedllm.stages.models import numerics, shaping, tuned_fingerprint, tuned_folder

Pair = tuple[str, str, str]
"""Name, prompt and answer of one example."""


def pairs(run: Run, settings: Mpeft, chat_text: ChatText) -> list[Pair]:
    """All training examples as text: questions first, then instructions, each through the prompt pack.

    Raises:
        InputError: questions, instructions or the pack are missing or wrong.
    """
    from jmedllm.training.instructions import read_instructions

    asking = prepare(run.recipe.prompt, run.data)
    found: list[Pair] = []
    for source in settings.questions:
        for language in source.languages:
            loaded = load(source.benchmark, language, run.data, source.split)
            for question in select(loaded, source.selection):
                answer = answer_text(question, asking.answer_as)
                found.append((f"{source.benchmark} {question.id}", ask(asking, question, chat_text), answer))
    for name in settings.instructions:
        for item in read_instructions(Path(name)):
            found.append((item.name, ask_instruction(asking, item, chat_text), item.output))
    return found


def _inputs(run: Run) -> dict[str, Any]:
    settings = run.recipe.mpeft
    assert settings is not None
    return {
        "model": tuned_fingerprint(run),
        # The chat template belongs to the model, whose fingerprint stands above.
        "examples": hash_text(to_json(pairs(run, settings, chat_text=to_json))),
        "corpus": run.made["corpus"]["blocks"] if settings.replay else None,
        "settings": shaping(settings),
        **evaluation_inputs(run),
        **numerics(run),
    }


def _samples(run: Run, settings: Mpeft, tokenizer: Any) -> list[Sample]:
    """Examples in random order, among them the share of corpus documents that the recipe replays."""
    from jmedllm.models.encoding import chat_text
    from jmedllm.training.examples import document_samples, example_sample

    random = Random(run.recipe.seed)
    found = pairs(run, settings, lambda messages: chat_text(tokenizer, messages))
    samples = [example_sample(tokenizer, *pair) for pair in found]
    if settings.replay:
        wanted = round(len(samples) * settings.replay / (1 - settings.replay))
        samples += document_samples(tokenizer, random.choices(read_corpus(run.recipe), k=wanted))
    random.shuffle(samples)
    return samples


def _perform(run: Run, identity: str) -> dict[str, Any]:
    from jmedllm.models.loading import load_network, load_tokenizer
    from jmedllm.models.save import save_adapter
    from jmedllm.training.adapter import add_adapter, to_plain
    from jmedllm.training.loop import train
    from jmedllm.training.show import show_example

    settings, base, seed = run.recipe.mpeft, tuned_folder(run), run.recipe.seed
    assert settings is not None
    folder = own_folder(run.folder / "mpeft", identity)
    tokenizer = load_tokenizer(base)
    samples = _samples(run, settings, tokenizer)
    blocks = pack_examples(samples, settings.block_size, tokenizer.pad_token_id)
    evaluation = open_evaluation(run, tokenizer, settings.block_size)
    show_example(tokenizer, blocks, "mpeft")
    network = load_network(
        base, run.precision.dtype, run.precision.device, quantization=settings.adapter.quantization
    )
    network = add_adapter(network, settings.adapter, seed)
    trained = train(
        network,
        blocks,
        settings,
        run.precision,
        folder,
        seed=seed,
        identity=identity,
        title="mpeft",
        evaluation=evaluation,
    )
    origin = {
        "base": str(base),
        "base_fingerprint": fingerprint(base),
        "quantization": settings.adapter.quantization,
    }
    save_adapter(to_plain(network), folder / "adapter", origin)
    return {
        "adapter": fingerprint(folder / "adapter"),
        "examples": len(samples),
        "files": files_in(run, "mpeft/adapter"),
        **trained.summary(),
        **({"evaluated": evaluation.census()} if evaluation else {}),
    }


def _wanted(recipe: Recipe) -> bool:
    return recipe.mpeft is not None


STEP = Step("mpeft", _wanted, _inputs, _perform)
