"""Responses of which it is unknown whether the prompt had opened a thought: what the other responses show."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from jmedllm.evaluation.records import Sample, split_sample
from jmedllm.models.backends.base import COMPLETE


def resolve_thoughts(samples: Mapping[str, Sample]) -> dict[str, Sample]:
    """Decide for each response without a marker whether all of it is a thought, from the other responses.

    Recorded responses, and servers that do not show their template, leave this open. All prompts of an evaluation end
    alike, so:

    * If other responses end a thought that they did not open, the prompt opens it, and a response without a marker was
      cut off inside. Complete responses without a marker overrule this if they are more than the complete ones with
      one: some models write a lone marker now and then.
    * If no response shows a thought and some are complete, the model does not think.
    * Otherwise it stays open: truncated responses have no answer, others are read.
    """
    unknown = [sample for sample in samples.values() if _is_unknown(sample)]
    if not unknown:
        return dict(samples)
    others = [sample for sample in samples.values() if not _is_unknown(sample)]
    opened = [sample for sample in others if sample.thought_open]
    if opened and _complete(unknown) <= _complete(opened):
        thought_open = True
    elif _complete(unknown) and not any(sample.reasoning or sample.thought_cut for sample in others):
        thought_open = False
    else:
        return dict(samples)
    resolved = {sample.id: split_sample(replace(sample, thought_open=thought_open)) for sample in unknown}
    return {name: resolved.get(sample.id, sample) for name, sample in samples.items()}


def resolved_note(before: Mapping[str, Sample], after: Mapping[str, Sample]) -> tuple[str, ...]:
    """Return a remark for reports if responses without a marker count as thoughts."""
    cut = [name for name, sample in after.items() if sample.thought_cut and not before[name].thought_cut]
    if not cut:
        return ()
    return (
        f"{len(cut):,} responses without a marker count as cut off inside their thought, because other responses end "
        "a thought that they did not open.",
    )


def _is_unknown(sample: Sample) -> bool:
    is_marked = sample.reasoning is not None or sample.thought_cut
    return sample.thought_open is None and not is_marked and bool((sample.response or "").strip())


def _complete(samples: Iterable[Sample]) -> int:
    return sum((sample.finish_reason or "").lower() in COMPLETE for sample in samples)
