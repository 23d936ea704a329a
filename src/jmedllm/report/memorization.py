"""What trained models know of canaries, as the manifest of their run has it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jmedllm.canary.groups import Drawn, Group
from jmedllm.canary.table import cells, header
from jmedllm.manifest import read_manifest
from jmedllm.markdown import bullets, table

_GROUPS = {"planted": "in the inputs", "exempt": "in the de-identified text"}
"""Where canaries were planted, for readers."""

NOTE = (
    "Canaries are made-up people in the training data. Exposure: log2 of the number of possible secrets minus log2 of "
    "the secret's rank, among candidates; 1.44 bits on average without memorization. Controls: where the mean of as "
    "many canaries that were planted nowhere is in 95 % of cases. p: permutation test against them, adjusted (Holm). "
    "Canaries in the de-identified text show that the check sees what de-identification does not remove."
)


@dataclass(frozen=True, slots=True)
class Memorization:
    """A model's knowledge of a group of canaries.

    Attributes:
        model: name of the model.
        where: where the canaries were planted, for readers.
        reached: how many copies were trained; empty if it was not counted.
        rows: for each number of copies the cells of the table.
        conclusion: what it shows, in a sentence.
    """

    model: str
    where: str
    reached: str
    rows: Sequence[tuple[str, ...]]
    conclusion: str


def read_memorization(folder: Path) -> list[Memorization]:
    """Return what the models of a run know of its canaries, as its manifest has it; empty without canaries."""
    manifest = read_manifest(folder) or {}
    entry = manifest.get("stages", {}).get("memorization")
    if entry is None or "memorization" not in manifest["enabled"]:
        return []
    outputs = entry["outputs"]
    reached = outputs.get("reached") or {}
    return [
        Memorization(
            check["model"],
            _GROUPS[check["canaries"]],
            _in_words(reached.get(check["canaries"])),
            [cells(_group(values)) for values in check["groups"]],
            check["conclusion"],
        )
        for check in outputs["checks"]
    ]


def _in_words(reached: Mapping[str, int] | None) -> str:
    return f"{reached['trained']:,} of {reached['planted']:,} copies are in the trained text" if reached else ""


def _group(values: Mapping[str, Any]) -> Group:
    known = {name: value for name, value in values.items() if name not in ("is_exposed", "is_inside")}
    return Group(**known | {name: Drawn(**values[name]) for name in ("greedy", "beam")})


def memorization(found: Sequence[Memorization]) -> str:
    """Format all checks as Markdown; empty without any."""
    if not found:
        return ""
    head = ("Model", "Canaries", *header())
    rows = [(each.model, each.where, *row) for each in found for row in each.rows]
    lines = [
        f"{each.model}, canaries {each.where}: " + "; ".join(filter(None, [each.reached, each.conclusion]))
        for each in found
    ]
    return "\n\n".join([table(head, rows, ["---"] * 2 + ["---:"] * (len(head) - 2)), bullets(lines), NOTE])
