"""Responses of which it is unknown whether the prompt had opened a thought: what the other responses show."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from jmedllm.evaluation.records import Sample, split_sample
from jmedllm.models.backends.base import COMPLETE


def resolve_thoughts(samples: Mapping[str, Sample]) -> dict[str, Sample]:
    """Decide for each response without a marker whether all of it is a thought, from the other responses.

    Recorded responses, and servers that do not show their template, leave this open. All prompts of an evaluation end
    alike, so:

    * If other responses end a thought that they did not open, the prompt opens it, and a response without a marker was
      cut off inside; see `_prompt_opens` for lone markers.
    * If no response shows a thought, some are complete, and few of the truncated ones think aloud, the model does not
      think.
    * If nothing shows how responses ended, but most stop in the middle of a sentence and many think aloud, they were
      cut off inside their thought; see `_cut_thoughts`. Servers whose parser waits for the end of a thought return a
      cut one as the content, beside whole replies with a thought in a field of its own.
    * Otherwise it stays open: truncated responses have no answer, others are read.
    """
    unknown = [sample for sample in samples.values() if _is_unknown(sample)]
    others = [sample for sample in samples.values() if not _is_unknown(sample)]
    known: dict[str, bool] = {}
    if unknown and _prompt_opens(unknown, others):
        known = {sample.id: True for sample in unknown}
    else:
        thinks = any(map(_shows_thought, others))
        known = {sample.id: True for sample in _cut_thoughts(unknown, thinks=thinks)}
        if not thinks and _complete(unknown) and not _think_aloud([sample for sample in unknown if sample.truncated]):
            known = {sample.id: False for sample in unknown}
    return {
        name: split_sample(replace(sample, thought_open=known[sample.id])) if sample.id in known else sample
        for name, sample in samples.items()
    }


def resolved_note(before: Mapping[str, Sample], after: Mapping[str, Sample]) -> tuple[str, ...]:
    """Return a remark for reports if responses without a marker count as thoughts."""
    cut = [name for name, sample in after.items() if sample.thought_cut and not before[name].thought_cut]
    if not cut:
        return ()
    if any(sample.thought_open for sample in before.values()):
        why = "other responses end a thought that they did not open"
    else:
        why = "most think aloud and stop in the middle of a sentence; thought_open: false in their rows overrules this"
    return (f"{len(cut):,} responses without a marker count as cut off inside their thought, because {why}.",)


def _is_unknown(sample: Sample) -> bool:
    return sample.thought_open is None and not _shows_thought(sample) and bool((sample.response or "").strip())


def _shows_thought(sample: Sample) -> bool:
    return sample.reasoning is not None or sample.thought_cut


def _complete(samples: Iterable[Sample]) -> int:
    return sum((sample.finish_reason or "").lower() in COMPLETE for sample in samples)


_LEAST_SHARE = 0.1
"""Share of responses with a marker that is no slip."""


def _prompt_opens(unknown: Sequence[Sample], others: Sequence[Sample]) -> bool:
    """Return whether the responses that end a thought show that the prompt opens it.

    A marker may also be a slip of the model. It is one if more complete responses have none, if more responses open
    their thought themselves, or if few have one and most of the others do not look cut off.
    """
    ending = [sample for sample in others if sample.thought_open]
    opening = [sample for sample in others if sample.thought_open is False and _shows_thought(sample)]
    if not ending or len(ending) < len(opening) or _complete(ending) < _complete(unknown):
        return False
    is_common = len(ending) >= _LEAST_SHARE * (len(ending) + len(unknown))
    return is_common or 2 * sum(_is_long(sample) and _looks_cut(sample) for sample in unknown) > len(unknown)


_MID_SENTENCE = re.compile(r"^.{10,}[^\s.。!?！？:：)）\]】」』}*`|]\Z", re.MULTILINE)
"""A last line without an end that is too long for an answer alone."""
_CONCLUDES = re.compile(
    r"(?:answer|答え?|回答|解答|正解|正答)(?:\W{0,3}(?:\sis\b|[:：=]|は|が)|\s)[\s(（*]*"
    r"[a-j1-9](?:[)）*]*|\s?[):）：][^\n.。]{1,30})\Z",
    re.IGNORECASE,
)
"""A last line that states the answer; answers often end so, without a full stop."""
_ANNOUNCED = re.compile(r"[:：]\Z|\n[ \t]*[*•+-]\Z")
"""What announces more: a colon, or the bullet of an empty item."""
_ALOUD = re.compile(
    r"\A\s*(?:(?:okay|ok|alright|hmm|wait|got it)\b|(?:we )?need |the user\b|i need to "
    r"|\W*(?:(?:here'?s )?(?:a|my|the) )?thinking process|\W*思考(?:プロセス|過程)|うーん|ユーザー"
    r"|まず、?(?:この|本)?(?:問題|設問))"
    r"|\bhmm\b|\bwait[,.]|\bso answer\b|\bdouble-check|\blet me (?:see|check|recall|verify|think|draft|re)"
    r"|\bwe need (?:to )?(?:answer|pick|choose|decide|output|interpret)|output format|待って|待てよ|いや、",
    re.IGNORECASE,
)
"""What is said in thoughts more than in answers."""

_LONG = 60
"""Number of characters of a response whose end shows whether it was cut off; a shorter one may be a bare answer."""

_ENOUGH = 8
"""Number of long responses whose style can be judged."""

_LEAST_ALOUD = 0.25
"""Share of responses that think aloud if all are thoughts; dry thoughts do not show it."""

_BY_CHANCE = 0.1
"""Share of responses that may have been cut off at the end of a sentence."""


def _cut_thoughts(unknown: Sequence[Sample], *, thinks: bool) -> list[Sample]:
    """Return the responses without a marker that look like thoughts that were cut off.

    A response that ends in its answer shows nothing; it is a thought only among mostly thoughts.

    Args:
        thinks: whether other responses show thoughts; then even a few can be judged.
    """
    if any(sample.finish_reason for sample in unknown):
        return []
    ending = [sample for sample in unknown if _is_long(sample) and _concludes(sample)]
    long = [sample for sample in unknown if _is_long(sample) and not _concludes(sample)]
    if len(long) < _ENOUGH:
        return [sample for sample in long if thinks and _looks_cut(sample) and _is_aloud(sample)]
    if 2 * sum(map(_looks_cut, long)) <= len(long) or not _think_aloud(long):
        return []
    either = [sample for sample in long if _looks_cut(sample) or _is_aloud(sample)]
    short = [sample for sample in unknown if not _is_long(sample) and _is_aloud(sample)]
    if len(either) < (1 - _BY_CHANCE) * len(long):
        return [*either, *short]
    return [*long, *short, *(ending if len(ending) < len(long) else ())]


def _think_aloud(samples: Iterable[Sample]) -> bool:
    long = [sample for sample in samples if _is_long(sample)]
    return bool(long) and sum(map(_is_aloud, long)) >= _LEAST_ALOUD * len(long)


def _is_long(sample: Sample) -> bool:
    return len((sample.response or "").strip()) >= _LONG


def _looks_cut(sample: Sample) -> bool:
    text = (sample.response or "").strip()
    last = text.rpartition("\n")[2]
    return last.count("**") % 2 == 1 or any(each.search(text) is not None for each in (_MID_SENTENCE, _ANNOUNCED))


def _concludes(sample: Sample) -> bool:
    return _CONCLUDES.search((sample.response or "").strip()) is not None


def _is_aloud(sample: Sample) -> bool:
    return _ALOUD.search(sample.response or "") is not None
