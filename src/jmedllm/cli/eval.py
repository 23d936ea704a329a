"""The command `jmedllm eval`."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from jmedllm.cli.as_given import as_given
from jmedllm.cli.decoding import DecodingOption, MaxNewTokens, Repeat, SamplesOption, SeedOption
from jmedllm.cli.ending import print_ending
from jmedllm.cli.options import (
    INFERENCE,
    ITEMS,
    PROMPT,
    SCORER_NAMES,
    AnswerAs,
    AsJson,
    Benchmarks,
    Data,
    Device,
    IgnoreAdapter,
    Judge,
    JudgeKeyEnv,
    KeyEnv,
    Languages,
    Limit,
    Map,
    MaxReply,
    Precision,
    PromptPack,
    Proxy,
    Selection,
    Shots,
    SkipInvalid,
    Threads,
    Timeout,
    client_options,
    eval_config,
    from_plugins,
    split,
)
from jmedllm.cli.printing import print_item_notes, print_json, print_report
from jmedllm.errors import InputError

if TYPE_CHECKING:
    from jmedllm.evaluation.prompts.format import PromptConfig
    from jmedllm.evaluation.result import EvalResult
    from jmedllm.evaluation.task import EvalTask
    from jmedllm.models.backends.base import Requirement


ModelName = Annotated[
    str,
    typer.Option(help="Model: directory, id in the local Hugging Face cache, or its name on a server."),
]
Output = Annotated[Path, typer.Option(help="Output directory. An interrupted evaluation resumes from here.")]
ScorerNames = Annotated[
    str,
    typer.Option(help=f"How answers are scored, separated by commas: {SCORER_NAMES}."),
]
ReportName = Annotated[
    str | None,
    typer.Option(help="Name of the model in reports.", show_default="the last part of --model"),
]
Released = Annotated[
    str | None,
    typer.Option(
        metavar="YYYY-MM-DD",
        help="Day on which the model was released; reports name the exams that came later.",
        show_default="unknown",
    ),
]
Split = Annotated[
    str,
    typer.Option(
        "--split", help="Split of the benchmarks: test, train, or a year if they have it.", rich_help_panel=ITEMS
    ),
]
Shuffle = Annotated[
    int | None,
    typer.Option(
        help="Shuffle the choices of each question with this seed.",
        show_default="the printed order",
        rich_help_panel=ITEMS,
    ),
]
Rotations = Annotated[
    int,
    typer.Option(
        help="Ask each question with this many rotations of its choices, to measure how much their order matters.",
        rich_help_panel=ITEMS,
    ),
]
NoImages = Annotated[
    bool,
    typer.Option(
        "--no-images",
        help="Ask without the pictures of the questions, also a model that sees.",
        rich_help_panel=PROMPT,
    ),
]
Chat = Annotated[
    bool,
    typer.Option("--chat", help="Use the model's chat template, as its users do.", rich_help_panel=PROMPT),
]
ThinkingOption = Annotated[
    Literal["on", "off", "default"],
    typer.Option(
        help="Whether the model thinks first: on (it does), off (answers at once), default (as its template has it).",
        rich_help_panel=PROMPT,
    ),
]
EffortOption = Annotated[
    Literal["low", "medium", "high"] | None,
    typer.Option(
        help="Effort of the thought: low (short thoughts), medium (as usual), high (long thoughts).",
        show_default="the template's",
        rich_help_panel=PROMPT,
    ),
]
SystemMessage = Annotated[
    str,
    typer.Option(help="System message of the chat.", show_default="the template's", rich_help_panel=PROMPT),
]
TemplateArgs = Annotated[
    str | None,
    typer.Option(
        help="Further variables of the chat template, as JSON.",
        show_default="none",
        rich_help_panel=PROMPT,
    ),
]
TemplateDate = Annotated[
    str | None,
    typer.Option(
        help="Date that the chat template writes as today's, as YYYY-MM-DD.",
        show_default="the day the evaluation began",
        rich_help_panel=PROMPT,
    ),
]
AdapterFolder = Annotated[
    Path | None,
    typer.Option(
        help="Directory of an adapter that was trained on this model.",
        show_default="none",
        rich_help_panel=INFERENCE,
    ),
]
QuantizationName = Annotated[
    Literal["none", "nf4"] | None,
    typer.Option(
        help="Precision of the stored weights: none (as they are), nf4 (4-bit, an eighth).",
        show_default="as the adapter was trained, else none",
        rich_help_panel=INFERENCE,
    ),
]
Dequantize = Annotated[
    bool,
    typer.Option(
        "--dequantize",
        help="Load weights that are stored quantized (FP8, MXFP4, GPTQ and others) in bfloat16.",
        rich_help_panel=INFERENCE,
    ),
]
BackendName = Annotated[
    str,
    typer.Option(
        help="Inference backend: transformers (CPU or GPU), vllm (GPUs, fast), openai (a server at --server)"
        f"{from_plugins('backends')}.",
        rich_help_panel=INFERENCE,
    ),
]
ServerUrl = Annotated[
    str | None,
    typer.Option(
        help="URL of an OpenAI-compatible server, with --backend openai; --model is the model's name there.",
        show_default="none",
        rich_help_panel=INFERENCE,
    ),
]
ExtraBody = Annotated[
    str | None,
    typer.Option(
        help="Fields to add to each request to the server, as JSON; null removes a field.",
        show_default="none",
        rich_help_panel=INFERENCE,
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        help="Maximum number of items answered at the same time.",
        show_default="as memory allows",
        rich_help_panel=INFERENCE,
    ),
]
Constrain = Annotated[
    bool,
    typer.Option(
        "--constrain",
        help="Let the model write nothing but one of the choices (or their letters), where the backend can.",
        rich_help_panel=INFERENCE,
    ),
]
ThinkingBudget = Annotated[
    int | None,
    typer.Option(
        help="Maximum length of a thought, in tokens.", show_default="no limit of its own", rich_help_panel=INFERENCE
    ),
]
Revision = Annotated[
    str | None,
    typer.Option(
        help="Revision of a Hugging Face id: branch, tag or commit.",
        show_default="main",
        rich_help_panel=INFERENCE,
    ),
]
Download = Annotated[
    bool,
    typer.Option("--download", help="Download the model if it is not in the local cache.", rich_help_panel=INFERENCE),
]


def evaluate(
    context: typer.Context,
    model: ModelName,
    benchmark: Benchmarks,
    output: Output,
    data: Data = Path("data"),
    scorer: ScorerNames = "answer,likelihood",
    judge: Judge = None,
    name: ReportName = None,
    released: Released = None,
    language: Languages = "ja,en",
    selection: Selection = None,
    limit: Limit = None,
    split_name: Split = "test",
    columns: Map = None,
    skip_invalid: SkipInvalid = False,
    shuffle: Shuffle = None,
    rotations: Rotations = 1,
    prompt: PromptPack = "instruction",
    answer_as: AnswerAs = "text",
    shots: Shots = None,
    no_images: NoImages = False,
    chat: Chat = False,
    thinking: ThinkingOption = "default",
    effort: EffortOption = None,
    system: SystemMessage = "",
    template_args: TemplateArgs = None,
    date: TemplateDate = None,
    adapter: AdapterFolder = None,
    ignore_adapter: IgnoreAdapter = False,
    quantization: QuantizationName = None,
    dequantize: Dequantize = False,
    precision: Precision = "auto",
    device: Device = "auto",
    threads: Threads = None,
    backend: BackendName = "transformers",
    server: ServerUrl = None,
    extra_body: ExtraBody = None,
    key_env: KeyEnv = "JMEDLLM_API_KEY",
    judge_key_env: JudgeKeyEnv = "JMEDLLM_API_KEY",
    proxy: Proxy = None,
    timeout: Timeout = None,
    max_reply: MaxReply = 16,
    batch_size: BatchSize = None,
    max_new_tokens: MaxNewTokens = None,
    thinking_budget: ThinkingBudget = None,
    decoding: DecodingOption = "greedy",
    samples: SamplesOption = None,
    seed: SeedOption = None,
    repeat: Repeat = 1,
    constrain: Constrain = False,
    revision: Revision = None,
    download: Download = False,
    as_json: AsJson = False,
) -> None:
    """Evaluate a model on benchmarks and print the scores."""
    from jmedllm.evaluation.decoding import parse_decoding
    from jmedllm.evaluation.evaluate import evaluate_model, require_known, tasks
    from jmedllm.evaluation.exam_years import RELEASED, parse_day
    from jmedllm.evaluation.judge import prepare_judge
    from jmedllm.evaluation.model import requirements_of_tasks, unused_template
    from jmedllm.models.backends import require_backend, require_capabilities, requirements_of
    from jmedllm.models.backends.base import ModelSpec, ServerSettings
    from jmedllm.models.folder import resolve
    from jmedllm.named_server import parse_server

    settings = eval_config(
        benchmark, language, columns, scorers=split(scorer), selection=selection, limit=limit, split=split_name,
        skip_invalid=skip_invalid, shuffle=shuffle, rotations=rotations, batch_size=batch_size,
        max_new_tokens=max_new_tokens, thinking_budget=thinking_budget, backend=backend, judge=judge,
        images=not no_images, constrain=constrain, repeat=repeat,
        decoding=parse_decoding(decoding, samples=samples, seed=seed),
    )  # fmt: skip
    require_known(settings)
    client = client_options(key_env, proxy, timeout, max_reply)
    if server is not None:
        client.key()  # so that it is known, and stored nowhere
    spec = ModelSpec(
        model, name or Path(model).name, backend, adapter=adapter, ignore_adapter=ignore_adapter,
        server=None if server is None else parse_server(server), client=client,
        server_settings=ServerSettings(extra_body=_json_option("extra-body", extra_body)),
        quantization=quantization, dequantize=dequantize, batch_size=batch_size,
    )  # fmt: skip
    on_this_machine = _local_options(
        precision=precision != "auto", device=device != "auto", threads=threads, ignore_adapter=ignore_adapter,
        revision=revision, download=download, date=date,
    )  # fmt: skip
    can = require_capabilities(backend, [*requirements_of(spec), *on_this_machine]).capabilities
    prompt_config = _prompt_config(
        template_args,
        pack=prompt,
        answer_as=answer_as,
        chat=chat,
        thinking=thinking,
        effort=effort,
        system=system,
        shots=shots,
        date=date,
    )
    command = as_given(context)
    origin = {"command": command} | ({} if released is None else {RELEASED: f"{parse_day(released, '--released: ')}"})
    found = [replace(task, source=task.source | origin) for task in tasks(settings, prompt_config, data)]
    print_item_notes(found)
    _print_pack_note(prompt, found)
    require_capabilities(backend, requirements_of_tasks(found))
    chosen = None
    if can.local or judge is not None:
        from jmedllm.precision import choose_precision  # imports torch, which a model on a server does not need

        chosen = choose_precision(precision, device, threads)
    require_backend(backend, requirements_of(replace(spec, precision=chosen if can.local else None)))
    if can.local and chosen is not None:
        spec = replace(spec, model=str(resolve(model, revision=revision, download=download)), precision=chosen)
        if unused := unused_template(found, spec):
            typer.echo(unused, err=True)
        if not as_json:
            typer.echo(f"{chosen.name} on {chosen.device}, {chosen.reason}", err=True)
    results = evaluate_model(
        spec,
        found,
        output,
        prepare_judge(judge, chosen, replace(client, key_env=judge_key_env)) if judge is not None else None,
    )
    if results:  # under torchrun only the first process has them
        _print_results(results, output, as_json=as_json)


def _prompt_config(template_args: str | None, **options: object) -> "PromptConfig":
    from jmedllm.evaluation.prompts.format import PromptConfig
    from jmedllm.settings import from_options

    variables = _json_option("template-args", template_args)
    config = from_options(PromptConfig, template_args=variables, **options)
    if config.shaping_the_template and not config.chat:
        option = next(iter(config.shaping_the_template)).replace("_", "-")
        raise InputError(f"--{option} shapes the chat template; give --chat, too")
    return config


def _print_pack_note(prompt: str, tasks: "Sequence[EvalTask]") -> None:
    if note := tasks[0].prompt_format.pack.note:
        typer.echo(f"prompt pack {prompt}: {note}", err=True)


def _print_results(results: "Sequence[EvalResult]", output: Path, *, as_json: bool) -> None:
    if as_json:
        print_json(results)
        return
    print_report(results)
    print_ending("report", output, "--html", output / "report.html", wrote=(output,))


def _json_option(name: str, text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except json.JSONDecodeError as error:
        raise InputError(f"--{name} {text!r}: broken JSON: {error.msg}") from None
    if not isinstance(value, dict):
        raise InputError(f'--{name} {text!r}: must be a JSON object, such as {{"enable_thinking": false}}')
    return value


def _local_options(**given: object) -> "Iterator[Requirement]":
    """Yield the requirements of options that are only for a model on this machine."""
    from jmedllm.models.backends.base import Requirement

    for name, value in given.items():
        if value:
            yield Requirement(f"--{name.replace('_', '-')}", lambda can: can.local, "leave it out")
