"""MedRECT: find and correct the one medical error in a clinical text, or say that there is none.

The Japanese texts were made from the licence exams of 2024 and 2025, the English ones are those of MEDEC's MS subset.
A question's `reference` is `CORRECT`, or the number of the wrong sentence and the right sentence ("5: ...").
"""

from pathlib import Path

from jmedllm.evaluation.benchmarks.benchmark import Benchmark
from jmedllm.evaluation.benchmarks.rows import InputRow, data_file, json_rows
from jmedllm.evaluation.question import Language, Question
from jmedllm.evaluation.reading.corrections import CORRECT, numbered_sentences

ACCEPTED: dict[Language, str] = {
    "ja": "medrect/medrect-ja-step3-deduplicated.json",
    "en": "medrect/medrect-en-accepted.json",
}
REJECTED = "medrect/medrect-ja-step4-rejected.json"
"""Japanese texts that the authors' last screening took out; the published benchmark is without them."""

INSTRUCTIONS: dict[Language, str] = {
    "ja": "次の臨床文書の番号付きの文を確認してください。医学的な誤りは、まったくないか、ちょうど1つの文にあります。"
    f"誤りがなければ {CORRECT} とだけ書いてください。"
    "誤りがあれば、その文の番号と、正しく直した文を「番号: 文」の形で1行だけ書いてください。",
    "en": "Check the numbered sentences of the following clinical note. Either none of them contains a medical error, "
    f"or exactly one does. If there is no error, write only {CORRECT}. If there is one, write a single line with the "
    "number of that sentence and the sentence as it should be, in the form NUMBER: SENTENCE.",
}


def read(data: Path, language: Language, split: str) -> list[Question]:
    """Read the texts of one language; the one split is "test".

    Raises:
        InputError: a record is invalid.
    """
    rejected = set()
    if language == "ja":
        rejected = {row.text("sample_id") for row in json_rows(data_file(data, REJECTED, "medrect"))}
    rows = json_rows(data_file(data, ACCEPTED[language], "medrect"))
    return [_question(row, language) for row in rows if row.text("sample_id") not in rejected]


def _question(row: InputRow, language: Language) -> Question:
    stem = row.text("sentences").strip()
    sentences = numbered_sentences(stem)
    if not sentences:
        raise row.wrong("sentences", 'numbered sentences such as "1. ..."')
    reference = CORRECT
    if row.integer("error_flag", 0, 1):
        place = row.integer("error_sentence_id", 1, len(sentences))
        reference = f"{place}: {' '.join(row.text('corrected_sentence').split())}"
    return Question(
        id=row.text("sample_id"),
        benchmark="medrect",
        language=language,
        stem=stem,
        choices=(),
        gold=frozenset(),
        subject=row.text("error_type") if row.record.get("error_type") is not None else None,
        reference=reference,
        instruction=INSTRUCTIONS[language],
    )


BENCHMARK = Benchmark(
    name="medrect",
    title="MedRECT: find and correct an error in a clinical text",
    licence="CC BY 4.0",
    sources={"ja": "medrect", "en": "medrect"},
    expected_counts={("ja", "test"): 663, ("en", "test"): 458},
    load=read,
    default_selection="graded",
    scorers=("correction",),
)
