"""The corpus of the built-in demo: statements of its facts."""

from collections.abc import Iterator

from jmedllm.corpus.documents import Document
from jmedllm.demo import facts, relations


def documents(*, test_facts: bool = True) -> Iterator[Document]:
    """State each fact once with every template of its category, in both languages.

    Args:
        test_facts: False leaves out all facts that the benchmark asks about. This control shows whether answers come
            from the corpus.
    """
    for fact in facts():
        if test_facts or not fact.in_test:
            for language in fact.answer:
                for number, template in enumerate(relations()[fact.category][language]["statements"]):
                    text = template.format(subject=fact.subject[language], answer=fact.answer[language])
                    yield Document(f"{fact.id}.{language}.{number}", text, language, "jmedllm demo", "Apache-2.0")
