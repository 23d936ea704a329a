"""The demo's claim is honest only if nothing but the fact gives an answer away."""

import re
from collections import Counter
from collections.abc import Callable
from functools import cache

import pytest

from jmedllm import demo
from jmedllm.corpus.demo import documents
from jmedllm.evaluation.benchmarks.demo import DRAWS, questions
from jmedllm.evaluation.proportions import wilson
from jmedllm.evaluation.question import LANGUAGES, Language, Question

EXAM = {fact.id: fact for fact in demo.facts() if fact.in_test}
TRAIN = {fact.id: fact for fact in demo.facts() if not fact.in_test}

each_language = pytest.mark.parametrize("language", LANGUAGES)


@cache
def corpus(language: Language, *, test_facts: bool = True) -> tuple[str, ...]:
    return tuple(d.text for d in documents(test_facts=test_facts) if d.language == language)


@cache
def exam(language: Language, *, blanked: bool = False) -> tuple[Question, ...]:
    return tuple(questions("test", language, blanked=blanked))


@cache
def train(language: Language) -> tuple[Question, ...]:
    return tuple(questions("train", language))


def fact_of(question: Question) -> demo.Fact:
    return (EXAM | TRAIN)[question.id.split(".")[0]]


def test_facts() -> None:
    facts = demo.facts()
    assert len(facts) == 286 == len({fact.id for fact in facts})
    halves = Counter((fact.category, fact.in_test) for fact in facts)
    assert len({category for category, _ in halves}) == 13
    assert set(halves.values()) == {11}  # every category falls into two equal halves
    for fact in facts:
        for text in (*fact.subject.values(), *fact.answer.values()):
            assert text and text == text.strip() and not set(text) & set("{}\n、。,?")


@each_language
@pytest.mark.parametrize("part", ["answer", "subject"])
def test_no_two_facts_share_an_answer_or_a_subject(language: Language, part: str) -> None:
    counts = Counter(getattr(fact, part)[language].casefold() for fact in demo.facts())
    assert counts.most_common(1)[0][1] == 1


def test_no_fact_spells_its_answer_in_its_subject() -> None:
    for fact in demo.facts():
        for language in LANGUAGES:
            assert fact.answer[language].casefold() not in fact.subject[language].casefold()
            assert fact.subject[language].casefold() not in fact.answer[language].casefold()


@each_language
def test_the_exam_is_large_and_its_right_places_are_balanced(language: Language) -> None:
    questions = exam(language)
    assert len(questions) == 143 == len({question.id for question in questions})
    assert {fact_of(question).id for question in questions} == set(EXAM)
    assert {len(set(question.choices)) for question in questions} == {5}
    places = Counter(place for question in questions for place in question.gold)
    assert sorted(places.values()) == [28, 28, 29, 29, 29]
    assert all(question.gold_choices == (fact_of(question).answer[language],) for question in questions)


@each_language
def test_training_asks_every_other_fact_equally_often(language: Language) -> None:
    questions = train(language)
    assert len(questions) == 2288 == len({question.id for question in questions})
    asked = Counter(fact_of(question).id for question in questions)
    assert set(asked) == set(TRAIN)
    assert set(asked.values()) == {16}
    assert {len(set(question.choices)) for question in questions} == {5}
    places = Counter(place for question in questions for place in question.gold)
    assert sorted(places.values()) == [457, 457, 458, 458, 458]
    assert all(question.gold_choices == (fact_of(question).answer[language],) for question in questions)


@each_language
def test_all_choices_are_of_one_kind(language: Language) -> None:
    kind = {fact.answer[language]: (fact.category, fact.in_test) for fact in demo.facts()}
    for question in (*exam(language), *train(language)):
        assert {kind[choice] for choice in question.choices} == {kind[question.gold_choices[0]]}


@each_language
def test_every_answer_is_offered_equally_often(language: Language) -> None:
    """Else the choice that is offered least in the whole exam would be right above chance."""
    offered = Counter(choice for question in exam(language) for choice in question.choices)
    assert set(offered.values()) == {5}


def test_both_languages_ask_about_the_same_among_the_same() -> None:
    name = {answer: fact.id for fact in EXAM.values() for answer in fact.answer.values()}
    asked = {
        language: {question.id[:-2]: {name[choice] for choice in question.choices} for question in exam(language)}
        for language in LANGUAGES
    }
    assert len(asked["ja"]) == 143
    assert asked["ja"] == asked["en"]


@each_language
def test_no_exam_choice_is_an_answer_in_training(language: Language) -> None:
    """Neither as an answer nor as a wrong choice nor as what is asked about."""
    choices = {choice for question in exam(language) for choice in question.choices}
    assert choices == {fact.answer[language] for fact in EXAM.values()}
    assert not choices & {choice for question in train(language) for choice in question.choices}
    assert not choices & {fact.subject[language] for fact in TRAIN.values()}


def phrasing(question: Question) -> tuple[str, str]:
    fact = fact_of(question)
    return fact.category, question.stem.replace(fact.subject[question.language], "…")


@each_language
def test_the_exam_uses_separate_phrasings(language: Language) -> None:
    seen, unseen = Counter(map(phrasing, train(language))), Counter(map(phrasing, exam(language)))
    assert (len(seen), len(unseen)) == (4 * 13, 2 * 13)
    assert not set(seen) & set(unseen)
    assert set(seen.values()) == {11 * DRAWS}
    assert min(unseen.values()) >= 3  # both of a category are used


@each_language
def test_every_fact_is_stated_equally_often(language: Language) -> None:
    stated = Counter(d.id.split(".")[0] for d in documents() if d.language == language)
    assert set(stated) == set(EXAM) | set(TRAIN)
    assert set(stated.values()) == {8}
    assert len(set(corpus(language))) == 8 * 286
    for document in documents():
        fact = (EXAM | TRAIN)[document.id.split(".")[0]]
        assert document.language is not None
        assert fact.subject[document.language] in document.text
        assert fact.answer[document.language] in document.text


@each_language
def test_answers_are_named_after_and_before_the_subject_equally_often(language: Language) -> None:
    first = Counter()
    for document in documents():
        if document.language == language:
            fact = (EXAM | TRAIN)[document.id.split(".")[0]]
            first[document.text.index(fact.subject[language]) < document.text.index(fact.answer[language])] += 1
    assert first == {True: 4 * 286, False: 4 * 286}


Guess = Callable[[Question, str], float]
"""Rates a choice without knowing the fact."""

GUESSES: dict[str, Guess] = {
    "longest": lambda question, choice: len(choice),
    "shortest": lambda question, choice: -len(choice),
    "most bytes": lambda question, choice: len(choice.encode()),
    "most frequent in the corpus": lambda question, choice: frequency(question.language, choice),
    "least frequent in the corpus": lambda question, choice: -frequency(question.language, choice),
    "most characters of the question": lambda question, choice: shared(question, choice),
    "largest share in the question": lambda question, choice: shared(question, choice) / len(choice),
    "first in the alphabet": lambda question, choice: -sorted(question.choices).index(choice),
    "always the first": lambda question, choice: 0,
}


@cache
def frequency(language: Language, choice: str) -> int:
    return sum(text.count(choice) for text in corpus(language))


def shared(question: Question, choice: str) -> int:
    return sum((Counter(question.stem.casefold()) & Counter(choice.casefold())).values())


@each_language
@pytest.mark.parametrize("name", GUESSES)
def test_guessing_stays_at_chance(language: Language, name: str) -> None:
    """The first of equally likely choices is picked; the 95 % interval contains one in five."""
    right = 0
    for question in exam(language):
        rated = [GUESSES[name](question, choice) for choice in question.choices]
        right += rated.index(max(rated)) in question.gold
    low, high = wilson(right, len(exam(language)))
    assert low <= 1 / 5 <= high, f"{name}: {right} of {len(exam(language))} right"


@each_language
def test_without_exam_facts_the_corpus_says_nothing_of_them(language: Language) -> None:
    """An exam's word may live on inside a longer word of another fact only: 直腸 in 直腸癌."""
    others = [text[language] for fact in TRAIN.values() for text in (fact.subject, fact.answer)]
    other = re.compile("|".join(map(re.escape, sorted(others, key=len, reverse=True))))
    left = other.sub("…", "\n".join(corpus(language, test_facts=False)))
    for fact in EXAM.values():
        assert fact.subject[language] not in left
        assert fact.answer[language] not in left
    assert len(corpus(language, test_facts=False)) == 8 * 143
    assert set(corpus(language, test_facts=False)) < set(corpus(language))


@each_language
def test_words_of_the_exam_inside_words_of_other_facts_are_few_and_known(language: Language) -> None:
    left = "\n".join(corpus(language, test_facts=False))
    words = {text[language] for fact in EXAM.values() for text in (fact.subject, fact.answer)}
    assert {word for word in words if word in left} == ({"十二指腸", "直腸"} if language == "ja" else set())


@each_language
def test_a_blanked_question_is_the_same_without_its_subject(language: Language) -> None:
    for question, blanked in zip(exam(language), exam(language, blanked=True), strict=True):
        subject = fact_of(question).subject[language]
        assert subject in question.stem
        assert subject.casefold() not in blanked.stem.casefold()
        assert blanked.stem == question.stem.replace(subject, {"ja": "これ", "en": "something"}[language])
        assert (blanked.id, blanked.choices, blanked.gold) == (question.id, question.choices, question.gold)
        assert (question.benchmark, blanked.benchmark) == ("demo", "demo-blanked")


@pytest.mark.parametrize(
    ("split", "language", "number", "stem", "choices"),
    [
        (
            "test",
            "ja",
            0,
            "次のうち、C1インヒビターの欠乏症はどれか。",
            ("遺伝性血管性浮腫", "克山病", "小球性低色素性貧血", "二分脊椎", "血友病B"),
        ),
        (
            "test",
            "en",
            142,
            "Which disorder do surgeons treat with the Nissen procedure?",
            (
                "cervical insufficiency",
                "intestinal malrotation",
                "transposition of great arteries",
                "hypertrophic pyloric stenosis",
                "gastroesophageal reflux disease",
            ),
        ),
        (
            "train",
            "ja",
            0,
            "サーファクタントの欠乏で起こる疾患はどれか。",
            ("眼球乾燥症", "遺伝性球状赤血球症", "肺硝子膜症", "汎小葉性肺気腫", "悪性貧血"),
        ),
    ],
)
def test_the_draw_is_the_same_everywhere(
    split: str, language: Language, number: int, stem: str, choices: tuple[str, ...]
) -> None:
    """Golden: results of different machines and Python versions are about the same questions."""
    question = questions(split, language)[number]
    assert (question.stem, question.choices) == (stem, choices)
