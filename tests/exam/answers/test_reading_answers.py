"""Responses as models really write them, and what each must be taken to mean."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmedllm.exam.answers import NO_ANSWER, read_answer, same_answer
from jmedllm.exam.question import Question, label

DISEASES = ("胃癌", "大腸癌", "膵癌", "肝癌", "胆嚢癌")
DRUGS = ("Aspirin", "Warfarin", "Heparin", "Vitamin C", "Alteplase")


def question(choices=DISEASES, gold="c", stem="診断はどれか。", **values) -> Question:
    indices = frozenset(ord(letter) - ord("a") for letter in gold)
    return Question("q", "own", "ja", stem, tuple(choices), indices, select=len(gold) or 1, **values)


ONE = question()
TWO = question(gold="ce")
DRUG = question(DRUGS, stem="Which drug?")
NUMBER = question((), "", number="1130")


def outcome(response: str, item: Question, **how) -> str:
    """The letters read, or the reason why there are none."""
    reading = read_answer(item, response, **how)
    assert reading.answered is (reading.how not in NO_ANSWER)
    return "".join(map(label, sorted(reading.chosen))) or reading.number or reading.how


C = r"""
c | C | Ｃ | ｃ | (c) | （C） | 【C】 | [C] | "C" | 「C」 | **C** | `C` | $C$ | __C__ | C. | C。 | c) | C: | - C
* c | > C
答え：C | 答え:c | 答えＣ | 答えは C | 答え→C | 回答：C | 解答：Ｃ | 正解：C | 正答：c | 答：C | 最終回答：C
【答え】C | ### 回答\nC
正解はCです | 正解はcです。 | 答えはＣです | 正解は「C」です。 | 正解は選択肢Cです。 | 正解は、C である。
答えはCとなります | 正解は**C**です
Cです。 | Cが正解です。 | 選択肢Cが正解です。 | Cが最も適切です。 | Cを選択します。 | 最も適切なのはCです。
したがって、Cです。 | よって c
最も可能性が高いのは、c: 膵癌です。 | 正しいのはcである。 | 考えられるのは（C）です。 | おそらく答えはCでしょう
答えは3番です | 正解は選択肢3です。
ANSWER：C | ANSWER: Ｃ | ANSWER: $C$ | Answer: C | answer:c | Answer - C | Answer: (C) | Answer: **C**
**Answer:** C | **Answer: C** | Answer = C
The answer is C | The answer is (C). | The correct answer is C. | The best answer is option C.
The final answer is: C | So the answer is c.
Final Answer: C | Final answer: \boxed{C} | \boxed{C} | $\boxed{\text{C}}$ | \(\boxed{\mathrm{C}}\)
\boxed{c. 膵癌} | Correct option: C
I would choose C. | I'd go with option C. | Option C is correct. | C is the correct answer.
(C) is the best answer. | Therefore, C. | My answer: C
The correct choice is C because of the history. | Answer: C because the others are benign. | It is C.
the answer must be C | Ans: C
{"answer_choice": "C"} | {"answer": "c"} | {"reason": "a or b?", "answer": "C"} | {"答え": "C"}
```json\n{"answer_choice": "C"}\n``` | {'answer': 'C'}
["C"] | {"answer": ["c"]} | {"answer_choice": "C. 膵癌"} | {"answer": "膵癌"}
{"step_by_step": "A is wrong", "answer_choice": "C" | {"Answer": C}
c<|END_RESPONSE|> | C<|im_end|> | C</s> | C<eos> | <s>C</s> | C<|eot_id|> | C<end_of_turn>
C<|endoftext|>garbage A | <|im_start|>assistant\nC<|im_end|>
C<｜end▁of▁sentence｜> | <|START_RESPONSE|>C<|END_RESPONSE|> | C<|im_end|>\n<|im_start|>user\nA?
<answer>C</answer> | <answer>膵癌</answer>
<think>A or B?</think>C | <think>\nAかBか。答え：A\n</think>\n\n答え：C | A is wrong.</think>C
<think>x</think>\n\boxed{C} | [THINK]A[/THINK]C
<|channel|>analysis<|message|>A?<|end|><|start|>assistant<|channel|>final<|message|>C<|return|>
analysisMaybe A.assistantfinalC
<unused94>thought\nA?<unused95>C | <|START_THINKING|>A<|END_THINKING|><|START_RESPONSE|>C<|END_RESPONSE|>
<thinking>B</thinking> C
膵癌 | 膵癌。 | 「膵癌」 | **膵癌** | " 膵癌 " | C. 膵癌 | c: 膵癌 | C　膵癌 | C）膵癌 | （C）膵癌 | C（膵癌）
膵癌（C） | 膵癌です。 | 膵癌である
答え：膵癌 | 正解は膵癌です。 | 正解は「C. 膵癌」です。 | 膵癌が最も考えられる。
答え：C. 膵癌\n\n理由：胃癌は否定的である。 | 答えは、膵癌（C）です。
C\n\n解説：胃癌では体重が減る。 | C. 膵癌\n黄疸があるため。 | C。理由は黄疸です。 | c (黄疸があるから)
膵癌\n胃癌ではない。
### 応答：\nC | ### Response:\nC\n\n### Instruction:\nA? | C\n\n### 指示：\n次の問題
C\n\n問題：次は？\n答え：A | 51. c
まずAを検討する。次にBを検討する。答えはC。 | Aは誤り。Bは誤り。Cは正しい。Dは誤り。Eは誤り。
Aではなく、Cが正解です。 | 答えはAではなくCです。
A: 誤り\nB: 誤り\nC: 正しい\nD: 誤り\nE: 誤り | 答え：Aと思ったが、再考する。\n答え：C
A、Bは除外できる。よってCが正解。 | AとBは除外。答えはC
We can exclude A, B. The answer is C. | A is incorrect. B is wrong. C is correct. | The answer is not A but C.
Not A. Answer: C | It is not B; the answer is C
画像がないため正確な診断はできませんが、最も可能性が高いのはC: 膵癌です。 | 考察します。\n\nC
Let me think about A and B.\n\n**C**
患者は黄疸があり、膵癌が疑われる。 | 本例の診断としては膵癌が妥当である。 | The patient has 膵癌.
Ans. C | answer_choice: C | たぶんC | Cかな | C番 | 診断は膵癌である。 | AまたはBではなく、Cです。 | Ans) C
The correct answer is:\n\n**C. 膵癌**\n\nWhy not the others:\n\n* **A. 胃癌** is less likely
解答\n\n**C. 膵癌**\n\n**解説**\nA. 胃癌：誤り。 | 答えはAだと思いましたが、違います。答え：C
"""

CE = r"""
c,e | C,E | C、E | C，E | ｃ、ｅ | c, e | c e | CE | ce | C・E | C/E | c;e | C\nE | - C\n- E | (c), (e) | C と E
CとE | c and e | C & E | C, and E | e,c
ANSWER: C、E | Answer: C, E | 答え：C、E | 答えはCとEです。 | 正解はCおよびEです | 答え：ce | 正解はC,Eです。
The answers are C and E. | **C**, **E** | \boxed{C, E}
["c","e"] | ['c', 'e'] | {"answer": ["c", "e"]} | {"answer": "c,e"} | \boxed{C}, \boxed{E} | C. 膵癌\nE. 胆嚢癌
1. C\n2. E | 答え：\n・C\n・E
膵癌,胆嚢癌 | 膵癌、胆嚢癌 | 膵癌\n胆嚢癌 | 膵癌と胆嚢癌 | 「膵癌」、「胆嚢癌」 | C. 膵癌、E. 胆嚢癌
正解は膵癌と胆嚢癌です。 | 答え：膵癌，胆嚢癌 | - 膵癌\n- 胆嚢癌
正解は次の2つです。\nC. 膵癌：黄疸がある。\nE. 胆嚢癌：黄疸がある。
Aは誤り。Bは誤り。Cは正しい。Dは誤り。Eは正しい。 | CとEが正解です。 | C and E are correct.
The correct answers are:\n\n**C. 膵癌** - jaundice\n**E. 胆嚢癌** - jaundice
Options C and E are the correct answers. | 最も適切なのはC、Eである。 | c,e<|END_RESPONSE|>
"""

DRUG_C = r"""
Heparin | heparin | HEPARIN. | Ｈｅｐａｒｉｎ | "Heparin" | C. Heparin | (C) Heparin | The answer is Heparin.
Answer: heparin | It's heparin. | **C. Heparin**
The most appropriate drug is heparin. | Heparin is the correct answer.
The correct answer is (C) Heparin, not aspirin. | A. Aspirin is wrong. The answer is C. Heparin.
Answer: C\n\nAspirin is not appropriate. Vitamin C is not a drug for this.
I cannot see the image, but the answer is C.
"""

NONE = r"""
 | \n | 　 | ** | <think></think> | <think>A is right</think> | <|im_end|> | ```  → empty
わかりません。 | 分かりません | 申し訳ありませんが、画像がないためお答えできません。 → refused
情報が不足しているため、回答できません。 | 残念ながら選べません。 → refused
I cannot answer that. | I'm sorry, but I can't provide medical advice. → refused
As an AI, I am unable to help. | There is no correct answer. | I don't know. → refused
回答は差し控えさせていただきます。 | 写真(a)とCT(b)がないため、正確な答えを提供できません。 → refused
I cannot determine whether the answer is A. | unknown → refused
Answer | Answer: | 答え： | The answer is | 答えは次の通りです。 | An interesting case. → too few
A 62-year-old man has pain. | a disease of the pancreas | F | z → too few
C is incorrect. | Cは誤りです。 | Not C. | not C | Exclude A, B. | AとBは除外。 | AとBは除外できる → too few
Eliminated: A, B, D | 除外した選択肢：A、B | 不正解：A → too few
C is not correct | 正解はCではない。 | Cではありません。 | We can rule out A and B. → too few
膵癌は否定的である。 | Incorrect answer: C | ビタミンC | hepatitis B | 37°C → too few
A,C | AとC | a, c, e | 胃癌、膵癌 | The answer is A and C. | 胃癌と膵癌。肝癌。 | 正解はA、Cです。 → too many
ac | {"answer": ["a", "c"]} → too many
A or C | AかC | 答えはAまたはCです。 | The answer is either A or C. | C. 胃癌 → ambiguous
胃癌は考えられる。膵癌も考えられる。 | Option A may fit, and so may option C. → ambiguous
"""


def cells(table: str) -> list[str]:
    """Responses of a table: " | " stands between them, and \n for a new line in them."""
    rows = [row.split(" | ") for row in table.strip("\n").split("\n")]
    return [cell.replace(r"\n", "\n") for row in rows for cell in row]


def reasons(table: str) -> list[tuple[str, str]]:
    rows = [row.split(" → ") for row in table.strip("\n").split("\n")]
    return [(cell, reason) for row, reason in rows for cell in cells(row)]


@pytest.mark.parametrize("response", cells(C))
def test_one_choice(response):
    assert outcome(response, ONE) == "c"


@pytest.mark.parametrize("response", cells(CE))
def test_two_choices(response):
    assert outcome(response, TWO) == "ce"


@pytest.mark.parametrize("response", cells(DRUG_C))
def test_english_texts(response):
    assert outcome(response, DRUG) == "c"


@pytest.mark.parametrize(("response", "reason"), reasons(NONE))
def test_no_answer(response, reason):
    assert outcome(response, ONE) == reason


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        pytest.param("答え：C", "c", id="stated before the cut"),
        pytest.param("C", "c", id="nothing but a label"),
        pytest.param("膵癌\n理由は、胃癌で", "c", id="begins with a line that is a text"),
        pytest.param("C\n理由は、胃癌で", "c", id="begins with a line that is a label"),
        pytest.param("まずAを検討すると、", "truncated", id="still thinking"),
        pytest.param("患者は黄疸があり、膵癌の", "truncated", id="a mention is no conclusion"),
        pytest.param("<think>Aは違う", "truncated", id="inside its reasoning"),
        pytest.param("<think>A</think>", "truncated", id="after its reasoning"),
        pytest.param("<|channel|>analysis<|message|>答え：C", "truncated", id="inside a channel"),
        pytest.param("", "truncated", id="nothing at all"),
        pytest.param('{"answer_choice": "C', "c", id="JSON without an end"),
    ],
)
def test_a_cut_response(response, expected):
    assert outcome(response, ONE, truncated=True) == expected


@pytest.mark.parametrize(
    "response", ["<think>Aは違う", "<|channel|>analysis<|message|>答え：C", "analysisThe answer is C"]
)
def test_reasoning_without_an_end_is_no_answer(response):
    assert outcome(response, ONE) == "empty"


def test_a_cut_text_that_may_go_on_is_no_answer():
    item = question(("肺", "肺 動脈", "胃"), "a")
    assert outcome("正解は肺", item) == "a"
    assert outcome("正解は肺", item, truncated=True) == "truncated"
    assert outcome("正解は胃", item, truncated=True) == "c"


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("c", "too few"),
        ("膵癌", "too few"),
        ("正解はCです。", "too few"),
        ("c,c", "too few"),
        ("a,c,e", "too many"),
        ("膵癌,胆嚢癌,胃癌", "too many"),
        ("CまたはE", "ambiguous"),
        ("わかりません", "refused"),
    ],
)
def test_another_count_than_asked_for(response, expected):
    assert outcome(response, TWO) == expected


def test_counts_that_are_right_too():
    more = question(also_right=(frozenset({0, 1}),))
    assert outcome("d,e", more) == "de"  # whichever two
    assert outcome("a,b,c", more) == "too many"
    assert outcome("a,b,c", question(flags=frozenset({"every_answer_right"}))) == "abc"


@pytest.mark.parametrize(
    ("choices", "response", "expected"),
    [
        pytest.param(("肺", "肺癌", "胃"), "肺癌", "b", id="the longest"),
        pytest.param(("肺", "肺癌", "胃"), "答えは肺癌です", "b", id="the longest in a sentence"),
        pytest.param(("肺", "心", "胃"), "答えは肺癌です", "too few", id="part of a word is no choice"),
        pytest.param(("A, B", "A", "B, C"), "a, b", "a", id="a comma of its own"),
        pytest.param(("AとC", "Aのみ", "Bのみ"), "答えはAとCです", "a", id="letters of its own"),
        pytest.param(("BB Bb", "Bb Bb", "bb bb"), "Bb Bb", "b", id="case tells them apart"),
        pytest.param(("BB Bb", "Bb Bb", "cc"), "bb bb", "ambiguous", id="unless it does not"),
        pytest.param(("4.6", "4.61", "46"), "The answer is 4.61.", "b", id="numbers"),
        pytest.param(("4", "6", "46"), "The answer is 4.6", "too few", id="part of a number is no choice"),
        pytest.param(("20%", "5%", "2%"), "2％", "c", id="width"),
        pytest.param(("Co2", "ab", "Fe"), "ab", "b", id="a text of letters"),
        pytest.param(("①", "②", "③"), "②", "b", id="circled numbers"),
        pytest.param(("2回", "3回", "1回"), "答えは3番です", "too few", id="an ordinal where choices have digits"),
        pytest.param(("X", "X", "Y"), "X", "a", id="the first of equal texts"),
        pytest.param(("X", "X", "Y"), "B. X", "b", id="a label before one of equal texts"),
        pytest.param(("E. coli", "S. aureus", "P. acnes"), "The answer is E. coli.", "a", id="a letter in a name"),
        pytest.param(
            ("Hepatitis A", "Hepatitis B", "Mumps"), "Answer: hepatitis b", "b", id="a letter at its end"
        ),
    ],
)
def test_choice_texts(choices, response, expected):
    assert outcome(response, question(choices, "a")) == expected


def test_a_text_that_is_another_ones_letter():
    item = question(("B", "C", "D", "E"), "a")
    assert outcome("B", item) == "a"
    assert outcome("B", item, answer_as="letter") == "b"
    assert outcome("b", item) == "b"


def test_what_is_wrong_is_the_answer_where_the_question_asks_for_it():
    assert outcome("誤っているのはCです。", question(stem="誤っているのはどれか。")) == "c"
    assert outcome("誤っているのはCです。", ONE) == "too few"


@pytest.mark.parametrize(
    ("response", "how"),
    [
        ("C", "label"),
        ("C. 膵癌", "label"),
        ("膵癌", "choice text"),
        ("答え：C", "stated label"),
        ("正解は膵癌です。", "stated text"),
        ("\\boxed{C}", "boxed"),
        ('{"answer": "C"}', "json field"),
        ('{"answer": "膵癌"}', "json field text"),
        ("<answer>C</answer>", "tagged"),
        ("Cは正しい。Dは誤り。", "affirmed label"),
        ("本例は膵癌を疑うので手術する。", "mentioned text"),
    ],
)
def test_how(response, how):
    assert read_answer(ONE, response).how == how


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        *[
            (text, "1130")
            for text in (
                "1130",
                "1,130",
                "１１３０",
                "１，１３０",
                "1130 kcal",
                "1,130kcal/日",
                "1130.0",
                "約1,130 kcal",
            )
        ],
        *[
            (text, "1130")
            for text in (
                "答え：1130",
                "答え：\n1,130kcal",
                "答えは1130kcalです。",
                "Answer: 1130",
                "\\boxed{1130}",
            )
        ],
        ("$\\boxed{1130 \\text{ kcal}}$", "1130"),
        ("**1,130 kcal**", "1130"),
        ('{"answer": 1130}', "1130"),
        ('{"answer": "1,130 kcal"}', "1130"),
        ("<think>900 + 120</think>1130", "1130"),
        ("900 + 120 + 110 = 1130\n答え：1,130 kcal", "1130"),
        ("900 + 120 + 110を計算する。よって、1,130kcalとなる。", "1130"),
        ("解答：1130kcal（小数第1位を四捨五入）", "1130"),
        ("The answer is 1130.4 ≒ 1130 kcal.", "1130"),
        ("Therefore, 900 + 230 = 1130 kcal.", "1130"),
        ("1,130 kcal\n\n内訳は900と230です。", "1130"),
        ("解答：①1130", "1130"),
        ("答え：0.40", "0.4"),
        (".5", "0.5"),
        ("答えは①. 30人, ②. 0.66 となります。", "ambiguous"),
        ("answer: ②. 0.59\n\nodds ratio = 0.6", "0.59"),
        ("900と230です。", "ambiguous"),
        ("答えは900または1130です。", "ambiguous"),
        ("①②③", "too few"),
        ("不明です", "refused"),
        ("計算する。", "too few"),
        ("", "empty"),
    ],
)
def test_numbers(response, expected):
    assert outcome(response, NUMBER) == expected


def test_a_number_in_slots():
    item = question((), "", stem="求めよ。解答：①．②", number="0.4")
    assert outcome("①0 ②4", item) == "0.4"
    assert outcome("①：０、②：４", item) == "0.4"


def test_a_cut_calculation_is_no_answer():
    assert outcome("まず900を", NUMBER, truncated=True) == "truncated"
    assert outcome("答え：1130。内訳は900", NUMBER, truncated=True) == "1130"


def test_same_answer():
    twice = question(("X", "X", "Y"), "b")
    assert same_answer(twice, read_answer(twice, "X"), {1})
    assert not same_answer(twice, read_answer(twice, "A"), {1})
    assert not same_answer(ONE, read_answer(ONE, ""), {2})
    assert same_answer(NUMBER, read_answer(NUMBER, "1,130"), ())
    assert not same_answer(NUMBER, read_answer(NUMBER, "113"), ())


fragments = st.lists(
    st.sampled_from(
        [
            *"abcxyzACEＣ①1。、,.:：\n 「」()*{}",
            *DISEASES,
            "答え",
            "正解は",
            "です",
            "ではない",
            "または",
            "わかりません",
        ]
    )
    | st.sampled_from(
        ["Answer", "is", "not", "\\boxed{", '{"answer": ', "<think>", "</think>", "<|im_end|>", "1,130"]
    )
    | st.text(max_size=5),
    max_size=12,
).map("".join)


@given(fragments | st.text(), st.sampled_from([ONE, TWO, DRUG, NUMBER]), st.booleans())
def test_any_text_is_read(response, item, truncated):
    reading = read_answer(item, response, truncated=truncated)
    assert all(0 <= index < len(item.choices) for index in reading.chosen)
    assert reading.answered is (reading.how not in NO_ANSWER)
    assert len(reading.chosen) in (0, item.select)
    assert (reading.number is None) or item.number is not None


@given(st.sampled_from(DISEASES), st.sampled_from(["{}", "答え：{}", "正解は{}です。", "Answer: {}", "**{}**"]))
def test_the_gold_plays_no_part(text, frame):
    others = [replace(ONE, gold=frozenset({index})) for index in range(5)]
    assert len({read_answer(item, frame.format(text)).chosen for item in others}) == 1
