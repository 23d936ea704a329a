"""Ratios of measured figures to the peak rates of the machine and to the estimates of `jmedllm plan`."""

from collections.abc import Mapping
from typing import Any


def derived(
    result: Mapping[str, Any], ceilings: Mapping[str, float], rated: Mapping[str, float] | None
) -> dict[str, Any]:
    """Figures derived from the results of a part, as further keys.

    Args:
        result: results of the part.
        ceilings: rates of the machine, measured in the same call.
        rated: rates that the manufacturer publishes; None if they are not known.
    """
    measured, predicted = result.get("measured", {}), result.get("predicted")
    found: dict[str, Any] = {}
    if "flops" in measured:
        found["mfu"] = {
            "of_measured": measured["flops"] / ceilings["flops"],
            "of_rated": measured["flops"] / rated["flops"] if rated else None,
        }
    if "scoring_flops" in measured:
        scoring = measured["scoring_flops"] / ceilings["flops"]
        generation = measured["generation_flops"] / ceilings["flops"] + measured["generation_bytes"] / ceilings["copy"]
        found["over_floor"] = {
            "scoring": measured["scoring_seconds"] / scoring,
            "generation": measured["generation_seconds"] / generation,
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
