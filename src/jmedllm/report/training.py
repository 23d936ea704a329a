"""Read the metrics of a run's training stages from their logs."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from jmedllm.files import read_jsonl
from jmedllm.manifest import read_manifest


@dataclass(frozen=True, slots=True)
class TrainedStage:
    """One finished training stage.

    Attributes:
        name: name of the stage, with the run's folder if several runs are read.
        outputs: outputs of the stage in the manifest: steps, trained tokens, sizes of the held-out sets.
        metrics: one row per step.
        evaluations: one row per evaluation, the first before step 1; empty without validation.
        ended: day of the last step; None if unknown.
        personal_data: whether and how the corpus of its run was de-identified; "" if the run has none.
    """

    name: str
    outputs: dict[str, Any]
    metrics: list[dict[str, Any]]
    evaluations: list[dict[str, Any]]
    ended: date | None = None
    personal_data: str = ""

    @property
    def waiting(self) -> float:
        """Share of time spent waiting for data, averaged over steps."""
        waited: float = sum(row["waiting"] for row in self.metrics)
        return waited / max(1, len(self.metrics))

    @property
    def kept_step(self) -> int:
        """Step whose weights the next stage gets."""
        step: int = self.outputs.get("best_step", self.outputs["steps"])
        return step

    @property
    def failure(self) -> str:
        """A sentence if the stage improved nothing; empty if it did, or if that was not measured."""
        if self.kept_step:
            return ""
        return f"Stage {self.name} improved nothing: the weights of step 0 were kept."

    def changes(self) -> dict[str, tuple[float, float]]:
        """Return the bits per byte of each held-out set before step 1 and with the kept weights."""
        if not self.evaluations:
            return {}
        first, last = self.evaluations[0], next(row for row in self.evaluations if row["step"] == self.kept_step)
        return {name: (first["bits_per_byte"][name], value) for name, value in last["bits_per_byte"].items()}


def read_training(folders: Iterable[Path]) -> list[TrainedStage]:
    """Read the finished training stages of all runs among the folders, in order; only stages of a run's last
    recipe."""
    runs = [(folder, manifest) for folder in folders if (manifest := read_manifest(folder))]
    return [
        TrainedStage(
            stage if len(runs) == 1 else f"{stage} ({folder.name})",
            manifest["stages"][stage]["outputs"],
            _rows(folder / stage / "metrics.jsonl"),
            _rows(folder / stage / "evaluations.jsonl"),
            datetime.fromtimestamp((folder / stage / "metrics.jsonl").stat().st_mtime, UTC).date(),
            manifest["stages"].get("corpus", {}).get("outputs", {}).get("personal_data", ""),
        )
        for folder, manifest in runs
        for stage in manifest["enabled"]
        if stage in manifest["stages"] and (folder / stage / "metrics.jsonl").is_file()
    ]


def _rows(path: Path) -> list[dict[str, Any]]:
    return [row for _, row in read_jsonl(path)] if path.is_file() else []
