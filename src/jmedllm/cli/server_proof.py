"""Print the proof of a running server."""

import typer

from jmedllm.deploy.servers.proof import ServerProof


def print_server_proof(proof: ServerProof) -> None:
    """Print what of a server was compared, and what could not be."""
    typer.echo(f"server: {proof.server}")
    counts = {"texts with the same token ids": proof.texts, "chats rendered the same": proof.chats}
    for what, count in (counts | {"tokens that end an answer as in the model": proof.ends}).items():
        if count:
            typer.echo(f"{what}: {count} of {count}")
    for language, found in proof.languages.items():
        typer.echo(
            f"served, {language}: KL at least {found.kl:.2g} nats per token (by the {found.listed:.0f} most likely "
            f"tokens), top-1 {found.top1:.1%}, {found.positions} positions"
        )
    typer.echo(f"greedy answers: {proof.answers.same} of {proof.answers.prompts} the same")
    for each in proof.unseen:
        typer.echo(f"not compared: {each}")
