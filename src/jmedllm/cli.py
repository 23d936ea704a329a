"""The command line: parse, call, print. Heavy imports live inside the commands, so that --help is quick."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer.exceptions import TyperException

from jmedllm import __version__
from jmedllm.cli_corpus import corpus_app
from jmedllm.cli_tokens import tokens
from jmedllm.errors import InputError, is_out_of_memory
from jmedllm.processes import is_first, may_speak

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from jmedllm.exam.sitting import Sitting

app = typer.Typer(
    help="Adapt an open LLM to medicine, in Japanese and English, and measure honestly whether it worked.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # rich would double the time that --help takes
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Benchmarks on disk: what there is, get it, check it.", no_args_is_help=True)
app.add_typer(data_app, name="data")
export_app = typer.Typer(help="The same items for other harnesses.", no_args_is_help=True)
app.add_typer(export_app, name="export")
app.add_typer(corpus_app, name="corpus")

_OUT_OF_MEMORY = (
    "out of memory; lower --batch (exam), micro_batch or block_size (training); what is done so far is kept"
)

_INTERRUPTED = 130
"""What typer makes of Ctrl-C."""

Stage = Literal["corpus", "mfpt", "mpeft", "merge", "exam", "report"]
RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="The recipe.")]
RunFolder = Annotated[Path | None, typer.Option("--output", help="Run directory [runs/NAME].")]
Seed = Annotated[int | None, typer.Option(help="Replaces the recipe's seed.")]
Control = Annotated[str | None, typer.Option(help="Lay one of the recipe's controls over it.")]
Data = Annotated[Path, typer.Option(help="Data directory.", envvar="JMEDLLM_DATA")]
Precision = Annotated[
    Literal["auto", "bfloat16", "float32"], typer.Option(help="Number format of the matrix products.")
]
Device = Annotated[Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="Where to compute.")]


def main() -> None:
    """Run the command line; an error of the user's is one line and exit code 2."""
    try:
        code = app(prog_name="jmedllm", standalone_mode=False)
    except InputError as error:
        _fail(str(error), 2)
    except TyperException as error:
        message = error.format_message()
        if message.startswith("Usage:"):  # no command was given, so the help is the answer
            typer.echo(message)
            sys.exit(2)
        _fail(message, 2)
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            _fail(_OUT_OF_MEMORY, 2)
        if not may_speak():  # the connection to a process that has failed and said so
            sys.exit(2)
        raise
    else:
        if code == _INTERRUPTED:
            _fail("interrupted; the same command goes on from here", _INTERRUPTED)
        sys.exit(code)


def _fail(message: str, code: int) -> None:
    if may_speak():
        typer.secho(f"error: {message}", err=True, fg="red")
    sys.exit(code)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(f"jmedllm {__version__}")
        raise typer.Exit


@app.command()
def run(
    recipe: RecipeFile,
    output: RunFolder = None,
    until: Annotated[Stage, typer.Option(help="Last stage to carry out.")] = "report",
    control: Control = None,
    seed: Seed = None,
    check: Annotated[bool, typer.Option("--check", help="Only check the recipe; load nothing.")] = False,
) -> None:
    """Carry out a recipe: corpus, mfpt, mpeft, merge, exam, report."""
    if check:
        from jmedllm.recipe import load_recipe
        from jmedllm.stages import STEPS

        checked = load_recipe(recipe, control=control, seed=seed)
        wanted = [step.stage for step in STEPS if step.wanted(checked)]
        typer.echo(f"{recipe}: valid; stages {', '.join(wanted)}")
        return
    _carry_out(recipe, output, until, control, seed)


@app.command()
def pretrain(recipe: RecipeFile, output: RunFolder = None, control: Control = None, seed: Seed = None) -> None:
    """Stage 1 (MFPT) of a recipe, with the corpus stage it needs."""
    _require_section(recipe, "mfpt")
    _carry_out(recipe, output, "mfpt", control, seed)


@app.command()
def tune(recipe: RecipeFile, output: RunFolder = None, control: Control = None, seed: Seed = None) -> None:
    """Stage 2 (MPEFT) of a recipe, with the stages it needs."""
    _require_section(recipe, "mpeft")
    _carry_out(recipe, output, "mpeft", control, seed)


def _require_section(recipe: Path, section: str) -> None:
    from jmedllm.recipe import load_recipe

    if getattr(load_recipe(recipe), section) is None:
        raise InputError(f"{recipe}: has no {section} section, so there is nothing to train")


def _carry_out(recipe: Path, output: Path | None, until: Stage, control: str | None, seed: int | None) -> None:
    from jmedllm.precision import choose_precision
    from jmedllm.recipe import load_recipe
    from jmedllm.run import Run, carry_out
    from jmedllm.stages import STEPS

    loaded = load_recipe(recipe, control=control, seed=seed)
    folder = output or Path("runs") / loaded.name
    precision = choose_precision(loaded.precision, loaded.device, loaded.threads)
    if is_first():
        chosen = f"{precision.name} on {precision.device}, {precision.reason}"
        typer.echo(f"{loaded.name} in {folder}: {chosen}", err=True)

    def tell(stage: str, what: str) -> None:
        typer.secho(f"{stage:<7} {what}", err=True, fg="green" if what.startswith("done") else None)

    carry_out(STEPS, Run(loaded, folder, precision, {}), until, tell)
    if is_first() and until == "report" and loaded.exam:
        from jmedllm.report import collect

        _print_report(collect([folder]))
        typer.echo(f"report: {folder / 'report.html'}, {folder / 'report.md'}", err=True)


@app.command()
def merge(
    model: Annotated[str, typer.Option(help="Base: directory, or id in the local Hugging Face cache.")],
    adapter: Annotated[Path, typer.Option(help="Adapter trained on that base.")],
    output: Annotated[Path, typer.Option(help="Directory of the merged model.")],
    text: Annotated[
        Path | None, typer.Option(help="Text to hold it against the trained model on [built-in].")
    ] = None,
    accept_divergence: Annotated[
        float, typer.Option(help="Largest KL from the trained model, in nats a token.")
    ] = 0.01,
    precision: Precision = "auto",
    device: Device = "auto",
) -> None:
    """Fold an adapter into its base: a plain model directory, measured against the model that was trained."""
    from jmedllm.deploy.divergence import TEXTS, read_texts
    from jmedllm.deploy.merge import Merging
    from jmedllm.deploy.merge import merge as merge_into
    from jmedllm.models.folder import resolve
    from jmedllm.precision import choose_precision
    from jmedllm.settings import from_options

    settings = from_options(Merging, accept_divergence=accept_divergence)
    merged = merge_into(
        resolve(model),
        adapter,
        output,
        choose_precision(precision, device),
        texts=TEXTS if text is None else read_texts(text),
        accepted=settings.accept_divergence,
    )
    far = merged.divergence
    typer.echo(f"merged model {merged.fingerprint} in {output}")
    typer.echo(f"KL from the trained model: {far.nats:.2g} nats a token, over {far.tokens} tokens")


@app.command()
def exam(
    model: Annotated[str, typer.Option(help="Directory, or id in the local Hugging Face cache.")],
    benchmark: Annotated[
        str, typer.Option(help="Names or your own .jsonl files, with commas between; NAME:ja for one language.")
    ],
    output: Annotated[Path, typer.Option(help="Directory of the records; a second call goes on there.")],
    data: Data = Path("data"),
    language: Annotated[str, typer.Option(help="ja, en or both.")] = "ja,en",
    track: Annotated[str, typer.Option(help="answer, legacy, likelihood, official.")] = "answer,likelihood",
    adapter: Annotated[Path | None, typer.Option(help="Adapter trained on this model.")] = None,
    name: Annotated[str | None, typer.Option(help="Name in reports [last part of --model].")] = None,
    selection: Annotated[str, typer.Option(help="Which items: all, graded or legacy.")] = "legacy",
    prompt: Annotated[str, typer.Option(help="Prompt pack: name, folder or published file.")] = "instruction",
    answer_as: Annotated[str, typer.Option(help="Ask for the choice's text or its letter.")] = "text",
    chat: Annotated[bool, typer.Option("--chat", help="Use the model's chat template.")] = False,
    shots: Annotated[str | None, typer.Option(help=".jsonl file of solved examples.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first N items of each paper.")] = None,
    shuffle: Annotated[int | None, typer.Option(help="Seed of a random order of the choices.")] = None,
    rotations: Annotated[int, typer.Option(help="Show each question with K turns of its choices.")] = 1,
    batch: Annotated[int | None, typer.Option(help="Most items answered together [as memory allows].")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Longest response.")] = 256,
    quantization: Annotated[
        Literal["none", "nf4"] | None, typer.Option(help="Hold the base in 4 bits [as the adapter was trained].")
    ] = None,
    precision: Precision = "auto",
    device: Device = "auto",
    engine: Annotated[Literal["transformers", "vllm"], typer.Option(help="What runs it.")] = "transformers",
    server: Annotated[
        str | None, typer.Option(help="Ask --model of the OpenAI-compatible server at this URL instead.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Revision of a hub id.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Allow fetching a hub id.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON.")] = False,
) -> None:
    """Let a model sit benchmarks, one record per item."""
    from jmedllm.exam.examine import ExamSettings, examine, examine_served, papers, require_known
    from jmedllm.exam.prompts.asking import Prompting
    from jmedllm.models.folder import resolve
    from jmedllm.precision import choose_precision
    from jmedllm.settings import from_options

    settings = from_options(
        ExamSettings,
        benchmarks=_names(benchmark),
        languages=_names(language),
        tracks=_names(track),
        selection=selection,
        limit=limit,
        batch=batch,
        max_new_tokens=max_new_tokens,
        shuffle=shuffle,
        rotations=rotations,
    )
    require_known(settings)
    prompting = from_options(Prompting, pack=prompt, answer_as=answer_as, chat=chat, shots=shots)
    sat = papers(settings, prompting, data)
    if note := sat[0].asking.pack.note:
        typer.echo(f"prompt pack {prompt}: {note}", err=True)
    label = name or Path(model).name
    if server is not None:
        _refuse_with_server(
            adapter=adapter, quantization=quantization, revision=revision, download=download,
            engine=engine != "transformers", precision=precision != "auto", device=device != "auto",
        )  # fmt: skip
        sittings = examine_served(server, model, sat, output, label=label, concurrency=batch or 32)
    else:
        folder = resolve(model, revision=revision, download=download)
        chosen = choose_precision(precision, device)
        if not as_json:
            typer.echo(f"{chosen.name} on {chosen.device}, {chosen.reason}", err=True)
        sittings = examine(
            folder, sat, chosen, output, name=label, adapter=adapter, quantization=quantization, batch=batch,
            engine=engine,
        )  # fmt: skip
    if sittings:  # under torchrun only the first process has them
        (_print_json if as_json else _print_report)(sittings)


def _refuse_with_server(**given: object) -> None:
    for name, value in given.items():
        if value:
            raise InputError(
                f"--{name} says how to run a model here, and --server asks one elsewhere; leave one out"
            )


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Outputs of exams or runs.")],
    output: Annotated[Path | None, typer.Option(help="Also write Markdown to this file.")] = None,
    html: Annotated[Path | None, typer.Option(help="Also write one page with every item to this file.")] = None,
    data: Data = Path("data"),
    questions: Annotated[list[Path] | None, typer.Option(help="Your own .jsonl exam that was sat.")] = None,
) -> None:
    """Print the scores of finished exams beside the published ones."""
    from jmedllm.files import write_atomic
    from jmedllm.report import collect_records, markdown, questions_of
    from jmedllm.report.page import write_page
    from jmedllm.report.training import read_training

    sat = collect_records(folders)
    sittings = [each.sitting for each in sat]
    if html is not None:
        title = ", ".join(folder.resolve().name for folder in folders)
        write_page(html, sat, questions_of(sat, data, questions or ()), title, read_training(folders))
    if output is not None:
        write_atomic(output, markdown(sittings))
    _print_report(sittings)


def _print_json(sittings: "Sequence[Sitting]") -> None:
    from dataclasses import asdict

    from jmedllm.files import to_json

    rows = [asdict(score) for sitting in sittings for score in sitting.scores]
    boards = [asdict(board) for sitting in sittings for board in sitting.official]
    typer.echo(to_json({"scores": rows, "official": boards}, indent=2))


def _print_report(sittings: "Sequence[Sitting]") -> None:
    from jmedllm.report import print_table

    print_table(sittings, _console())


def _console() -> "Console":
    from rich.console import Console

    console = Console()
    # Piped output keeps whole rows.
    return console if console.is_terminal else Console(width=120)


@app.command()
def compare(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Outputs of exams or runs.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparisons as JSON.")] = False,
) -> None:
    """Compare models, and Japanese with English, item by item: is A better than B?"""
    from dataclasses import asdict

    from jmedllm.files import to_json
    from jmedllm.report.collect import collect_records
    from jmedllm.report.compare import compare as compare_all
    from jmedllm.report.compare import print_comparisons

    found = compare_all(collect_records(folders))
    if not found:
        raise InputError(
            "nothing to compare: give exams of two models on one benchmark, or of one in both languages"
        )
    if as_json:
        typer.echo(to_json({"comparisons": [asdict(each) for each in found]}, indent=2))
    else:
        print_comparisons(found, _console())


@app.command()
def score(
    responses: Annotated[list[Path], typer.Option(help=".jsonl files of id and response, one or more.")],
    more: Annotated[list[Path] | None, typer.Argument(metavar="[FILE...]", hidden=True)] = None,
    benchmark: Annotated[str | None, typer.Option(help="Benchmark that was answered.")] = None,
    questions: Annotated[Path | None, typer.Option(help="Or your own .jsonl exam that was answered.")] = None,
    year: Annotated[int | None, typer.Option(help="Only this year of igakuqa.")] = None,
    language: Annotated[Literal["ja", "en"], typer.Option(help="Language it was answered in.")] = "ja",
    track: Annotated[str, typer.Option(help="answer, legacy, official, with commas between.")] = "answer",
    selection: Annotated[str, typer.Option(help="Which items: all, graded or legacy.")] = "all",
    strict_letters: Annotated[
        bool, typer.Option("--strict-letters", help="Read answers by a plain comma split only.")
    ] = False,
    items: Annotated[
        Path | None, typer.Option(help="Write the first track's verdict on each item to this .jsonl file.")
    ] = None,
    data: Data = Path("data"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON.")] = False,
) -> None:
    """Score recorded answers without any model."""
    from jmedllm.exam.recorded import item_rows, questions_answered, read_responses, score_responses
    from jmedllm.files import to_json, write_jsonl
    from jmedllm.report.recorded import print_scored

    answered = [*responses, *(more or ())]
    if items is not None and items.resolve() in {path.resolve() for path in [*answered, questions] if path}:
        raise InputError(f"--items {items}: would overwrite what is scored; choose another file")
    asked = questions_answered(benchmark, questions, language, data, year=year, selection=selection)
    given = read_responses(answered, [question.id for question in asked])
    scored = score_responses(asked, given, _names(track), strict_letters=strict_letters)
    if items is not None:
        write_jsonl(items, item_rows(scored))
    if as_json:
        typer.echo(to_json(scored.as_json(), indent=2))
    else:
        print_scored(scored, _console())


app.command()(tokens)


@data_app.command("list")
def data_list() -> None:
    """What can be got: licence, upstream, revision, items."""
    from jmedllm.data.listing import listing

    typer.echo(listing())


@data_app.command("get")
def data_get(
    name: Annotated[str, typer.Argument(help="One of `jmedllm data list`.")],
    data: Data = Path("data"),
    mirror: Annotated[str | None, typer.Option(help="Folder or URL that holds the same files.")] = None,
    revision: Annotated[str | None, typer.Option(help="Revision of an upstream that is not pinned.")] = None,
) -> None:
    """Fetch one source from upstream or a mirror and verify every file."""
    from jmedllm.data.fetch import get

    fetched = get(name, data, mirror, revision)
    new = sum(file.new for file in fetched)
    typer.echo(f"{name}: {new} files fetched, {len(fetched) - new} already there, all verified, in {data}")


@data_app.command("check")
def data_check(
    name: Annotated[str, typer.Argument(help="One of `jmedllm data list`.")], data: Data = Path("data")
) -> None:
    """Verify checksums and the number of items."""
    from jmedllm.data.check import check

    rows = check(name, data)
    bad = [row for row in rows if row.verdict in ("wrong", "missing")]
    for row in bad:
        typer.echo(f"{row.verdict}: {row.what}: expected {row.expected}, found {row.found}", err=True)
    if bad:
        raise InputError(f"{name}: {len(bad)} of {len(rows)} checks failed; run: jmedllm data get {name}")
    typer.echo(f"{name}: {len(rows)} checks passed")


@export_app.callback()
def _export() -> None:
    # With a callback the one harness keeps its name on the command line.
    pass


@export_app.command("lm-eval")
def export_lm_eval(
    benchmark: Annotated[
        str, typer.Option(help="Names or your own .jsonl files, with commas between; NAME:ja for one language.")
    ],
    output: Annotated[Path, typer.Option(help="Directory of the tasks.")],
    data: Data = Path("data"),
    language: Annotated[str, typer.Option(help="ja, en or both.")] = "ja,en",
    selection: Annotated[str, typer.Option(help="Which items: all, graded or legacy.")] = "legacy",
    prompt: Annotated[str, typer.Option(help="Prompt pack: name, folder or published file.")] = "instruction",
    answer_as: Annotated[str, typer.Option(help="Ask for the choice's text or its letter.")] = "text",
    shots: Annotated[str | None, typer.Option(help=".jsonl file of solved examples.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first N items of each paper.")] = None,
) -> None:
    """Write papers as tasks of lm-eval."""
    from jmedllm.exam.examine import ExamSettings, papers
    from jmedllm.exam.export import export_lm_eval as export
    from jmedllm.exam.prompts.asking import Prompting
    from jmedllm.settings import from_options

    settings = from_options(
        ExamSettings,
        benchmarks=_names(benchmark),
        languages=_names(language),
        tracks=["likelihood"],
        selection=selection,
        limit=limit,
    )
    prompting = from_options(Prompting, pack=prompt, answer_as=answer_as, shots=shots)
    for task in export(papers(settings, prompting, data), output):
        left_out = f", {task.left_out} left out: not exactly one right choice" if task.left_out else ""
        typer.echo(f"{task.task}: {task.n} items{left_out}")
    typer.echo(f"run: lm_eval --model hf --model_args pretrained=MODEL --include_path {output} --tasks TASK")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
