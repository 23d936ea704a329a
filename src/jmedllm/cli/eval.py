"""The command `jmedllm eval`."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from jmedllm.cli.options import (
    AnswerAs,
    Benchmarks,
    Data,
    Device,
    IgnoreAdapter,
    Languages,
    Limit,
    Map,
    Precision,
    PromptPack,
    Selection,
    Shots,
    SkipInvalid,
    question_map,
    split,
)
from jmedllm.cli.printing import print_item_notes, print_json, print_report
from jmedllm.errors import InputError

if TYPE_CHECKING:
    from jmedllm.models.backends.base import Requirement


def evaluate(
    model: Annotated[str, typer.Option(help="Directory, or id in the local Hugging Face cache.")],
    benchmark: Benchmarks,
    output: Annotated[Path, typer.Option(help="Directory of the records; a second call goes on there.")],
    data: Data = Path("data"),
    language: Languages = "ja,en",
    scorer: Annotated[str, typer.Option(help="answer, legacy, likelihood, official.")] = "answer,likelihood",
    adapter: Annotated[Path | None, typer.Option(help="Adapter trained on this model.")] = None,
    ignore_adapter: IgnoreAdapter = False,
    name: Annotated[str | None, typer.Option(help="Name in reports [last part of --model].")] = None,
    selection: Selection = None,
    prompt: PromptPack = "instruction",
    answer_as: AnswerAs = "text",
    chat: Annotated[bool, typer.Option("--chat", help="Use the model's chat template.")] = False,
    chat_template_kwargs: Annotated[
        str | None, typer.Option(help="Variables of the chat template, as JSON: '{\"enable_thinking\": false}'.")
    ] = None,
    date: Annotated[
        str | None, typer.Option(help="YYYY-MM-DD that the chat template reads as today's [the first day].")
    ] = None,
    shots: Shots = None,
    limit: Limit = None,
    columns: Map = None,
    skip_invalid: SkipInvalid = False,
    shuffle: Annotated[int | None, typer.Option(help="Seed of a random order of the choices.")] = None,
    rotations: Annotated[int, typer.Option(help="Show each question with K turns of its choices.")] = 1,
    batch_size: Annotated[int | None, typer.Option(help="Most items answered together [as memory allows].")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Longest response.")] = 256,
    quantization: Annotated[
        Literal["none", "nf4"] | None, typer.Option(help="Hold the base in 4 bits [as the adapter was trained].")
    ] = None,
    precision: Precision = "auto",
    device: Device = "auto",
    backend: Annotated[
        str,
        typer.Option(
            help="Inference backend: transformers (CPU or GPU), vllm (GPUs, fast), openai (a server at --server)."
        ),
    ] = "transformers",
    server: Annotated[
        str | None, typer.Option(help="URL of the OpenAI-compatible server; --model is its name there.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Revision of a hub id.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Allow fetching a hub id.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON.")] = False,
) -> None:
    """Evaluate a model on benchmarks and print the scores."""
    from jmedllm.evaluation.evaluate import (
        EvalConfig,
        evaluate_model,
        require_known,
        tasks,
    )
    from jmedllm.evaluation.model import requirements_of_tasks, unused_template
    from jmedllm.evaluation.prompts.format import PromptConfig
    from jmedllm.models.backends import require_backend, requirements_of
    from jmedllm.models.backends.base import ModelSpec
    from jmedllm.models.folder import resolve
    from jmedllm.settings import from_options

    settings = from_options(
        EvalConfig,
        benchmarks=split(benchmark),
        map=question_map(columns),
        skip_invalid=skip_invalid,
        languages=split(language),
        scorers=split(scorer),
        selection=selection,
        limit=limit,
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        shuffle=shuffle,
        rotations=rotations,
        backend=backend,
    )
    require_known(settings)
    spec = ModelSpec(
        model, name or Path(model).name, backend, server=server, adapter=adapter, ignore_adapter=ignore_adapter,
        quantization=quantization, batch_size=batch_size,
    )  # fmt: skip
    on_this_machine = _local_options(
        precision=precision != "auto", device=device != "auto", ignore_adapter=ignore_adapter, revision=revision,
        download=download, date=date, chat_template_kwargs=chat_template_kwargs,
    )  # fmt: skip
    can = require_backend(backend, [*requirements_of(spec), *on_this_machine]).capabilities
    prompt_config = from_options(
        PromptConfig, pack=prompt, answer_as=answer_as, chat=chat, shots=shots, date=date,
        chat_template_kwargs=_json_option("chat-template-kwargs", chat_template_kwargs),
    )  # fmt: skip
    if (prompt_config.chat_template_kwargs or date) and not chat:
        raise InputError("--chat-template-kwargs and --date shape the chat template; give --chat, too")
    sat = tasks(settings, prompt_config, data)
    print_item_notes(sat)
    if note := sat[0].prompt_format.pack.note:
        typer.echo(f"prompt pack {prompt}: {note}", err=True)
    require_backend(backend, requirements_of_tasks(sat))
    if can.local:
        from jmedllm.precision import choose_precision

        chosen = choose_precision(precision, device)
        spec = replace(spec, model=str(resolve(model, revision=revision, download=download)), precision=chosen)
        if unused := unused_template(sat, spec):
            typer.echo(unused, err=True)
        if not as_json:
            typer.echo(f"{chosen.name} on {chosen.device}, {chosen.reason}", err=True)
    results = evaluate_model(spec, sat, output)
    if results:  # under torchrun only the first process has them
        (print_json if as_json else print_report)(results)


def _json_option(name: str, text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except json.JSONDecodeError as error:
        raise InputError(f"--{name} {text!r}: broken JSON: {error.msg}") from None
    if not isinstance(value, dict):
        raise InputError(f'--{name} {text!r}: must be a JSON object, such as {{"enable_thinking": false}}')
    return value


def _local_options(**given: object) -> "Iterator[Requirement]":
    """What options that only make sense for a model on this machine ask of a backend."""
    from jmedllm.models.backends.base import Requirement

    for name, value in given.items():
        if value:
            yield Requirement(f"--{name.replace('_', '-')}", lambda can: can.local, "leave it out")
