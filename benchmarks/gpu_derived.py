"""Ratios of what was measured: to what the machine does at best, and to what the plan had said."""

from collections.abc import Mapping
from typing import Any


def derived(
    told: Mapping[str, Any], ceilings: Mapping[str, float], rated: Mapping[str, float] | None
) -> dict[str, Any]:
    """What follows from a part's figures, as further keys of it.

    Args:
        told: of the part.
        ceilings: what was measured of the machine in the same call.
        rated: what its maker says of it; None where that is not known.
    """
    measured, predicted = told.get("measured", {}), told.get("predicted")
    found: dict[str, Any] = {}
    if "flops" in measured:
        found["mfu"] = {
            "of_measured": measured["flops"] / ceilings["flops"],
            "of_rated": measured["flops"] / rated["flops"] if rated else None,
        }
    if "scoring_flops" in measured:
        scoring = measured["scoring_flops"] / ceilings["flops"]
        writing = measured["writing_flops"] / ceilings["flops"] + measured["writing_bytes"] / ceilings["copy"]
        found["over_floor"] = {
            "scoring": measured["scoring_seconds"] / scoring,
            "writing": measured["writing_seconds"] / writing,
        }
    if predicted and measured:
        seconds = sum(measured["seconds"]) / len(measured["seconds"])
        middle = sum(predicted["seconds"]) / 2 if predicted["seconds"] else None
        found["plan_over_measured"] = {
            "gpu": predicted["gpu"] / measured["gpu"] if measured["gpu"] else None,
            "host": predicted["host"] / measured["host"],
            "seconds": middle / seconds if middle else None,
        }
    return found
