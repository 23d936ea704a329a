"""Early stopping: keep the best weights, and end a stage that no longer improves.

All decisions depend only on the rows of `evaluations.jsonl`, so a resumed run needs no other state.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pydantic import Field, model_validator

from jmedllm.errors import unknown
from jmedllm.settings import Settings

BITS_PER_BYTE = "bits_per_byte"
ACCURACY = "accuracy"

Row = Mapping[str, Any]
"""One line of `evaluations.jsonl`."""


class EarlyStopping(Settings):
    """When a stage is evaluated, and what the evaluations decide; the section `validation` says what is measured."""

    every: int = Field(200, ge=1, description="steps between evaluations; one more before step 1 and one at the end")
    metric: list[str] = Field(
        [], description="keep the weights with the best mean of these, such as [bits_per_byte.ja, bits_per_byte.en]"
    )
    patience: int | None = Field(None, ge=1, description="stop after so many evaluations without improvement")

    @model_validator(mode="after")
    def _one_kind(self) -> "EarlyStopping":
        kinds = {name.partition(".")[0] for name in self.metric}
        if len(kinds) > 1 or not kinds <= {BITS_PER_BYTE, ACCURACY}:
            raise ValueError(
                f"metric names {BITS_PER_BYTE}.SET or {ACCURACY}.TASK, and all of one kind: others have no mean"
            )
        if self.patience and not self.metric:
            raise ValueError("patience needs metric, which names what is to improve")
        return self


def require_measured(early_stopping: EarlyStopping, measured: Collection[str]) -> None:
    """Check that all that `early_stopping` goes by is measured.

    Raises:
        InputError: a name is none of `measured`; the nearest are named.
    """
    for name in early_stopping.metric:
        if name not in measured:
            raise unknown("measure in metric", name, measured)


def best_evaluation(rows: Sequence[Row], early_stopping: EarlyStopping) -> Row | None:
    """The best evaluation so far, the first of equal ones; None without any, or without `metric`."""
    if not rows or not early_stopping.metric:
        return None
    return max(rows, key=lambda row: _worth(row, early_stopping.metric))


def _worth(row: Row, names: Sequence[str]) -> float:
    """The larger the better: mean accuracy, or mean bits per byte below 0."""
    values = [row[kind][name] for kind, _, name in (each.partition(".") for each in names)]
    mean: float = sum(values) / len(values)
    return mean if names[0].startswith(ACCURACY) else -mean


def should_stop(rows: Sequence[Row], early_stopping: EarlyStopping) -> bool:
    """Whether the last `patience` evaluations were all no better than one before them."""
    found = best_evaluation(rows, early_stopping)
    return bool(
        early_stopping.patience
        and found
        and sum(row["step"] > found["step"] for row in rows) >= early_stopping.patience
    )
