"""Characters: what differs in form alone becomes one; what means something stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmedllm.corpus.cleaning.characters import normalize

CASES = {
    "full-width letters and digits": ("ＨｂＡ１ｃ　６．５％", "HbA1c 6.5%"),
    "half-width kana": ("ﾋﾞﾀﾐﾝとﾊﾟｯﾁ｡", "ビタミンとパッチ。"),
    "full-width signs of formulas": ("Ｓ－１＋ＣＤＤＰ＝Ａ／Ｂ", "S-1+CDDP=A/B"),
    "comparison signs": ("ｐ＜０．０５、Ａ＞Ｂ", "p<0.05、A>B"),
    "full-width angle brackets": ("＜Ａ＞群と＜Ｂ＞群、ｐ＜０．０５", "＜A＞群と＜B＞群、p<0.05"),
    "numbers with points, commas and times": ("１，０００　３．５　１０：３０", "1,000 3.5 10:30"),
    "Japanese punctuation": ("（男性），７０歳．何か？～です！", "（男性），70歳．何か？～です！"),
    "radicals from a PDF": ("⼈⼯⾎管", "人工血管"),
    "compatibility ideographs": ("神経\ufa19", "神経神"),
    "ligatures": ("ﬁbrosis, ﬂow", "fibrosis, flow"),
    "sound marks apart": ("か\u3099ん", "がん"),
    "accents apart": ("Sjo\u0308gren", "Sjögren"),
    "spaces of all widths": ("a\u00a0b\u3000c\u2009d", "a b c d"),
    "line ends": ("a\r\nb\rc\u2028d", "a\nb\nc\nd"),
    "invisible signs": ("\ufeffa\u200bb\u00adc\x00d\x7f", "abcd"),
    "soft hyphen at the end of a line": ("micro\u00ad\nbe", "micro‐\nbe"),
}


@pytest.mark.parametrize("name", CASES)
def test_one_form(name: str) -> None:
    text, expected = CASES[name]
    assert normalize(text) == expected


MEANING = (
    *("10³個", "H₂O", "Ca²⁺", "½錠", "①②", "5㎎", "㎍", "㏄", "37℃", "98℉", "5µg", "μ", "Å", "第Ⅷ因子", "㈱", "™"),
    *("…", "〃", "々", "±", "→", "㍉", "㍻", "\u2126", "\u212a", "\u212b", "a\fb"),
)


@pytest.mark.parametrize("text", MEANING)
def test_meaningful_text_is_unchanged(text: str) -> None:
    assert normalize(text) == text


WILD = st.one_of(st.characters(), st.sampled_from("ｶﾞﾊﾟか゛\u3099\u0338＜＞１２．，\u2126e\u0301\r\n\u00ad"))


@given(st.text(alphabet=WILD))
def test_once_is_enough(text: str) -> None:
    once = normalize(text)
    assert normalize(once) == once
