"""Responses as models really write them, and what each must be taken to mean."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmedllm.evaluation.question import Question, label
from jmedllm.evaluation.reading import NO_ANSWER, read_answer, same_answer

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
    answer = read_answer(item, response, **how)
    assert answer.answered is (answer.how not in NO_ANSWER)
    return "".join(map(label, sorted(answer.chosen))) or answer.number or answer.how


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
Answer | Answer: | 答え： | The answer is | 答えは次の通りです。 | An interesting case. → no choice
A 62-year-old man has pain. | a disease of the pancreas | F | z → no choice
C is incorrect. | Cは誤りです。 | Not C. | not C | Exclude A, B. | AとBは除外。 | AとBは除外できる → no choice
Eliminated: A, B, D | 除外した選択肢：A、B | 不正解：A → no choice
C is not correct | 正解はCではない。 | Cではありません。 | We can rule out A and B. → no choice
膵癌は否定的である。 | Incorrect answer: C | ビタミンC | hepatitis B | 37°C → no choice
A,C | AとC | a, c, e | 胃癌、膵癌 | The answer is A and C. | 胃癌と膵癌。肝癌。 | 正解はA、Cです。 → too many
ac | {"answer": ["a", "c"]} → too many
A or C | AかC | 答えはAまたはCです。 | The answer is either A or C. | C. 胃癌 → ambiguous
胃癌は考えられる。膵癌も考えられる。 | Option A may fit, and so may option C. → ambiguous
"""


# What the last statement, table or correction says, with what must not be taken for it.
SAYS_C = r"""
a. 誤り\nb. 誤り\nc. 正解\nd. 誤り\ne. 誤り | a. 不正解\nb. 不正解\nc. 正解\nd. 不正解\ne. 不正解
a → 誤答\nb → 誤答\nc → 正答\nd → 誤答\ne → 誤答 | a: ×\nb: ×\nc: ○\nd: ×\ne: × | a ×\nb ×\nc ○\nd ×\ne ×
a. 胃癌 ×\nb. 大腸癌 ×\nc. 膵癌 ○\nd. 肝癌 ×\ne. 胆嚢癌 × | a. 胃癌（誤り）\nb. 大腸癌（誤り）\nc. 膵癌（正解）
a：不適切\nb：不適切\nc：適切\nd：不適切\ne：不適切
a. 胃癌：黄疸は稀。\nc. 膵癌：黄疸をきたす。これが正解\nd. 肝癌：肝炎。
a. 胃癌：黄疸は稀。\nc. 膵癌：黄疸をきたす。これが答え\nd. 肝癌：肝炎。 | c. 膵癌\n→ 正解\n\nd. 肝癌\n→ 誤り
c: 正解\n\nd: 誤り | A. Incorrect\nB. Incorrect\nC. Correct answer\nD. Incorrect\nE. Incorrect
A: Incorrect\nB: Incorrect\nC: Correct\nD: Incorrect\nE: Incorrect | A - False\nB - False\nC - True\nD - False
A. Not the answer\nB. Not the answer\nC. The answer\nD. Not the answer
A. wrong answer\nC. right answer\nD. wrong answer
【解答】c\n【解説】\na：× 胃癌\nb：× 大腸癌\nc：○ 膵癌 | a ×\nc ○ | 問題1 正解\nc
Correct answer: C\nIncorrect answers: A, B, D, E | Incorrect: A, B\nCorrect: C
Incorrect answers: A, B\nCorrect answer: C
正解：c\n不正解：a,b,d,e | 正解：c\n誤答：a、b、d、e | 正解：c\n\n除外：a、b、d、e
答え：c\n不正解の理由：\na：誤り
答え：c\n不適切な選択肢：a | 答え：c\n誤りの選択肢の解説\na：胃癌 | 答え：膵癌\n除外診断として胃癌
正解はc\n\n不要な検査は行わない。
答え：c\n間違いやすいポイント | 答え：膵癌\n\n違いを説明します。 | c\n\n不正解の選択肢について
Answer: C\n\nNot A because it is rare. | Answer: C\nIncorrect options:\nA. 胃癌
C\n\nIncorrect answers explained:\nA: ...
The answer is C.\n\nWrong answers:\nA - rare | Answer: C\n\nUnlikely: A, B | Answer: C\n\nDon't choose A.
Answer: C (not A)
The answer is C; all others are wrong. | Answer: C\nA is not indicated. | 答えはcであり、a、b、d、eは誤りである。
答え：a\n→ 見直した結果、cに変更します。 | 答えはaです。すみません、間違えました。cです。
答え：a\n\n訂正します。答え：c
答えはa。いや、待って。黄疸があるのでc。 | 答えはaのように見えるが、実際はcである。
aが正解と思われがちだが、cが正しい。
一見aが正解に思えますが、正解はcです。 | 答えはaかもしれませんが、cの方が適切です。
aが正解だという人もいるがcだ。
The answer is A. Wait, actually C is correct. | Answer: A\nCorrection: C
The answer is A... wait, no, it should be C.
\boxed{c}\n\nNot \boxed{a}. | \boxed{a} は誤り。\boxed{c} | Although the answer is often A, here it is C.
The answer is C. If the patient were younger, the answer would be A. | Answer: C. (If pregnant, answer: A.)
The correct answer is C. A is the correct answer only for jaundice. | First choice: C. Second choice: A.
Answer: C. In the young the answer would be A. | Answer: C\n\nNote: If there were no mass, the answer would be B.
The answer could be A, but C is better. | The correct answer is C. Option A is the second best choice.
A common mistake is to choose A. The right choice is C. | I initially said A, but the correct answer is C
Q: 診断は？\nA: c | A: C | A：c | Q. 診断は？ A. 膵癌 | ③ | 回答：３ | 正解番号：3 | 正解は③です
したがってcが残る。 | 消去法により、a、b、d、eを除外するとcが残る。 | By elimination, C. | c以外は誤り
c以外はすべて誤りである。
aではなく、bでもなく、cです | aでもbでもなく、cが正解。 | Correct: C | Final: C | Solution: C | Remaining: C
It's not A. It's C.
{"answer":"c","options":["a","b","c","d","e"]} | {"wrong_answers": ["a"], "answer": "c"}
発熱がないので、答えはcです。 | 黄疸がないことから肝癌は否定的で、正解はcとなります。
禁忌はaであり、正解はcである。 | ∴ c
私の答えはcですが、aの可能性も否定できません。
最も考えられるのは、cの膵癌です。ただし、eの可能性も否定できません。
Given that the patient is not bleeding, the answer is C. | Not sure, but I'd go with C.
The answer that best fits is C.
Since there is no contraindication, option C would be the most appropriate choice.
It would be A if there were a mass, but the answer is C.
Answer: C\n\nExplanation: C is typical. However, B is used later. If there were a mass, A would be given.
間違いなくcです。 | cを選ばざるを得ない。 | 正解はcに他なりません。 | cが疑わしい
"""

SAYS_CE = r"""
c、eの2つ | 答え：c\n答え：e | 1つ目はc、2つ目はeです | 正解はa、c。しかしaは誤りなのでc、eとなる。 | 3,5
正解は③と⑤です。 | 【c】【e】
a. 誤り\nb. 誤り\nc. 正解\nd. 誤り\ne. 正解 | 答え：c および e（aとbは誤り） | a、bは誤り、cとeが正しい
正解はcです。また、eも正解です。
The answers are C and E, not A and B. | Correct: C, E\nIncorrect: A, B, D
"""

SAYS_HEPARIN = r"""
Not warfarin but heparin. | Aspirin: wrong\nWarfarin: wrong\nHeparin: right
A. Aspirin - No\nC. Heparin - Yes\nD. Vitamin C - No
The patient takes warfarin. Therefore heparin should be given. | Heparin rather than warfarin
heparin, not warfarin
Q: Which drug?\nA: Heparin | Answer: a heparin infusion
"""

SAYS_NOTHING = r"""
We should not choose A. | I would never select A. | The least likely answer is A. | The worst choice is A.
The second best answer is A.
I don't think the answer is A. | Many would choose A. | You might be tempted to choose A. | Is the answer A?
Some may say the answer is A.
You said the answer is A, which is wrong. | It is unlikely that the answer is A.
The user thinks the answer is A. | Few would choose A.
The most dangerous choice is A. | The alternative answer is A. | The least appropriate option is A.
Nobody would say the answer is A.
A seems to be the best choice but is wrong. | A is hardly the best choice. | If you choose A, the patient dies.
The answer is none of A, B, or C.
I do not believe that A is correct. | While A is the best choice in the young, this patient is old.
The answer was A last time.
aを選ぶべきではない | aが正解とは限らない | aが正解である可能性は低い | aが最も適切とは言えない
aが最も適切ではない | aを選択しない
aを選びたくなるが誤り。 | aと答えてはいけない | 答えはaではありえない | 答えはa？いいえ | 答えはaですか？
正解がaである根拠はない。
答え：a〜eのいずれも該当しない。 | 選択肢a〜eを検討します。 | aを選んだ人は間違い。 | aと答えた受験者が多かった。
答えはaとは異なる
aの可能性が高いとは言えない | aが最も可能性が低い | 最も適切なのはaではない | 正解をaとするのは誤り
答えがaであるとは考えにくい。
Answer: C. difficile | The diagnosis is C. difficile colitis. | The answer is E. coli infection.
Answer: B cell lymphoma | Answer: D dimer
Therefore C. difficile toxin must be tested. | Answer: E. coli | The answer is B-cell lymphoma.
The answer is 膵癌-like.
胃癌の既往がある。 | 胃癌の治療中である。 | The patient takes 胃癌. | A: 10%, B: 20%, C: 60%, D: 5%, E: 5%
C. 胃癌 | {"answer": "a|b|c"}
a. 胃癌\nb. 大腸癌\nc. 膵癌\nd. 肝癌\ne. 胆嚢癌 | 胃癌、大腸癌、膵癌、肝癌、胆嚢癌 | 診断はどれか。
正解はc以外です。 | {"answer": 2}
The answer is A. Wait, no. | Answer: a, b, c, d, or e? | aからeのうち、正しいものを選んでください。
"""

TRUNCATED = r"""
a. 胃癌：上腹部痛が主であり、黄疸は | a: 胃癌\n上腹部痛が主であり、黄疸は | 各選択肢を検討する。\na. 胃癌：黄疸は
a. 胃癌\n上腹部痛
まず考えられるのは胃癌である。しかし、黄疸があるため | 最も考えられるのは胃癌だが、 | 胃癌、大腸癌、膵癌を
a：誤り\nb：誤り\nc：
A) 胃癌 - pain, weight loss. B) | The most likely answer is A, but we should consider | A. 胃癌\n胃癌 is
A. 胃癌 is a tumour
Okay, let me think. The answer is A. Hmm, but wait. | Okay, let me think. The answer is A? No, since
Hmm, is it A? The answer may be A
"""


def cells(table: str) -> list[str]:
    """Responses of a table, separated by " | "; \n in them is a line feed."""
    rows = [row.split(" | ") for row in table.strip("\n").split("\n")]
    return [cell.replace(r"\n", "\n") for row in rows for cell in row]


def reasons(table: str) -> list[tuple[str, str]]:
    rows = [row.split(" → ") for row in table.strip("\n").split("\n")]
    return [(cell, reason) for row, reason in rows for cell in cells(row)]


@pytest.mark.parametrize("response", cells(C))
def test_one_choice(response):
    assert outcome(response, ONE) == "c"


@pytest.mark.parametrize("response", cells(SAYS_C))
def test_the_last_statement_counts(response):
    assert outcome(response, ONE) == "c"


@pytest.mark.parametrize("response", cells(SAYS_CE))
def test_the_last_statements_of_two_choices(response):
    assert outcome(response, TWO) == "ce"


@pytest.mark.parametrize("response", cells(SAYS_HEPARIN))
def test_the_last_statement_in_english(response):
    assert outcome(response, DRUG) == "c"


@pytest.mark.parametrize("response", cells(SAYS_NOTHING))
def test_letters_that_are_no_answer(response):
    """Eliminated, denied, supposed, reported or questioned; or in a name, a list or by the way."""
    assert outcome(response, ONE) in NO_ANSWER


@pytest.mark.parametrize("response", cells(TRUNCATED))
def test_a_walk_through_the_choices_that_was_cut_off(response):
    assert outcome(response, ONE, truncated=True) == "truncated"


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
def test_a_number_of_choices_other_than_asked_for(response, expected):
    assert outcome(response, TWO) == expected


def test_counts_that_are_right_too():
    more = question(also_right=(frozenset({0, 1}),))
    assert outcome("d,e", more) == "de"  # whichever two
    assert outcome("a,b,c", more) == "too many"
    assert outcome("a,b,c", question(flags=frozenset({"every_answer_right"}))) == "abc"


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
    | st.sampled_from(["Answer", "is", "not", "\\boxed{", '{"answer": ', "<think>", "</think>", "<|im_end|>", "1,130"])
    | st.text(max_size=5),
    max_size=12,
).map("".join)


def test_long_responses_take_no_longer():
    """Four thousand mentions without a line end between them."""
    assert outcome("not A. " * 4000 + "The answer is C.", ONE) == "c"


@given(fragments | st.text(), st.sampled_from([ONE, TWO, DRUG, NUMBER]), st.booleans())
def test_any_text_is_read(response, item, truncated):
    answer = read_answer(item, response, truncated=truncated)
    assert all(0 <= index < len(item.choices) for index in answer.chosen)
    assert answer.answered is (answer.how not in NO_ANSWER)
    assert len(answer.chosen) in (0, item.select)
    assert (answer.number is None) or item.number is not None


@given(st.sampled_from(DISEASES), st.sampled_from(["{}", "答え：{}", "正解は{}です。", "Answer: {}", "**{}**"]))
def test_the_gold_plays_no_part(text, frame):
    others = [replace(ONE, gold=frozenset({index})) for index in range(5)]
    assert len({read_answer(item, frame.format(text)).chosen for item in others}) == 1
