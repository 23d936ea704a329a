"""Replies, and parts of replies, that consist of nothing but an answer."""

import re
from collections.abc import Sequence

from jmedllm.evaluation.question import Question, letter_index
from jmedllm.evaluation.reading.extracted import NO_ANSWER, ExtractedAnswer, answer_of, fits, no_answer
from jmedllm.evaluation.reading.mentions import MentionGroup, mention_groups, numbers_name_choices
from jmedllm.evaluation.reading.reply import AROUND, Reply
from jmedllm.evaluation.reading.texts import exact_texts, fold, key, normalise, same_numbers, same_texts

TAIL = re.compile(
    r"\s{0,2}番?(?:の[2二]つ|の両方)?(?:(?:です|だ)?[ねよ]|です|だ|かなあ?|である|でしょう|になります|となります|を選びます|と思います|と考えます|と考えられます)?\s{0,2}[。.!?]{0,9}\s{0,2}\Z"
)
EDGE = re.compile(
    r"\A(?:[\s\"'“”‘’「『(\[{【〔《≪〈⟨<«*#:>・•●○→|-]|\d{1,3}[.)]\s|選択肢|たぶん|多分|おそらく|恐らく|消去法で"
    r"|(?:options?|choices?|probably|maybe|perhaps|possibly|likely|most likely"
    r"|i(?:'d)? (?:think|believe|guess|say))\b)*",
    re.IGNORECASE,
)
"""Text before an answer that is not part of it."""
_NUMBERED = re.compile(
    r"(?:選択肢|options?|choices?|nos?\.?|numbers?)?\s?[1-9]番?"
    r"(?:(?:[\s,、・/&+]|と|および|及び|ならびに|\band\b|選択肢|options?|choices?)+[1-9]番?)*",
    re.IGNORECASE,
)
_LETTERS = re.compile(r"[A-Za-z]{2,8}|[A-Za-z](?:\.[A-Za-z]){1,7}")


def longest(question: Question) -> int:
    """Most characters of a text that is nothing but an answer."""
    return sum(map(len, question.choices)) + 20 * len(question.choices) + 60


def whole(reply: Reply, label: str, by_text: str) -> ExtractedAnswer | None:
    """Extract the answer of a reply that is nothing but an answer.

    Args:
        label: the `how` of an answer that names choices by label.
        by_text: the `how` of an answer that names choices by text.
    """
    question, text = reply.question, reply.text
    said = normalise(text)
    if len(said) > longest(question):
        return None
    plain = TAIL.sub("", text)
    exact = exact_texts(question, text) or exact_texts(question, plain)
    labels = _labels(reply, said)
    if labels is not None and labels.how in NO_ANSWER and exact and fits(question, len(exact)):
        labels = None
    by_letter = reply.answer_as == "letter"
    if exact and (labels is None or (not by_letter and (fits(question, len(exact)) or not labels.answered))):
        return answer_of(question, exact, by_text)
    if labels is not None:
        how = label if labels.how == "label" else by_text
        return ExtractedAnswer(labels.chosen, None, how) if labels.answered else labels
    if (
        same := same_texts(question, text)
        or same_texts(question, plain)
        or same_numbers(question, text if "番" in text else plain)
    ):
        return answer_of(question, same, by_text)
    alike = {key(choice) for choice in question.choices if fold(key(choice)) == fold(key(plain))}
    return no_answer("ambiguous") if len(alike) > 1 else None


def answer_of_mentions(question: Question, found: Sequence[MentionGroup], label: str, by_text: str) -> ExtractedAnswer:
    """Return the choices of these groups as one answer."""
    if any(group.either or group.clash for group in found):
        return no_answer("ambiguous")
    chosen = frozenset[int]().union(*(group.chosen for group in found))
    return answer_of(question, chosen, by_text if all(group.by_text for group in found) else label)


def _labels(reply: Reply, said: str) -> ExtractedAnswer | None:
    """Extract labels, or labels and texts, that fill a text."""
    question = reply.question
    bare = TAIL.sub("", said).strip(AROUND)
    if _LETTERS.fullmatch(bare) and (bare.islower() or bare.isupper()):
        letters = bare.replace(".", "")
        indices = {letter_index(letter) for letter in letters}
        if len(indices) == len(letters) and max(indices) < len(question.choices):
            return answer_of(question, indices, "label")
    if _NUMBERED.fullmatch(bare) and numbers_name_choices(question, reply.numbered):
        indices = {int(digit) - 1 for digit in re.findall(r"\d", bare)}
        if max(indices) < len(question.choices):
            return answer_of(question, indices, "label")
    found = mention_groups(question, said, reply.answer_as, reply.numbered)
    if len(found) != 1:
        return None
    [group] = found
    edge = EDGE.match(said)
    if not edge or edge.end() < group.start or TAIL.sub("", said[group.end :]).strip(AROUND):
        return None
    return answer_of_mentions(question, [group], "label", "choice text")
