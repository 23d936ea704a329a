"""YAML header of a model card, as the Hugging Face Hub reads it."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from jmedllm.report.rows import Row

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


@dataclass(frozen=True, slots=True)
class Metadata:
    """Content of the header.

    Data sets are not in it: the Hub expects ids of its own data sets, and a corpus has none.

    Attributes:
        name: name of the model.
        base: base model. It is left out of the header unless it is an id on the Hub.
        relation: what the model is to its base.
        library: library that loads the model.
        languages: language codes.
        rows: scores of the model.
    """

    name: str
    base: str | None
    relation: Literal["finetune", "adapter"]
    library: Literal["transformers", "peft"]
    languages: Iterable[str] = ()
    rows: Sequence[Row] = ()


def header(found: Metadata) -> str:
    """Format the header, with its delimiters."""
    base = found.base if found.base and _HUB_ID.fullmatch(found.base) else None
    values = {
        "base_model": base,
        "base_model_relation": base and found.relation,
        "library_name": found.library,
        "pipeline_tag": "text-generation",
        "language": sorted(set(found.languages)),
        # The licences of base and data differ from case to case; the card lists them.
        "license": "other",
        "license_name": "of-base-and-training-data",
        "license_link": "README.md",
        "tags": ["medical", "jmedllm"],
        "model-index": [{"name": found.name, "results": _results(found.rows)}] if found.rows else None,
    }
    present = {name: value for name, value in values.items() if value}
    return f"---\n{yaml.safe_dump(present, allow_unicode=True, sort_keys=False, width=1000)}---\n\n"


def _results(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the scores in the form of a model index, one entry for each task."""
    tasks = dict.fromkeys((row.benchmark, row.language) for row in rows)
    return [
        {
            "task": {"type": "text-generation"},
            "dataset": {"type": benchmark, "name": f"{benchmark} {language}", "config": language},
            "metrics": [_metric(row) for row in rows if (row.benchmark, row.language) == (benchmark, language)],
        }
        for benchmark, language in tasks
    ]


def _metric(row: Row) -> dict[str, Any]:
    low, high = row.interval or (0.0, 1.0)
    interval = f"95 % interval {100 * low:.1f} to {100 * high:.1f}"
    name = f"{row.measure.replace('_', ' ')} in %, {interval}, n {row.items}"
    return {"type": row.metric, "value": round(100 * row.value, 1), "name": name}
