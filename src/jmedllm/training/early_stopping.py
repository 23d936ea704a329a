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
    """When validation runs, and what its results decide; the section `validation` configures what is measured."""

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
                f"metric must name {BITS_PER_BYTE}.SET or {ACCURACY}.TASK, all of one kind, so that they have a mean"
            )
        if self.patience and not self.metric:
            raise ValueError("patience needs metric, which names what is to improve")
        return self


def require_measured(early_stopping: EarlyStopping, measured: Collection[str]) -> None:
    """Check that every metric that `early_stopping` uses is measured.

    Raises:
        InputError: a name is not in `measured`; the message suggests the nearest.
    """
    for name in early_stopping.metric:
        if name not in measured:
            raise unknown("measure in metric", name, measured)


def best_evaluation(rows: Sequence[Row], early_stopping: EarlyStopping) -> Row | None:
    """Return the best evaluation so far, the first of equal ones; None if there is none or no `metric` is set."""
    if not rows or not early_stopping.metric:
        return None
    return max(rows, key=lambda row: _worth(row, early_stopping.metric))


def _worth(row: Row, names: Sequence[str]) -> float:
    """Return a value that is larger for better evaluations: mean accuracy, or negative mean bits per byte."""
    values = [row[kind][name] for kind, _, name in (each.partition(".") for each in names)]
    mean: float = sum(values) / len(values)
    return mean if names[0].startswith(ACCURACY) else -mean


def should_stop(rows: Sequence[Row], early_stopping: EarlyStopping) -> bool:
    """Return whether none of the last `patience` evaluations improved on an earlier one."""
    found = best_evaluation(rows, early_stopping)
    return bool(
        early_stopping.patience
        and found
        and sum(row["step"] > found["step"] for row in rows) >= early_stopping.patience
    )
