"""Replies to "which sentence is wrong?", in the forms that models write."""

import pytest

from jmedllm.evaluation.reading.corrections import numbered_sentences, read_correction

TEXT = "1. A man of 50 has a cough.\n2. His temperature is 38 C.\n3. Influenza is diagnosed.\n4. He is given aspirin."
SENTENCES = numbered_sentences(TEXT)
RIGHT = "Pneumonia is diagnosed."

ERRORS = [
    # reply, sentence, correction
    (f"3: {RIGHT}", 3, RIGHT),
    (f"3. {RIGHT}", 3, RIGHT),
    (f"３： {RIGHT}", 3, RIGHT),
    (f"`3: {RIGHT}`", 3, RIGHT),
    (f"**3: {RIGHT}**", 3, RIGHT),
    (f"```text\n3: {RIGHT}\n```", 3, RIGHT),
    (f"Sentence 3: {RIGHT}", 3, RIGHT),
    (f"sentence_number: 3: {RIGHT}".replace("sentence_number", "Sentence number"), 3, RIGHT),
    (f"文3: {RIGHT}", 3, RIGHT),
    (f"文番号3：{RIGHT}", 3, RIGHT),
    (f"3番目の文：{RIGHT}", 3, RIGHT),
    (f"The note has a fever that fits pneumonia.\n\n3: {RIGHT}", 3, RIGHT),
    ("12: No medications are needed.", None, "No medications are needed."),  # the text has no such sentence
    ("3: No medications are needed.", 3, "No medications are needed."),
    ("3: The correct diagnosis is pneumonia.", 3, "The correct diagnosis is pneumonia."),
    # A copy of the text in which one sentence is another.
    (TEXT.replace("Influenza", "Pneumonia"), 3, RIGHT),
    (TEXT.replace("Influenza", "Pneumonia").replace("1. ", "1: "), 3, RIGHT),
    ("1: Yes, sentence 3", 3, None),
    ("1: Yes, sentence 3\n2: Influenza", 3, None),
    ("Yes. The error is in sentence 3.", 3, None),
    (f'Sentence 3 is incorrect. Corrected sentence: "{RIGHT}"', 3, RIGHT),
    (f"The error is in sentence 3. It should be: {RIGHT}", 3, RIGHT),
    (f"誤り: あり\n文番号: 3\n修正文: {RIGHT}", 3, RIGHT),
    (f"3番目の文に誤りがあります。正しくは「{RIGHT}」", 3, RIGHT),
    ("はい、文3が誤っています。", 3, None),
    ("There is an error in the note.", None, None),
    ('{"error": true, "sentence": 3, "correction": "Pneumonia is diagnosed."}', 3, RIGHT),
    (
        '```json\n{"error_flag": 1, "error_sentence_id": 3, "corrected_sentence": "Pneumonia is diagnosed."}\n```',
        3,
        RIGHT,
    ),
    ('{"sentence_number": "3", "corrected": "Pneumonia is diagnosed."}', 3, RIGHT),
    ('{"誤り": "あり", "文番号": 3, "修正文": "Pneumonia is diagnosed."}', 3, RIGHT),
    ('{"error": "yes", "sentence": 9}', None, None),
    ("3", 3, None),
    ("Sentence 3", 3, None),
    ("文3", 3, None),
    ("③", 3, None),
    (f"Error: Yes\nSentence: 3\nCorrected: {RIGHT}", 3, RIGHT),
    ("The sentence with the error is number 3.", 3, None),
    ("はい。3番目の文です。", 3, None),
    (f"<answer>3: {RIGHT}</answer>", 3, RIGHT),
    (f"\\boxed{{3: {RIGHT}}}", 3, RIGHT),
    (f"Final answer: 3: {RIGHT}", 3, RIGHT),
    (f"【回答】3: {RIGHT}", 3, RIGHT),
    (f"エラー文番号: 3\n修正後: {RIGHT}", 3, RIGHT),
    (f"Error in sentence 3: {RIGHT}", 3, RIGHT),
    (f"Sentence #3 should be: {RIGHT}", 3, RIGHT),
    (f'The correct version of sentence 3 is "{RIGHT}"', 3, RIGHT),
    (f"(3) {RIGHT}", 3, RIGHT),
    (f"3 - {RIGHT}", 3, RIGHT),
    (f"1. CORRECT\n2. CORRECT\n3: {RIGHT}\n4. CORRECT", 3, RIGHT),
    ("Sentence 1: correct\nSentence 2: correct\nSentence 3: incorrect\nSentence 4: correct", 3, None),
    (f"発熱がある。\n結論：文番号3に誤りがあり、「{RIGHT}」に修正すべきです。", 3, RIGHT),
]

NONE = [
    "CORRECT",
    "`CORRECT`",
    "**CORRECT**",
    "_CORRECT_",
    "correct.",
    "Answer: CORRECT",
    "The text is medically correct.",
    "There are no medical errors in this note.",
    "No errors were found.",
    "No error",
    "1: No",
    "誤りはありません。",
    "この文書に医学的な誤りは認められません。",
    "エラーなし",
    "すべての文が正しいです。",
    "正しい",
    "0",
    "All vital signs fit the diagnosis.\n\nCORRECT",
    '{"error": false, "sentence": null}',
    '{"error_flag": 0}',
    '{"sentence": 0}',
    '{"誤り": "なし"}',
    '{"result": "CORRECT"}',
    "Error: No\nSentence: N/A",
    "There is no error in sentences 1 to 4.",
    "No. All sentences are accurate.",
    "None of the sentences contains an error.",
    "1. correct\n2. correct\n3. correct\n4. correct",
    "いいえ、誤りはありません。",
    "医学的に妥当です。問題ありません。",
]

NO_ANSWER = [
    ("", "empty"),
    ("  \n", "empty"),
    ("I cannot give medical advice.", "no decision"),
    ("He should see a physician.", "no decision"),
    ("Sentences need more context.", "no decision"),
    (TEXT, "ambiguous"),  # a copy
    ("1. A man of 50 has a cough.", "ambiguous"),
    (TEXT.replace("Influenza", "Pneumonia").replace("aspirin", "amoxicillin"), "ambiguous"),
    (
        "3: Pneumonia is diagnosed.\n\nCORRECT\n4: He is given amoxicillin.\n3: Tuberculosis is diagnosed.\nWell.",
        "ambiguous",
    ),
    ("The error is in sentence 3 or sentence 4.", "ambiguous"),
]


@pytest.mark.parametrize(("reply", "sentence", "corrected"), ERRORS)
def test_an_error(reply: str, sentence: int | None, corrected: str | None) -> None:
    found = read_correction(reply, SENTENCES)
    assert (found.error, found.sentence, found.corrected) == (True, sentence, corrected)


@pytest.mark.parametrize("reply", NONE)
def test_no_error(reply: str) -> None:
    found = read_correction(reply, SENTENCES)
    assert (found.error, found.sentence, found.corrected) == (False, None, None)


@pytest.mark.parametrize(("reply", "how"), NO_ANSWER)
def test_no_answer(reply: str, how: str) -> None:
    found = read_correction(reply, SENTENCES)
    assert (found.error, found.how) == (None, how)


CUT = [
    # A copy of the text that was cut off states nothing; the number of a wrong sentence does.
    ("1. A man of 50 has a cough.\n2. His temp", None, "truncated"),
    ("1. A man of", None, "truncated"),
    ("1. A man of 50 has a cough.", None, "truncated"),
    ("3: Pneumonia is", 3, "numbered sentence"),
    ("The cough fits pneumonia, so the error is in sentence 3. It should be: Pneu", 3, "stated error"),
    ("CORRECT\nThe man", None, "stated no error"),
]


@pytest.mark.parametrize(("reply", "sentence", "how"), CUT)
def test_a_reply_that_was_cut_off(reply: str, sentence: int | None, how: str) -> None:
    found = read_correction(reply, SENTENCES, truncated=True)
    assert (found.sentence, found.how) == (sentence, how)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("1. A.\n2. B\nWBC 9.\n3. C.", {1: "A.", 2: "B WBC 9.", 3: "C."}),
        ("1. A, as on day\n7. B", {1: "A, as on day 7. B"}),
        ("1．甲。\n2．乙。", {1: "甲。", 2: "乙。"}),
        ("A.\n1. B.", {}),
        ("2. B.", {}),
        ("", {}),
    ],
)
def test_numbered_sentences(text: str, sentences: dict[int, str]) -> None:
    assert numbered_sentences(text) == sentences
