"""The commands of `jmedllm deploy`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from jmedllm.cli.ending import options, print_ending
from jmedllm.cli.options import (
    Data,
    KeyEnv,
    MaxReply,
    Proxy,
    TargetPlatform,
    TargetPython,
    Timeout,
    WheelFolder,
    client_options,
    split,
)
from jmedllm.cli.serve import deploy_serve
from jmedllm.errors import InputError

if TYPE_CHECKING:
    from jmedllm.deploy.gguf.proof import Proof

deploy_app = typer.Typer(help="Export a model for machines without PyTorch, with proof.", no_args_is_help=True)

Source = Annotated[
    str,
    typer.Argument(
        metavar="RUN|MODEL", help="Directory of a run or a model, or id of a model in the local Hugging Face cache."
    ),
]
Adapter = Annotated[
    Path | None, typer.Option(help="Directory of an adapter to merge into the model first.", show_default="none")
]
Ceiling = Annotated[
    float,
    typer.Option(min=0, help="Largest KL divergence of types below q8_0 from the model, in nats per token."),
]
ExamNames = Annotated[
    str | None,
    typer.Option(
        "--exam",
        metavar="BENCHMARKS",
        help="Benchmarks or files of your own questions, which the model and the file both answer.",
        show_default="none",
    ),
]
ExamItems = Annotated[
    int | None, typer.Option(help="Only the first N items of each benchmark of the exam.", show_default="all")
]
Trust = Annotated[
    bool,
    typer.Option("--trust", help="Load a file that was not exported here, from now on; compare its SHA-256 first."),
]


@deploy_app.callback()
def _deploy() -> None:
    # With a callback, a single command keeps its name on the command line.
    pass


deploy_app.command("serve")(deploy_serve)


@deploy_app.command("gguf")
def deploy_gguf(
    source: Source,
    output: Annotated[Path, typer.Option(metavar="FILE.gguf", help="File to write.")],
    file_type: Annotated[
        Literal["f32", "f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m"],
        typer.Option(
            "--type",
            help="Number format of the matrices: f32 (for checks), f16 (almost exact), bf16 (for bfloat16 models), "
            "q8_0 (half of f16), q6_k (6.6 bits), q5_k_m (5.7 bits), q4_k_m (4.9 bits).",
        ),
    ] = "f16",
    adapter: Adapter = None,
    accept_divergence: Ceiling = 0.1,
    proof: Annotated[bool, typer.Option(help="Prove that the file is the model.")] = True,
    exam_names: ExamNames = None,
    data: Data = Path("data"),
    limit: ExamItems = None,
    with_canaries: Annotated[
        bool,
        typer.Option("--with-canaries", help="Also export a model that was trained with made-up people."),
    ] = False,
) -> None:
    """Export a model as a GGUF file, for llama.cpp, with proof."""
    from jmedllm.deploy.gguf.benchmarks import benchmarks_of
    from jmedllm.deploy.gguf.export import export_gguf, proof_file
    from jmedllm.deploy.gguf.source import open_source
    from jmedllm.models.folder import require_no_canaries
    from jmedllm.precision import choose_precision

    if exam_names and not proof:
        raise InputError("deploy gguf: --exam is part of the proof; leave out --no-proof or --exam")
    _require_exam_for(limit, exam_names)
    with open_source(source, adapter, choose_precision("auto", "cpu")) as opened:
        if not with_canaries:
            require_no_canaries(opened.folder)
        chosen = benchmarks_of(source, opened, split(exam_names), data, limit) if exam_names else None
        exported = export_gguf(opened, output, file_type, ceiling=accept_divergence, benchmarks=chosen, proved=proof)
    formats = ", ".join(f"{count} {name}" for name, count in sorted(exported.written.formats.items()))
    typer.echo(f"tensors: {formats}")
    if exported.written.fallbacks:
        share = exported.written.fallbacks / sum(exported.written.formats.values())
        typer.echo(
            f"stored in another format because of their shape: {exported.written.fallbacks} tensors ({share:.0%})"
        )
    typer.echo(
        f"pre-tokenizer: {exported.pre.name}, the same token ids in {exported.pre.texts} of {exported.pre.texts} texts"
    )
    if exported.proof is None:
        typer.echo("not proved: prove it with jmedllm deploy prove before using it")
        print_ending("deploy", "prove", output, "--against", source, *options(adapter=adapter), wrote=(output,))
    else:
        print_proof(exported.proof)
        print_ending("deploy", "serve", output, wrote=(output, proof_file(output)))


@deploy_app.command("prove")
def deploy_prove(
    against: Annotated[str, typer.Option(metavar="RUN|MODEL", help="Run or model that it should be.")],
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE.gguf|DIR]", help="GGUF file or model directory to prove.", show_default="none"),
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Running server to prove instead (llama.cpp, vLLM, Ollama, or OpenAI-compatible).",
            show_default="none",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Name of the model on the server.", show_default="its only one")
    ] = None,
    key_env: KeyEnv = "JMEDLLM_API_KEY",
    proxy: Proxy = None,
    timeout: Timeout = None,
    max_reply: MaxReply = 16,
    adapter: Adapter = None,
    accept_divergence: Ceiling = 0.1,
    exam_names: ExamNames = None,
    data: Data = Path("data"),
    limit: ExamItems = None,
    trust: Trust = False,
) -> None:
    """Prove that a file, directory or server is the model."""
    from jmedllm.cli.server_proof import print_server_proof
    from jmedllm.deploy.directory_proof import prove_directory
    from jmedllm.deploy.endpoint import Endpoint
    from jmedllm.deploy.gguf.benchmarks import benchmarks_of
    from jmedllm.deploy.gguf.export import prove_file
    from jmedllm.deploy.gguf.source import open_source
    from jmedllm.deploy.servers.proof import ServerProof, prove_url
    from jmedllm.deploy.trust import require_trusted
    from jmedllm.named_server import announce, parse_server
    from jmedllm.precision import choose_precision

    if (file is None) == (server is None):
        raise InputError("deploy prove: give either a FILE.gguf (or a model directory) or --server URL")
    if model is not None and server is None:
        raise InputError("deploy prove: --model names a model on a server; add --server URL, or leave it out")
    _require_exam_for(limit, exam_names)
    client = client_options(key_env, proxy, timeout, max_reply)
    if server is not None and exam_names is not None:
        raise InputError("deploy prove --exam: a server takes an exam with jmedllm eval --backend openai")
    if file is not None and not file.is_dir():
        require_trusted(file, trust)
    with open_source(against, adapter, choose_precision("auto", "cpu")) as opened:
        if file is not None:
            chosen = benchmarks_of(against, opened, split(exam_names), data, limit) if exam_names else None
            if file.is_dir():
                print_proof(prove_directory(file, opened, benchmarks=chosen), "in transformers")
            else:
                print_proof(prove_file(file, opened, ceiling=accept_divergence, benchmarks=chosen))
        elif server is not None:
            url, key = parse_server(server).removesuffix("/v1"), client.key()
            announce(url, "prompts", client, key)
            served = Endpoint(url, key, client)
            proof = prove_url(served, model, opened, ceiling=accept_divergence)
            print_server_proof(proof) if isinstance(proof, ServerProof) else print_proof(proof)


@deploy_app.command("bundle")
def deploy_bundle(
    source: Annotated[
        str, typer.Argument(metavar="FILE.gguf|MODEL|RUN", help="GGUF file, model directory, or run to hand over.")
    ],
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write.")],
    python: TargetPython = None,
    platform: TargetPlatform = None,
    wheels: WheelFolder = None,
    trust: Annotated[bool, typer.Option("--trust", help="Pack a GGUF file that was not exported here.")] = False,
) -> None:
    """Pack a model with all it needs on a machine without a network."""
    from jmedllm.bundle.served_model import find_model
    from jmedllm.bundle.target import parse_target, this_python, usual_platform
    from jmedllm.bundle.write import write_bundle
    from jmedllm.deploy.trust import require_trusted

    target = parse_target(python or this_python(), platform or usual_platform())
    model = find_model(source)
    for file in model.gguf_files:
        require_trusted(file, trust)
    bundle = write_bundle(model, output, target, wheels)
    typer.echo(
        f"{bundle.files} files, {bundle.size / 1e6:,.0f} MB, for Python {target.python} on {target.platforms[0]}"
    )
    for name in bundle.without_licence:
        typer.echo(f"licence not stated: {name}; ask its author before you pass the bundle on")
    if model.proof is None:
        typer.echo("not proved: the model carries no proof that it is the one that was trained")
    typer.echo(f"SHA-256 of SHA256SUMS, for the receiver to compare: {bundle.sha256}")
    print_ending(output / "run.sh", wrote=(output,), program="sh")


@deploy_app.command("modelfile")
def deploy_modelfile(
    file: Annotated[Path, typer.Argument(metavar="FILE.gguf", help="File that Ollama will run.")],
    output: Annotated[
        Path | None, typer.Option(help="Modelfile to write.", show_default="Modelfile beside FILE.gguf")
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="TOKENS",
            help="Number of tokens of prompt and answer.",
            show_default="the model's, as far as keys and values fit into 2 GiB",
        ),
    ] = None,
) -> None:
    """Write a Modelfile that makes Ollama send the model's own prompts."""
    from datetime import date

    from jmedllm.deploy.ollama.modelfile import write_modelfile

    output = output or file.with_name("Modelfile")
    written = write_modelfile(file, output, context=context, today=date.today().isoformat())
    if compared := written.template.conversations:
        typer.echo(f"template: the same prompts as the chat template in {compared} conversations")
    typer.echo(f"an answer ends with: {' or '.join(written.stops)}")
    typer.echo(f"context: {written.context} tokens, {written.cache / 2**20:.0f} MiB of keys and values")
    for note in written.notes:
        typer.echo(f"note: {note}")
    print_ending("create", "NAME", "-f", output, program="ollama", wrote=(output,))


def _require_exam_for(limit: int | None, exam_names: str | None) -> None:
    """Check that a limit of items has an exam.

    Raises:
        InputError: there is none.
    """
    if limit is not None and not exam_names:
        raise InputError("--limit is for the items of an exam; add --exam, or leave it out")


def print_proof(proof: "Proof", where: str = "served") -> None:
    """Print the figures of a proof.

    Args:
        proof: the proof.
        where: where the predictions were computed.
    """
    if proof.normalized:
        typer.echo(
            f"note: {proof.normalized} of {proof.texts} texts have the same token ids only in the form that jmedllm's "
            "server gives to llama.cpp (Unicode in NFC, spaces at the beginning)"
        )
    shown = {"float32 in llama.cpp": proof.exact} if proof.exact else {}
    shown |= {f"{where}, {name}": each for name, each in proof.languages.items()}
    for name, each in shown.items():
        typer.echo(f"{name}: KL {each.kl:.2g} nats per token, top-1 {each.top1:.1%}, {each.positions:,} positions")
    if where == "served":
        typer.echo(f"(KL of served files: the {proof.top_tokens} most likely tokens one by one, the others as one)")
    prompts = "chats" if proof.chats else "plain questions (the model has no chat template)"
    typer.echo(f"greedy answers to {proof.answers.prompts} {prompts}: {proof.answers.same} the same")
    if proof.same_chats is False:
        typer.echo(
            "note: llama.cpp on its own renders chats differently from the model's template; send it token ids, as "
            "jmedllm deploy serve does"
        )
    for row in proof.benchmarks:
        of = f"exam {row.benchmark} {row.language}, {row.n:,} items, scorer {row.scorer}"
        trained = f"model {row.trained:.1%} ({_interval(row.trained_interval)})"
        served = f"file {row.served:.1%} ({_interval(row.served_interval)})"
        only = f"only the model right {row.only_trained}, only the file {row.only_served}, p = {row.p:.2g}"
        typer.echo(f"{of}: {row.same:,} responses the same; {trained}, {served}; {only}")


def _interval(bounds: tuple[float, float]) -> str:
    low, high = bounds
    return f"{100 * low:.1f} to {100 * high:.1f}"
