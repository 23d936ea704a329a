"""Stage merge: fold the adapter into the model that it was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from shutil import rmtree
from typing import Any

from jmedllm.deploy.merge import MergeConfig, merge
from jmedllm.stages.base_files import BaseFiles, PublishedBase
from jmedllm.stages.mpeft import MPEFT, MpeftOutputs
from jmedllm.stages.stage import (
    ModelOutputs,
    Run,
    Stage,
    StageModel,
    files_in,
    fingerprint_before,
    model_before,
    own_folder,
    starts_from_base,
)

ADAPTER = f"{MPEFT.name}/adapter"
MODEL = StageModel(
    MPEFT.name,
    "merge/model",
    adapter=ADAPTER,
    adapter_base=MPEFT.name,
    description="medical parameter-efficient fine-tuning: stage 2, an adapter trained on questions and instructions.",
)


@dataclass(frozen=True, kw_only=True)
class MergeOutputs(ModelOutputs):
    """Outputs of the merge stage.

    Attributes:
        divergence: KL divergence of the merged model from the trained one, in nats per token.
    """

    divergence: float


def _inputs(run: Run) -> dict[str, Any]:
    return {
        "model": fingerprint_before(run, MPEFT.name),
        "adapter": run.output("mpeft", MpeftOutputs).adapter,
        "precision": run.precision.name,
    }


def _check_base(run: Run, base: BaseFiles) -> Sequence[str]:
    from jmedllm.deploy.preflight import report_coverage, require_mergeable

    adapter = run.recipe.section(MPEFT.name).adapter
    found = require_mergeable(base.folder, adapter, is_rewritten=not starts_from_base(run, MPEFT.name))
    report_coverage(found, MPEFT.name)
    return ("adapter targets", "merging")


def _check_config(run: Run, base: PublishedBase) -> Sequence[str]:
    from jmedllm.deploy.preflight import coverage, report_coverage

    report_coverage(coverage(base.build(), run.recipe.section(MPEFT.name).adapter), MPEFT.name)
    return ("adapter targets",)


def _perform(run: Run, input_hash: str) -> MergeOutputs:
    folder = own_folder(run.folder / "merge", input_hash)
    rmtree(folder / "model", ignore_errors=True)  # it may miss a file
    merged = merge(
        model_before(run, MPEFT.name),
        run.folder / ADAPTER,
        folder / "model",
        run.precision,
        accepted=run.recipe.merge.accept_divergence,
    )
    return MergeOutputs(model=merged.fingerprint, divergence=merged.divergence.nats, files=files_in(run, MODEL.folder))


def _card(run: Run) -> Sequence[str]:
    nats = run.output("merge", MergeOutputs).divergence
    return (f"Merge: {nats:.2g} nats per token from the model as it was trained (mean KL divergence)",)


MERGE = Stage(
    name="merge",
    section=MergeConfig,
    enabled=MPEFT.enabled,
    needs=(MPEFT.name,),
    inputs=_inputs,
    perform=_perform,
    outputs=MergeOutputs,
    model=MODEL,
    check_base=_check_base,
    check_config=_check_config,
    card=_card,
)
