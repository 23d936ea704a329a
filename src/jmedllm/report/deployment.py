"""Exported files of a run, with their proofs, as its manifest has them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jmedllm.manifest import read_manifest
from jmedllm.report.markdown import bullets, table
from jmedllm.report.numbers import percent

NOTE = (
    "KL: mean KL divergence of the file's predictions in llama.cpp from those of the model in transformers in "
    "float32, in nats per token. Top-1: positions with the same most likely token, in %. A file beyond its limit is "
    "not written. A greedy answer can differ where two tokens are almost equally likely."
)


@dataclass(frozen=True, slots=True)
class DeployedFile:
    """An exported file.

    Attributes:
        file: its path in the run's folder.
        type: number format of its matrices.
        bytes: its size.
        sha256: SHA-256 of its content.
        limit: KL divergence that it had to stay below, in nats per token.
        proof: record of its proof.
        run: folder of its run, if several are read.
    """

    file: str
    type: str
    bytes: int
    sha256: str
    limit: float
    proof: Mapping[str, Any]
    run: str = ""

    @property
    def languages(self) -> Mapping[str, Mapping[str, Any]]:
        """Figures of the file by language: `kl`, `top1` and `positions`."""
        found: Mapping[str, Mapping[str, Any]] = self.proof["languages"]
        return found

    @property
    def size(self) -> str:
        """Size for readers."""
        return f"{self.bytes / 2**30:,.2f} GiB" if self.bytes >= 2**27 else f"{self.bytes / 2**20:,.2f} MiB"

    @property
    def name(self) -> str:
        """Name of the file."""
        return Path(self.file).name

    @property
    def lines(self) -> list[str]:
        """What else is known about it, as Markdown."""
        proof, exact = self.proof, self.proof["exact"]
        composed = f"; {proof['normalized']} only in Unicode's composed form (NFC)" if proof["normalized"] else ""
        found = [f"{self.name}: the same token ids in {proof['texts']} of {proof['texts']} texts{composed}"]
        if exact:
            found.append(
                f"{self.name}: the model itself in llama.cpp in float32: KL {exact['kl']:.2g}, top-1 "
                f"{percent(exact['top1'])} % at {exact['positions']:,} positions"
            )
        asked = "chats" if proof["chats"] else "plain questions"
        found.append(
            f"{self.name}: the {proof['top_tokens']:,} most likely tokens were compared one by one and the others as "
            f"one, which makes its KL a lower bound; greedy answers to {asked}"
        )
        return [*found, f"{self.name}: SHA-256 `{self.sha256}`"]

    @property
    def answers(self) -> str:
        """Number of the same greedy answers."""
        return f"{self.proof['answers']['same']} of {self.proof['answers']['prompts']}"


def read_deployment(folders: Iterable[Path]) -> list[DeployedFile]:
    """Read the exported files of all runs among the folders; only those of a run's last recipe."""
    runs = [(folder, manifest) for folder in folders if (manifest := read_manifest(folder))]
    return [
        DeployedFile(**values, run=folder.name if len(runs) > 1 else "")
        for folder, manifest in runs
        if "deploy" in manifest["enabled"] and "deploy" in manifest["stages"]
        for values in manifest["stages"]["deploy"]["outputs"]["deployed"]
    ]


def deployment(files: Sequence[DeployedFile]) -> str:
    """Format files and proofs as Markdown; empty without files."""
    if not files:
        return ""
    languages = list(dict.fromkeys(language for each in files for language in each.languages))
    figures = [f"{name} {language}" for name in ("KL", "Top-1") for language in languages]
    head = ("File", "Size", *figures, "KL limit", "Same greedy answers")
    rows = [
        (
            each.name,
            each.size,
            *(f"{each.languages[language]['kl']:.2g}" for language in languages),
            *(percent(each.languages[language]["top1"]) for language in languages),
            f"{each.limit:g}",
            each.answers,
        )
        for each in files
    ]
    alignments = ["---", *["---:"] * (len(head) - 1)]
    return "\n\n".join([table(head, rows, alignments), NOTE, bullets(line for each in files for line in each.lines)])
