"""The words that a text uses to state, affirm, question or rule out an answer, in both languages.

Patterns made by `_before` look at the text in front of a mention, those made by `_behind` at the text behind it.
"""

import re


def _any(*words: str) -> str:
    return "(?:" + "|".join(words) + ")"


def _before(*words: str) -> re.Pattern[str]:
    return re.compile(_any(*words) + "$", re.IGNORECASE)


def _behind(*words: str) -> re.Pattern[str]:
    # Quotes and brackets may close, then particles and words follow.
    return re.compile(r"[\s\"'“”‘’」』》〉】\])}*_]*" + _any(*words), re.IGNORECASE)


FILLER = re.compile(
    _any(
        r"[\s\"'“”‘’「『《〈【】\[({*_:=→>\-–—~、,・•●○]",
        "選択肢|選択枝|肢|記号は?|番号は?",
        "おそらく|恐らく|多分|たぶん|やはり|明らかに|当然|まさに",
        "(?:以下|次|下記)の(?:通り|とおり|[2-5]つ|ふたつ|もの)(?:です|である|になります|となります)?。?",
        r"(?<![a-z])(?:options?|choices?|letters?|the|both|either)",
        r"(?<![a-z])(?:following|as follows|therefore|thus|most likely|likely)",
        r"\b(?:probably|clearly|definitely|indeed)",
    )
    + "+$",
    re.IGNORECASE,
)
"""What may stand between a mark and its answer."""

# Nouns that announce the answer.
_JA_ANSWER = "(?<![不お])(?:答え?|御?回答|解答|正解|正答|結論|最終判断|選択)"
_EN_ANSWER = (
    r"\b(?:answers?|ans|options?|choices?|responses?|selections?|solutions?|conclusions?|diagnos[ie]s|one)"
)
_EN_RIGHT = r"\b(?:correct|right|best|appropriate|suitable|chosen|selected|final|likely|probable|accurate|my)\b"
_EN_IS = r"(?:\s+(?:is|are|was|would be|will be|should be|must be|has to be|be|remains?))?"
_EN_OF = r"(?:\s+(?:to|for|here|in|choice|option|letter|key)\b[^.\n]{0,40}?)?"

# What the right answer is like.
_JA_FITTING = _any(
    "正し|適切|適当|妥当|考えられ|考えやす|可能性が高|可能性の高|該当す|当てはま|あてはま",
    "疑われ|疑う|選ぶ|選択す|ふさわし|有力|推奨され|優先",
)
_MOST = "(?:最も|もっとも|一番)"
_EN_MOST = r"\bmost\s+(?:likely|appropriate|suitable|accurate|probable)\b"

ANSWER_IS = _before(
    _JA_ANSWER + "(?:の選択肢|番号|肢)?(?:として)?(?:最も)?(?:適切なの|考えられるの|なの|となるの)?[はが]?",
    # "Answer choices:" announces all of them.
    r"\b(?:answers?|ans)\b(?!\s+(?:choices|options)$)(?:\s*\([^()]{0,20}\))?" + _EN_OF + _EN_IS,
    _EN_RIGHT + r"[^.\n]{0,25}?" + _EN_ANSWER + r"\b" + _EN_OF + _EN_IS,
    r"\bboxed|\bans[.)]|\bconclusion" + _EN_IS,
    r"\b(?:i|i'd|i'll|i'm|we|would|will|to|should)\s+(?:\w+\s+)?"
    r"(?:choos(?:e|ing)|select(?:ing)?|pick(?:ing)?|go(?:ing)? with|opt(?:ing)? for|answer)",
    r"(?:^|[.\n!;]\s*)(?:it is|it's|it must be|that is)",
)
THEREFORE = _before(
    "よって|したがって|従って|ゆえに|故に|以上より|以上から|以上により|つまり|すなわち|結局",
    r"(?:^|[.\n!;]\s*)(?:so|thus|hence|therefore|in conclusion|ultimately)",
)
# FILLER takes these words too, so that "the answer is therefore" is a mark as well.
THEREFORE_ITSELF = re.compile(r"(?:^|[.\n!;]\s*)(?:therefore|thus)[\s,(\"'*:]*$", re.IGNORECASE)
LIKELIEST_IS = _before(
    _JA_FITTING + r"[^。、\n]{0,15}?は(?:、[^。、\n]{0,12}の)?",
    "診断名?は",
    "(?:" + _EN_MOST + r"[^.\n]{0,40}?|\bdiagnosis)\s+(?:is|are|would be)",
)
WRONG_IS = _before(
    r"(?:誤っ|誤り|不適|間違|正しくな|適切でな|適切ではな|当てはまらな|該当しな)[^。、\n]{0,12}?は",
)
RULED_OUT_BEFORE = _before(
    r"\bnot|n't|\bneither|\bnor|\bunlike|\bexcept(?: for)?|\brather than|\binstead of|\bother than",
    r"\bexclud(?:e|es|ed|ing)|\beliminat(?:e|es|ed|ing)|\brul(?:e|es|ed|ing) out",
    r"\bdiscard(?:ed|ing)?|\breject(?:ed|ing)?",
    r"\b(?:incorrect|wrong|false|eliminated|excluded|rejected|discarded|remaining|other|distractor)"
    r"(?:\s+(?:answers?|options?|choices?))?(?:\s+(?:is|are))?",
    "(?:不正解|誤答|誤り|(?:除外|消去)(?:した|する|される|された|できる)?(?:選択肢|もの|の)?)は?",
)
SUPPOSED_BEFORE = _before(
    r"(?:\bif|\bwhether|\bwhy|もし)\s*(?:or not\s+)?(?:the\s+)?(?:correct\s+|right\s+)?"
    r"(?:answer\s*)?(?:is|are|was|were)?",
)
CANNOT = re.compile(
    r"\b(?:cannot|can't|can not|could not|couldn't|unable to"
    r"|(?:not|im)\s?possible to|don't know|do not know|not sure|unsure)\b",
    re.IGNORECASE,
)
CONTRAST = re.compile(
    r"[\s\"'」』)]*(?:(?:では|で|じゃ)なく(?:て)?[、,]?|,?\s*but(?: rather)?\b)"
    r"[\s\"'「『(]*(?:選択肢|options?)?\s*"
)
"""Between what is not the answer and what is: "Aではなく" C, "not A but" C."""

# No comma right behind the mention: "C, not A" rules out A.
_JA_SUBJECT = r"(?:の選択肢|の方)?[:：\-–—)]*\s*(?:は|が|も|を|では|については?)?\s*[、,]?\s*"
_JA_ALL = "(?:いずれも|どちらも|すべて|全て|共に|ともに|明らかに|選択肢として)?"
_JA_RIGHT = "(?:正解|正答|正し|適切|答え|適当|妥当|最適|該当)?(?:いとは|い|く|とは|は|では|で|だと|と)?"
RULED_OUT_BEHIND = _behind(
    _JA_SUBJECT
    + _JA_ALL
    + _JA_RIGHT
    + r"\s*"
    + _any(
        "誤|間違|不適|不正|なく|ない|ありませ|なかっ|除外|除か|除く|除け|否定|違い|違う|外れ|外し|外す|消去|不要|禁忌|以外",
        "考えにく|考え難|可能性は?が?低|可能性はな|該当しな|該当しま|当てはまらな|あてはまらな|言えな|いえな",
        "関係な|関連しな|じゃな|支持しな|選ばな|選べな|×|✗|❌",
    ),
    r"[:\-–—)]*\s*(?:(?:is|are|was|were|would be|can be|could be|should be|must be|can|could|does|do)\s+)?"
    r"(?:(?:has been|have been|being|seems?|looks?)\s+)?"
    r"(?:(?:all|also|both|therefore|clearly|simply|thus|quickly|easily)\s+)*"
    + _any(
        r"not\b|n't\b|isn't|aren't|wasn't|doesn't|don't|can't|cannot|incorrect|wrong|false\b|excluded|ruled out",
        r"eliminated|unlikely|less likely|inappropriate|contraindicated|irrelevant",
        r"unrelated|discarded|rejected|out\b",
    ),
)
SUPPOSED_BEHIND = _behind(
    "(?:だ|か)?と思(?:いました|った|われました|われた)(?:が|けれど|けど)|かどうか|か否か|なら|だとすると|とすると|だとすれば|であれば|が正しいか|が正解か|か(?:は|を)?(?:わか|分か|判断)",
)
IS_ANSWER = _behind(
    "(?:の選択肢|の方)?(?:が|こそ|こそが)[、,]?" + _MOST + "?(?:本問の|この問題の|唯一の?)*"
    "(?:正解|正答|答え|解答|最適|適切な(?:選択肢|答|回答|解答)|正しい(?:選択肢|答|解答))",
    "(?:の選択肢|の方)?[はも](?:正解|正答)",
    "を(?:選択|選び|選ぶ|選ん|回答|解答|答え)|[にと](?:決定|結論|判断|断定|回答|解答|答え)|に(?:なります|なる)(?:。|$)",
    r"(?:is|are|would be|seems|appears|remains|must be|seems to be|appears to be)\s+"
    r"(?:(?:clearly|therefore|thus|indeed|likely|probably|definitely)\s+)?(?:(?:our|my|your|the)\s+)*"
    r"(?:(?:single |only )?(?:"
    + _EN_MOST
    + r"|best|correct|right|final)\s+)?(?:answers?|options?|choices?|diagnosis)\b",
)
IS_LIKELIEST = _behind(
    "(?:の選択肢)?(?:が|は|を|の可能性が)?[、,]?"
    + _MOST
    + "(?:可能性|適切|適当|妥当|考え|疑|有力|正し|高|ふさわし|該当|当て)",
    "の可能性が高",
)
IS_RIGHT = _behind(
    r"(?:の選択肢)?(?:[はがも][、,]?|[:：\-–—])\s*(?:正し|正解|適切|適当|妥当|該当|当てはま|あてはま|考えられ|疑われ|○|◯)",
    r"[:\-–—]*\s*(?:(?:is|are|seems|looks)\s+)?(?:(?:also|both|indeed|clearly|the)\s+)*"
    r"(?:correct|right|true|best|(?:most )?appropriate|most likely)\b",
)
ASSERTED = _behind(r"です|だ(?!が)|である|となる|となります|になる|になります|が正|を選|[。.!]|$|\n")

NEGATIVE_STEM = re.compile(
    r"誤|適切でない|適切ではない|正しくない|当てはまらない|該当しない|でないの"
    r"|\b(?:except|not|false|incorrect)\b",
    re.IGNORECASE,
)
"""Questions that ask for what is wrong."""

NAMED = re.compile(r"(?:選択肢|options?|choices?|answers?|letters?|肢|番号)[\s(\"'「]*$", re.IGNORECASE)
OPENING = re.compile(
    r"\b(?:so|thus|hence|therefore|that|think|believe|only|and|then|is|both|say|here) $",
    re.IGNORECASE,
)
"""Words after which a letter is a letter, and not the end of a name such as "vitamin C"."""
