"""Stage memorization: checks each trained model for the canaries in its training data."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jmedllm.canary.check import check
from jmedllm.canary.config import CanaryConfig
from jmedllm.canary.forms import Canary
from jmedllm.canary.table import conclusion
from jmedllm.files import hash_text, read_json, to_json, write_atomic
from jmedllm.models.backends.base import ModelSpec
from jmedllm.models.folder import fingerprint
from jmedllm.stages.canary import NAME as CANARY
from jmedllm.stages.canary import plants_in_corpus, secret_lists
from jmedllm.stages.corpus import read_corpus
from jmedllm.stages.stage import Outputs, Run, Stage, files_in, in_section, model_folder, model_names, own_folder

NAME = "memorization"


@dataclass(frozen=True, kw_only=True)
class MemorizationOutputs(Outputs):
    """Outputs of the memorization stage, without any secret.

    Attributes:
        reached: copies that are in the text that was trained, after de-identification and cleaning, by group; None if
            canaries were not planted in the corpus.
        checks: for each model and group of canaries the groups by copies, and the conclusion.
    """

    reached: dict[str, dict[str, int]] | None = None
    checks: list[dict[str, Any]]


def _settings(run: Run) -> CanaryConfig:
    settings: CanaryConfig = run.recipe.section(CANARY)
    return settings


def _models(run: Run) -> Sequence[str]:
    return model_names(run.stages, run.recipe)[1:]


def _inputs(run: Run) -> dict[str, Any]:
    return {
        "models": {name: fingerprint(model_folder(run, name)) for name in _models(run)},
        "secrets": {name: hash_text(to_json([each.sentence for each in (*found.planted, *found.controls)]))
                    for name, found in secret_lists(run).items()},
        "settings": _settings(run).model_dump(include={"candidates", "beams"}),
        "precision": run.precision.name,
    }  # fmt: skip


def _perform(run: Run, input_hash: str) -> MemorizationOutputs:
    folder, lists = own_folder(run.folder / NAME, input_hash), secret_lists(run)
    rows: list[dict[str, Any]] = []
    for name in _models(run):
        file = folder / f"{name}.json"
        if not file.is_file():  # a killed run has checked the others
            spec = ModelSpec(str(model_folder(run, name)), name, precision=run.precision)
            checked = check(spec, list(lists.values()), _settings(run))
            found = {group: each.as_json() | {"conclusion": conclusion(each)} for group, each in
                     zip(lists, checked, strict=True)}  # fmt: skip
            write_atomic(file, to_json(found, indent=2) + "\n")
        for group, values in read_json(file).items():
            kept = {key: values[key] for key in ("candidates", "detectable", "groups", "conclusion")}
            rows.append({"model": name, "canaries": group, **kept})
    reached = {group: _reached(run, secrets.planted) for group, secrets in lists.items()}
    return MemorizationOutputs(
        reached=reached if plants_in_corpus(run.recipe) else None, checks=rows, files=files_in(run, NAME)
    )


_NUMBER = re.compile(r"\d{7}")
"""Each canary has a number of seven digits, by which it is looked up."""


def _reached(run: Run, planted: Sequence[Canary]) -> dict[str, int]:
    """Return how many copies were planted, and how many of them are in the trained text."""
    if not plants_in_corpus(run.recipe):
        return {}
    by_number: Mapping[str, Canary] = {number: each for each in planted for number in _NUMBER.findall(each.sentence)}
    found = 0
    for document in read_corpus(run):
        known = {by_number[number].id: by_number[number] for number in _NUMBER.findall(document.text)
                 if number in by_number}  # fmt: skip
        found += sum(each.sentence in document.text for each in known.values())
    return {"planted": sum(each.copies for each in planted), "trained": found}


MEMORIZATION = Stage(
    name=NAME,
    enabled=in_section(CANARY),
    needs=(CANARY,),
    inputs=_inputs,
    perform=_perform,
    outputs=MemorizationOutputs,
)
