"""The stages of a run: what each depends on, and how it is done with the other rooms' parts."""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from jmedllm import demo
from jmedllm.corpus.pack import Blocks, Sample, load_blocks, pack_documents, pack_examples, save_blocks
from jmedllm.corpus.read import Document, read_documents
from jmedllm.errors import InputError
from jmedllm.exam.benchmarks import load
from jmedllm.exam.examine import examine, papers, questions_hash
from jmedllm.exam.prompts.asking import ask, prepare
from jmedllm.exam.prompts.render import answer_text
from jmedllm.exam.question import Language, Question
from jmedllm.exam.sitting import Paper, Sitting
from jmedllm.files import hash_text, to_json, write_atomic
from jmedllm.models.encoding import Tokenizer, chat_text
from jmedllm.models.folder import fingerprint, resolve
from jmedllm.recipe import Mpeft, Recipe, Sat
from jmedllm.run import Run, Step, own_folder

BUILT_IN_CORPORA = {
    "demo": lambda: demo.documents(),
    "demo-without-exam-facts": lambda: demo.documents(exam_facts=False),
}


def _documents(recipe: Recipe) -> list[Document]:
    """All documents of the corpus section.

    Raises:
        InputError: an input is missing or unreadable, or none holds any text.
    """
    assert recipe.corpus is not None
    found: list[Document] = []
    for name in recipe.corpus.inputs:
        source = BUILT_IN_CORPORA.get(name)
        found += source() if source else read_documents(Path(name))
    documents = [document for document in found if document.text.strip()]
    if not documents:
        raise InputError(f"corpus {', '.join(recipe.corpus.inputs)}: no text in it; give files that hold text")
    return documents


def _base(run: Run) -> Path:
    """Directory of the model to adapt; a model from scratch is built by the corpus stage."""
    base = run.recipe.base
    if base.path is None:
        return run.folder / "base"
    return resolve(base.path, revision=base.revision)


def _model(run: Run, sat: Sat) -> Path:
    folders = {"base": _base(run), "mfpt": run.folder / "mfpt" / "model", "mpeft": run.folder / "merge" / "model"}
    return folders[sat]


def _tuned_base(run: Run) -> Path:
    """What stage 2 starts from."""
    return _model(run, "mfpt" if run.recipe.mfpt else "base")
