"""Pages: furniture goes, broken lines are joined, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmedllm.corpus.cleaning.pages import reflow
from jmedllm.corpus.cleaning.rules import Removed


def flowed(*pages: str) -> str:
    return reflow("\f".join([*pages, ""]), [])


JOINED = {
    "Japanese, without a space": (
        "糖尿病は、インスリンの作用不足により慢性の高血糖\nを来す疾患である。",
        "糖尿病は、インスリンの作用不足により慢性の高血糖を来す疾患である。",
    ),
    "English, with one": (
        "Scurvy is a disease that is caused by\na lack of vitamin C in the food one eats.",
        "Scurvy is a disease that is caused by a lack of vitamin C in the food one eats.",
    ),
    "English words in Japanese": (
        "本症例は進行期の肺癌であり化学療法として non-small\ncell lung cancer に対する標準治療を行ったものである",
        "本症例は進行期の肺癌であり化学療法として non-small cell lung cancer に対する標準治療を行ったものである",
    ),
    "a word broken by a hyphen": (
        "Many people have contributed to the field of micro-\nbiology over the last three hundred years.",
        "Many people have contributed to the field of microbiology over the last three hundred years.",
    ),
    "a compound that the text hyphenates elsewhere": (
        "A well-known sign is bleeding; this is the most well-\nknown sign of the disease of sailors, scurvy.",
        "A well-known sign is bleeding; this is the most well-known sign of the disease of sailors, scurvy.",
    ),
    "a compound before a capital": (
        "Some researchers treat the infection found by Whole-\nGenome sequencing as the cause of the disease.",
        "Some researchers treat the infection found by Whole-Genome sequencing as the cause of the disease.",
    ),
    "a name with a number": (
        "The patients had high serum levels of IL-\n6 and of other cytokines over the last days.",
        "The patients had high serum levels of IL-6 and of other cytokines over the last days.",
    ),
    "a name with a Greek letter": (
        "The patients had higher serum levels of TNF-\nα and of other cytokines over the last days.",
        "The patients had higher serum levels of TNF-α and of other cytokines over the last days.",
    ),
    "an abbreviation before a hyphen": (
        "The patients had lower counts of peripheral T-\ncell subsets over the last days in the clinic.",
        "The patients had lower counts of peripheral T-cell subsets over the last days in the clinic.",
    ),
    "a number before a hyphen": (
        "Some of the patients were given the drugs 5-\nFU and leucovorin over the last days in hospital.",
        "Some of the patients were given the drugs 5-FU and leucovorin over the last days in hospital.",
    ),
    "a Greek letter before a hyphen": (
        "Some of the patients were given infusions of β-\nlactam antibiotics over the last days of it.",
        "Some of the patients were given infusions of β-lactam antibiotics over the last days of it.",
    ),
    "a dash": (
        "Some of the patients were given antibiotics -\nand got well over the last days in hospital.",
        "Some of the patients were given antibiotics - and got well over the last days in hospital.",
    ),
    "a heading stays apart": (
        "壊血病\nビタミンCの欠乏により出血傾向を来す疾患であり、新鮮な野菜\nを摂取することで予防できる。",
        "壊血病\nビタミンCの欠乏により出血傾向を来す疾患であり、新鮮な野菜を摂取することで予防できる。",
    ),
    "a list stays a list": (
        "次に掲げる所見のうち二つ以上を認めること\n① 出血傾向が三か月以上持続し再発すること\n② 貧血",
        "次に掲げる所見のうち二つ以上を認めること\n① 出血傾向が三か月以上持続し再発すること\n② 貧血",
    ),
    "a narrow table stays": ("ALT 30\nAST 28\nCRP 0.1", "ALT 30\nAST 28\nCRP 0.1"),
    "letters spaced out": ("日 本 薬 局 方\n第一章", "日本薬局方\n第一章"),
}


@pytest.mark.parametrize("name", JOINED)
def test_broken_lines_are_joined(name: str) -> None:
    page, expected = JOINED[name]
    assert flowed(page) == expected


BODY = ["血圧を測定する。", "脈拍を測定する。", "体温を測定する。", "呼吸を数える。"]


@pytest.mark.parametrize(
    "frame",
    [
        "{body}\n- {number} -",
        "{body}\n{number}",
        "{body}\n{number} / 4",
        "{body}\nPage {number} of 4",
        "{number}ページ\n{body}",
        "第{number}章 診察\n{body}",
        "診療ガイドライン 2024\n{body}\n{number}",
        "\n 診療ガイドライン \n\n{body}\n\n11/21/26\nfile:///a.html {number}/4\n",
    ],
)
def test_page_furniture_is_removed(frame: str) -> None:
    pages = [frame.format(body=body, number=number) for number, body in enumerate(BODY, 1)]
    assert flowed(*pages) == "\n".join(BODY)


def test_removed_page_furniture_is_reported() -> None:
    removed: list[Removed] = []
    reflow("題\n一。\n1\f題\n二。\n2\f", removed)
    assert removed == [("running head", "題"), ("page number", "1"), ("running head", "題"), ("page number", "2")]


def test_numbers_and_repeated_lines_inside_a_page_stay() -> None:
    page = "上\n1 {0}\n2 {0}\n所見なし\n12\n所見なし\n3 {0}\n4 {0}\n下"
    pages = [page.format(name) for name in ("肝", "腎", "肺")]
    text = flowed(*pages)
    assert text.count("所見なし") == 6 and text.count("\n12\n") == 3
    assert "上" not in text and "下" not in text


def test_a_paragraph_continues_over_the_page() -> None:
    first = "糖尿病は、作用不足により慢性の高血糖\nを来す疾患であり、診断には測定が必要"
    assert flowed(f"{first}\n1", "である。\n2") == f"{first}である。".replace("\n", "")


@given(st.lists(st.text(alphabet="あ漢a b-\n1。", max_size=60), max_size=6))
def test_no_letter_is_lost_but_furniture(pages: list[str]) -> None:
    removed: list[Removed] = []
    text = reflow("\f".join(pages), removed)
    before = sum(sum(sign in "あ漢ab。" for sign in page) for page in pages)
    after = sum(sign in "あ漢ab。" for sign in text) + sum(sign in "あ漢ab。" for _, line in removed for sign in line)
    assert before == after
    assert "\f" not in text
