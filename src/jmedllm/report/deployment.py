"""Exported files of a run, with their proofs, as its manifest has them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jmedllm.manifest import read_manifest
from jmedllm.markdown import bullets, table
from jmedllm.report.numbers import percent, probability

NOTE = (
    "KL: mean KL divergence of the file's predictions in llama.cpp from those of the model in transformers in "
    "float32, in nats per token. Top-1: positions with the same most likely token, in %. A file beyond its limit is "
    "not written. A greedy answer can differ where two tokens are almost equally likely."
)


NOTE_ON_BENCHMARKS = (
    "The model in transformers and the file in llama.cpp answered the same prompts. Same responses: letter by letter. "
    "Scores in %, with the 95 % interval; −/+: items that only the model or only the file got right; p: exact McNemar "
    "test, for graded scores a permutation test."
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
        bundle: folder, bytes and SHA-256 of the bundle that has the file, if there is one.
        run: folder of its run, if several are read.
    """

    file: str
    type: str
    bytes: int
    sha256: str
    limit: float
    proof: Mapping[str, Any]
    bundle: Mapping[str, Any] | None = None
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
    def benchmarks(self) -> Sequence[Mapping[str, Any]]:
        """Scores of the model and the file on the same items, by benchmark, language and scorer; may be empty."""
        found: Sequence[Mapping[str, Any]] = self.proof["benchmarks"]
        return found

    @property
    def facts(self) -> list[str]:
        """What else is known about it, as Markdown."""
        proof, exact = self.proof, self.proof["exact"]
        composed = f"; {proof['normalized']} only in Unicode's composed form (NFC)" if proof["normalized"] else ""
        asked = "chats" if proof["chats"] else "plain questions"
        return [
            f"The same token ids in {proof['texts']} of {proof['texts']} texts{composed}",
            f"The model itself in llama.cpp in float32: KL {exact['kl']:.2g}, top-1 {percent(exact['top1'])} % at "
            f"{exact['positions']:,} positions",
            f"The {proof['top_tokens']:,} most likely tokens were compared one by one and the others as one, which "
            f"makes the KL of a file a lower bound; greedy answers to {asked}",
        ]

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


def facts(files: Sequence[DeployedFile]) -> list[str]:
    """Return what is known about files as Markdown, once where it is the same for all."""
    found: dict[str, list[str]] = {}
    for each in files:
        for line in each.facts:
            found.setdefault(line, []).append(each.name)
    lines = [line if len(names) == len(files) else f"{', '.join(names)}: {line}" for line, names in found.items()]
    lines += [f"SHA-256 of {each.name}: `{each.sha256}`" for each in files]
    return lines + [
        f"Bundle with {each.name} for a machine without a network: {each.bundle['folder']}, "
        f"{each.bundle['bytes'] / 1e6:,.0f} MB, SHA-256 of its SHA256SUMS: `{each.bundle['sha256']}`"
        for each in files
        if each.bundle
    ]


def deployment(files: Sequence[DeployedFile]) -> str:
    """Format files and proofs as Markdown; empty without files."""
    if not files:
        return ""
    results = [_compared_on(each.name, found) for each in files for found in each.benchmarks]
    head = ("File", "Benchmark", "Scorer", "n", "Same responses", "Model", "File", "−/+", "p")
    compared = [table(head, results, ["---"] * 3 + ["---:"] * 6), NOTE_ON_BENCHMARKS] if results else []
    return "\n\n".join([_figures(files), NOTE, *compared, bullets(facts(files))])


def _figures(files: Sequence[DeployedFile]) -> str:
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
    return table(head, rows, ["---", *["---:"] * (len(head) - 1)])


def _compared_on(name: str, found: Mapping[str, Any]) -> tuple[str, ...]:
    scores = [
        f"{percent(found[side])} ({' to '.join(map(percent, found[f'{side}_interval']))})"
        for side in ("trained", "served")
    ]
    return (
        name,
        f"{found['benchmark']} {found['language']}",
        found["scorer"],
        f"{found['n']:,}",
        f"{found['same']:,}",
        *scores,
        f"{found['only_trained']}/{found['only_served']}",
        probability(found["p"]),
    )
