"""The base and the data from which a run made its model, with their licences. They are not in the bundle."""

from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from jmedllm.bundle.component import Component
from jmedllm.bundle.licences import UNKNOWN
from jmedllm.bundle.model_card import licence_texts, stated_licence
from jmedllm.data.catalogue import SOURCES
from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks import BENCHMARKS
from jmedllm.evaluation.benchmarks.benchmark import Benchmark
from jmedllm.files import hash_file, read_jsonl
from jmedllm.manifest import Manifest
from jmedllm.models.folder import resolve

_ABSENT = "not in this bundle"


def training_data(run: Path, manifest: Manifest) -> tuple[Component, ...]:
    """Return the base and the data of a run, as its manifest records them."""
    stages = manifest["stages"]
    recipe = dict[str, Any](next((stage["recipe"] for stage in stages.values()), {}))
    files = [run / name for name in stages.get("corpus", {}).get("outputs", {}).get("files", ())]
    return (
        *_base(recipe.get("base") or {}),
        *(documents(file) for file in files if file.suffix == ".jsonl" and file.is_file()),
        *_examples(stages),
    )


def _base(settings: dict[str, Any]) -> Iterator[Component]:
    name = settings.get("path")
    if name is None:  # randomly initialized
        return
    try:
        folder = resolve(name, revision=settings.get("revision"))
    except InputError:  # no longer on this machine
        yield Component("machine-learning-model", name, settings.get("revision"), about=f"the base; {_ABSENT}")
        return
    yield Component(
        "machine-learning-model",
        name,
        settings.get("revision"),
        stated_licence(folder),
        hash_file(folder / "config.json"),
        about=f"the base, with the checksum of its config.json; {_ABSENT}",
        texts=licence_texts(folder),
    )


def documents(file: Path, about: str = f"documents of the training text; {_ABSENT}") -> Component:
    """Return a file of documents with the licences that they state."""
    licences, count = set[str](), 0
    for _, row in read_jsonl(file):
        licences.add(str(row.get("license") or UNKNOWN))
        count += 1
    stated = "; ".join(sorted(licences)) or None
    return Component("data", file.stem, None, stated, hash_file(file), about=f"{count:,} {about}")


def _examples(stages: dict[str, Any]) -> Iterator[Component]:
    settings = [stage.get("inputs", {}).get("settings", {}) for stage in stages.values()]
    named = [question for each in settings for question in each.get("questions", ())]
    for question in named:
        for language in question["languages"]:
            yield _questions(question["benchmark"], language, question["split"])
    for name in (name for each in settings for name in each.get("instructions", ())):
        file = Path(name)
        digest = hash_file(file) if file.is_file() else None
        yield Component("data", file.name, None, None, digest, about=f"instructions; {_ABSENT}")


def _questions(benchmark: str, language: str, split: str) -> Component:
    about = f"{split} questions; {_ABSENT}"
    known = BENCHMARKS.get(benchmark)
    if known is None:  # a file of the user
        return Component("data", benchmark, about=about)
    name = f"{benchmark} {language}"
    source = next((source for each, source in known.sources.items() if each == language), None)
    if source is None:
        checksum = _built_in(known, language, split)
        return Component("data", name, None, known.licence, checksum, about=f"{split} questions, part of jmedllm")
    found = SOURCES.get(source)
    if found is None:  # a benchmark of another package
        return Component("data", name, None, known.licence, about=about)
    listed = [(file.path, file.sha256) for file in found.files if file.sha256]
    files = tuple(Component("file", path, None, found.licence, digest) for path, digest in listed)
    digest = _digest(f"{digest}  {path}\n" for path, digest in listed) if listed else None
    return Component("data", name, found.revision, found.licence, digest, about=about, parts=files)


def _built_in(benchmark: Benchmark, language: str, split: str) -> str:
    """Return the checksum of questions that need no data directory."""
    named = next(each for each in benchmark.sources if each == language)
    asked = benchmark.load(Path(), named, split)
    return _digest(f"{each.id}\t{each.stem}\t{each.choices}\t{sorted(each.gold)}\n" for each in asked)


def _digest(lines: Iterable[str]) -> str:
    return sha256("".join(lines).encode()).hexdigest()
