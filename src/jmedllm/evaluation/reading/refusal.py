"""Responses that decline to answer."""

import re

_JA = (
    "わか(?:り|りかね)ません|分か(?:り|りかね)ません|わからない|分からない|不明です",
    "(?:でき|出せ|選べ|答えられ|見つか|難し|決められ|判断でき)(?:ません|ない|かね)",
    "(?:不可能|困難)(?:です|である|な|と)|申し訳(?:ありま|ござい|な)|残念ながら",
    "(?:提供|提示|教え|お知らせ|追加|説明|記載)(?:して)?(?:ください|いただ|願|て)",
    "情報が?(?:不足|足り|不十分|欠け|必要|ありません)|専門(?:家|医)に(?:ご?相談)",
    "お答え(?:でき|を?控え|しかね|は?致しかね|いたしかね)|回答[をは]?(?:控え|差し控え|しかね)",
    "(?:該当する|正しい|適切な)(?:選択肢|答え|もの)[はが](?:ありません|ない|存在し)",
    "(?:正解|答え)[はが](?:ありません|ない|なし)",
)
_CANNOT = r"\b(?:can(?:no|')t|can not|could not|couldn't|(?:am|are|is|be|i'm) (?:un|not )able|unable) (?:to )?"
_ANSWER = (
    "answer|determin|provid|assist|help|say|tell|see|access|identify|choos|select|make|give|interpret|view",
    "be (?:determined|answered)",
)
_EN = (
    _CANNOT + r"(?:\w+ ){0,3}?(?:" + "|".join(_ANSWER) + ")",
    r"\bsorry\b|\bapologi[sz]e|(?:not |im)possible to|\bas an ai\b|\bplease (?:provide|consult)",
    r"\b(?:do not|don't|did not|does not|doesn't) (?:know|have (?:enough|access|sufficient)|provide enough)",
    r"\b(?:insufficient|not enough|lacks?|without (?:more|additional|further)|more|additional)"
    r" (?:\w+ )?(?:information|context|details)",
    r"\b(?:isn't|is not|aren't|are not|wasn't|not) (?:enough|sufficient)\b",
    r"\bno (?:correct|right|appropriate|suitable|image|answer)\b",
    r"\bnone of the (?:options|choices|answers|above options)",
    r"\bnot (?:sure|certain|clear|specific enough|provided|given)\b|\b(?:is|are) (?:missing|unknown|unclear)\b",
    r"^\W*(?:unknown|unclear|i decline|n/?a)\b|\bconsult (?:a|your) (?:doctor|physician)",
)
_REFUSAL = re.compile("|".join((*_JA, *_EN)), re.IGNORECASE)


def refuses(text: str) -> bool:
    """Return whether `text` declines to answer."""
    return bool(_REFUSAL.search(text))
