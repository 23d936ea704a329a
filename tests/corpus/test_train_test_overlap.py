"""Training questions that are benchmark items, and those that are only like them."""

from dataclasses import replace
from pathlib import Path

import pytest

from jmedllm.corpus.train_test_overlap import find_overlaps, require_no_benchmark_items, similarity
from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks import load
from jmedllm.evaluation.question import Question

CASE = Question(
    "77",
    "exam",
    "en",
    "A 31-year-old beekeeper presents with hoarseness two hours after she mowed a meadow barefoot. Her tongue is "
    "swollen, her lips tingle, and hives cover both forearms. Which of the following should be given first?",
    ("Intramuscular epinephrine", "Oral cetirizine", "Inhaled budesonide"),
    frozenset({0}),
)
FACT = Question(
    "8", "exam", "ja", "正しいのはどれか。", ("肝は右にある。", "脾は右にある。", "心は腹にある。"), frozenset({0})
)


def trained(item: Question, **changes: object) -> Question:
    return replace(item, id="1", benchmark="own", **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "question",
    [
        trained(CASE),
        trained(CASE, choices=CASE.choices[::-1]),
        trained(CASE, choices=(*CASE.choices, "Cold water")),
        trained(CASE, choices=()),
        trained(CASE, stem=CASE.stem.upper().replace(" ", "\n")),
        trained(CASE, stem=CASE.stem.replace("31", "44").replace("swollen", "thick")),
        trained(FACT),
        trained(FACT, choices=FACT.choices[::-1]),
        trained(FACT, stem="正しいのは，どれか．"),
    ],
    ids=[
        "copied",
        "reversed",
        "one more",
        "no choices",
        "spelling",
        "reworded",
        "short",
        "reversed short",
        "signs",
    ],
)
def test_a_benchmark_item_is_refused(question: Question) -> None:
    name = "77" if question.language == "en" else "8"
    with pytest.raises(InputError, match=f"own 1 is exam {name}; remove them"):
        require_no_benchmark_items([question], [CASE, FACT])


@pytest.mark.parametrize(
    "question",
    [
        trained(CASE, stem=CASE.stem[:93] + " What did she most likely have in her pockets when the first bee stung?"),
        trained(CASE, stem="Which of the following should be given first?"),
        trained(FACT, choices=("腎は右だけにある。", "膵は左だけにある。", "肺は腹にある。")),
        trained(FACT, stem="次のうち誤っているのはどれか。正しいのは一つではない。", choices=("甲", "乙")),
    ],
    ids=["another end", "same choices", "same stem", "all other"],
)
def test_a_different_question_is_allowed(question: Question) -> None:
    assert similarity(question, CASE if question.language == "en" else FACT) < 0.85
    require_no_benchmark_items([question], [CASE, FACT])


def test_many_are_counted_and_the_first_named() -> None:
    with pytest.raises(
        InputError, match=r"test questions among the training questions: 25: .*own 19 is exam 77 and 5 more; remove"
    ):
        require_no_benchmark_items([replace(trained(CASE), id=str(n)) for n in range(25)], [CASE])


def test_without_an_exam_everything_is_allowed() -> None:
    require_no_benchmark_items([CASE], [])


@pytest.mark.parametrize(
    ("benchmark", "language", "split", "exam", "found"),
    [
        ("medqa", "en", "train", "medqa", []),
        ("yakugakuqa", "ja", "train", "igakuqa", []),
        (
            "mmlu",
            "en",
            "dev",
            "mmlu",
            [
                ("clinical_knowledge-1", "college_medicine-153"),
                ("clinical_knowledge-5", "college_medicine-82"),
                ("college_medicine-1", "clinical_knowledge-253"),
                ("college_medicine-2", "clinical_knowledge-94"),
                ("college_medicine-5", "clinical_knowledge-57"),
            ],
        ),
    ],
)
def test_published_training_questions(
    shared: Path, benchmark: str, language: str, split: str, exam: str, found: list[tuple[str, str]]
) -> None:
    """Five of MMLU's 65 dev items are test items of another subject."""
    seen = find_overlaps(load(benchmark, language, shared, split), load(exam, language, shared))
    assert [(each.trained.id, each.item.id) for each in seen] == found


@pytest.mark.parametrize("language", ["ja", "en"])
def test_the_demo_trains_on_other_questions_than_its_exam(language: str) -> None:
    require_no_benchmark_items(load("demo", language, Path(), "train"), load("demo", language, Path()))
