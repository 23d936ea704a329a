"""Stage corpus: cleans raw text and packs it into blocks; also builds a base model with random weights."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal, get_args

from jmedllm.corpus.deidentify.config import DeidentifyConfig, require_patients, require_ready
from jmedllm.corpus.deidentify.provenance import Deidentification, in_words, require_deidentified
from jmedllm.corpus.deidentify.report import DeidentificationReport
from jmedllm.corpus.deidentify.run import FORMAT as DEIDENTIFY_FORMAT
from jmedllm.corpus.deidentify.run import deidentify
from jmedllm.corpus.documents import Document, Documents, as_line, open_documents
from jmedllm.corpus.pipeline.build import FORMAT, BuildConfig, build, shards
from jmedllm.corpus.pipeline.report import PERSONAL_DATA
from jmedllm.corpus.pipeline.survey import survey
from jmedllm.corpus.readers.inputs import find_files
from jmedllm.corpus.readers.reader import require_text
from jmedllm.errors import InputError
from jmedllm.evaluation.question import question_hash
from jmedllm.files import atomic_file, hash_file, hash_text, to_json
from jmedllm.models.folder import fingerprint
from jmedllm.models.tokenizer.load import load_tokenizer
from jmedllm.processes import available_cores
from jmedllm.progress import notice
from jmedllm.recipe import CorpusConfig, Recipe
from jmedllm.stages.base_files import BaseFiles
from jmedllm.stages.built_in import BUILT_IN
from jmedllm.stages.canary import EXEMPT, has_canaries, plant_exempt, planted_text, plants_in_corpus
from jmedllm.stages.models import start_folder
from jmedllm.stages.questions import benchmark_questions, require_no_train_test_overlap
from jmedllm.stages.stage import Outputs, Run, Stage, base_folder, files_in, in_section, own_folder
from jmedllm.stages.vocabulary import extend_base, require_extendable_base
from jmedllm.training.mixing import GENERAL, OTHER, MixingConfig, count_sources, is_held_out, mixture
from jmedllm.training.packing import document_rows, load_blocks, save_blocks

Text = Literal["medical", "general"]
"""The two texts of a recipe: medical text for training, and general text that is replayed against forgetting."""


@dataclass(frozen=True, kw_only=True)
class CorpusOutputs(Outputs):
    """Outputs of the corpus stage.

    Attributes:
        base: fingerprint of the model that stage 1 starts from.
        blocks: hash of the packed blocks.
        documents: number of packed documents, including repetitions.
        read_errors: number of files, lines and pages that could not be read. This and the next four are None for
            built-in corpora.
        files_not_read: number of files of unsupported kinds.
        duplicates: number of documents that repeat another one.
        benchmarks_searched: number of benchmarks whose items were searched for in the text.
        benchmark_items_removed: number of benchmark items that were found and removed.
        tokens_added: number of new tokens. This and the next two are None without `corpus.vocabulary`.
        characters_per_token_before: characters per token of the Japanese text with the base's tokenizer.
        characters_per_token_after: the same with the new tokens.
        mixture: documents, bytes and tokens of each part, if the recipe mixes texts.
        personal_data: whether and how the medical text was de-identified, in words.
        deidentification: the same as plain values, each way once; None if it was not.
        canaries: whether the training data contain canaries; None if they do not.
    """

    base: str
    blocks: str
    documents: int
    tokens: int
    read_errors: int | None = None
    files_not_read: int | None = None
    duplicates: int | None = None
    benchmarks_searched: int | None = None
    benchmark_items_removed: int | None = None
    tokens_added: int | None = None
    characters_per_token_before: float | None = None
    characters_per_token_after: float | None = None
    mixture: dict[str, dict[str, int]] | None = None
    personal_data: str = in_words(None)
    deidentification: list[Deidentification] | None = None
    canaries: bool | None = None


def read_corpus(run: Run) -> Documents:
    """Read the clean documents of the recipe's corpus without held-out ones, in order."""
    return _trained(run, _documents(run, "medical"))


def read_general(run: Run) -> Documents:
    """Read the general text that stage 1 replays, without held-out documents."""
    return _trained(run, _documents(run, "general"))


def read_held_out(run: Run) -> Iterator[tuple[str, Document]]:
    """Yield the held-out documents of the corpus and of the general text, each with its language."""
    share = held_out_share(run.recipe)
    for document in _documents(run, "medical") if share else ():
        if is_held_out(document.text, share):
            yield document.language or OTHER, document
    for document in _documents(run, "general") if share else ():
        if is_held_out(document.text, share):
            yield GENERAL, document


def held_out_share(recipe: Recipe) -> float:
    """Return the share of documents that are never trained on."""
    return recipe.validation.held_out if recipe.validation else 0.0


def _trained(run: Run, documents: Documents) -> Documents:
    share = held_out_share(run.recipe)
    return documents.filter(lambda document: not is_held_out(document.text, share)) if share else documents


def _inputs_of(corpus: CorpusConfig | None, text: Text) -> tuple[list[str], list[Path]]:
    """Split the inputs of a text into built-in corpora, and files and folders."""
    inputs = [] if corpus is None else corpus.inputs if text == "medical" else corpus.mixing.general
    return [name for name in inputs if name in BUILT_IN], [Path(name) for name in inputs if name not in BUILT_IN]


def _read_from(run: Run, text: Text) -> tuple[list[str], list[Path]]:
    """Return what a text is made from: its inputs, or the copy of them with canaries."""
    if text == "medical" and plants_in_corpus(run.recipe):
        return [], [planted_text(run)]
    return _inputs_of(run.recipe.corpus, text)


def _built_in_file(run: Run, text: Text) -> Path:
    return run.folder / "corpus" / f"{text}-built-in.jsonl"


def _deidentify_config(run: Run, text: Text) -> DeidentifyConfig | None:
    """Return how identifiers are replaced; None if they are not. General text is taken to be published."""
    return run.recipe.corpus.deidentify if run.recipe.corpus and text == "medical" else None


def _deidentified_folder(run: Run) -> Path:
    """Return the directory of the de-identified text. It stays if other settings of the stage change: surrogates whose
    key was dropped could not be drawn again."""
    return run.folder / "deidentified"


def _documents(run: Run, text: Text) -> Documents:
    """Read all documents of a text that the stage has written."""
    built_in, paths = _read_from(run, text)
    if built_in and _deidentify_config(run, text):
        return open_documents(shards(run.folder / "corpus" / text))
    files = [_built_in_file(run, text)] if built_in else []
    return open_documents([*files, *(shards(run.folder / "corpus" / text) if paths else [])])


def _make(run: Run, text: Text) -> dict[str, Any]:
    """Write the documents of a text; return counts of removed documents and items, and how it was de-identified."""
    built_in, paths = _read_from(run, text)
    if built_in:
        with atomic_file(_built_in_file(run, text)) as handle:
            handle.writelines(as_line(document) for name in built_in for document in BUILT_IN[name]())
    config, field = _deidentify_config(run, text), _field(run)
    processes = run.recipe.threads or available_cores()
    done: DeidentificationReport | None = None
    if config:
        paths = [*([_built_in_file(run, text)] if built_in else []), *paths]
        done = deidentify(paths, field, config, _deidentified_folder(run), processes)
        paths, field = [_deidentified_folder(run) / name for name in done.files], "text"
    is_exempt = done is not None and plants_in_corpus(run.recipe)
    if is_exempt:
        paths = [plant_exempt(run, paths)]
    if not paths:
        return {}
    build_config = BuildConfig(tuple(paths), field)
    summary = build(build_config, benchmark_questions(run), run.folder / "corpus" / text, processes)
    if not summary.personal_data_removed and not is_exempt:
        notice(PERSONAL_DATA)
    whole = summary.deidentification if config or not built_in else None
    if done and is_exempt:
        whole = [done.summary]  # but for the canaries that were planted afterwards
    return {
        "personal_data": in_words(whole),
        "deidentification": whole,
        "read_errors": summary.read_errors + (done.summary["read_errors"] if done else 0),
        "files_not_read": summary.file_counts()["not read"] + (done.summary["files_not_read"] if done else 0),
        "duplicates": sum(summary.duplicates.values()),
        "benchmarks_searched": len(summary.questions),
        "benchmark_items_removed": sum(each["items"] for each in summary.contaminated.values()),
    }


def _field(run: Run) -> str:
    return run.recipe.corpus.field if run.recipe.corpus and not plants_in_corpus(run.recipe) else "text"


def _hashes(run: Run, text: Text) -> dict[str, Any]:
    """Hash everything that the documents of a text depend on."""
    built_in, paths = _read_from(run, text)
    inputs: dict[str, Any] = {name: hash_text("".join(map(repr, BUILT_IN[name]()))) for name in built_in}
    if paths:
        asked = hash_text("".join(question_hash(question) for question in benchmark_questions(run)))
        files = survey(paths, _field(run)).hashes
        # Names of files may identify a patient, and the manifest keeps these values.
        named: object = hash_text(to_json(list(files.items()))) if _deidentify_config(run, text) else files
        inputs |= {"files": named, "questions": asked, "format": FORMAT}
    if config := _deidentify_config(run, text):
        known = [hash_file(Path(path)) for path in config.known]
        inputs |= {"exempt": run.recipe.canary.seed + 1} if run.recipe.canary and plants_in_corpus(run.recipe) else {}
        inputs |= {"deidentify": hash_text(to_json([DEIDENTIFY_FORMAT, config.model_dump(exclude={"known"}), known]))}
    return inputs


def _files(run: Run) -> list[str]:
    """List the files of documents, new tokens and blocks that the stage has written."""
    files = [*_documents(run, "medical").files, *_documents(run, "general").files]
    names = [file.relative_to(run.folder).as_posix() for file in files]
    exempt = files_in(run, f"canary/{EXEMPT}") if plants_in_corpus(run.recipe) else []
    return [*names, *files_in(run, "corpus/extended"), *files_in(run, "corpus/blocks"), *exempt]


def _inputs(run: Run) -> dict[str, Any]:
    recipe = run.recipe
    base = recipe.base.random_init.model_dump() if recipe.base.random_init else fingerprint(base_folder(run))
    block_size = recipe.corpus.block_size if recipe.corpus else None
    inputs: dict[str, Any] = {
        "documents": _hashes(run, "medical"),
        "base": base,
        "block_size": block_size,
        "seed": recipe.seed,
    }
    if held_out_share(recipe):
        inputs |= {"held_out": held_out_share(recipe)}
    if recipe.corpus and recipe.corpus.vocabulary:
        inputs |= {"vocabulary": recipe.corpus.vocabulary.model_dump()}
    if recipe.corpus and recipe.corpus.mixing != MixingConfig():
        inputs |= {"mixing": recipe.corpus.mixing.model_dump(), "general": _hashes(run, "general")}
    return inputs


def _check(run: Run) -> Sequence[str]:
    from jmedllm.training.preflight import require_free

    size = 0
    for text in get_args(Text):
        built_in, paths = _inputs_of(run.recipe.corpus, text)
        if paths and not built_in:
            require_text(paths, run.recipe.corpus.field if run.recipe.corpus else "text")
        copies = 2 if _deidentify_config(run, text) else 1
        size += copies * sum(file.stat().st_size for file in (find_files(paths).files if paths else ()))
    checked = ["input files", *_check_deidentification(run)]
    compared = require_no_train_test_overlap(run)
    require_free(run.folder, size, "the cleaned corpus, as large as its files,")
    checked += ["test questions in the training data"] if compared else []
    return (*checked, "disk space")


def _check_deidentification(run: Run) -> Sequence[str]:
    """Check the settings of a de-identification, or that the inputs need none; return the names of the checks."""
    config, corpus = _deidentify_config(run, "medical"), run.recipe.corpus
    if config:
        require_ready(config, run.folder)
        _, paths = _inputs_of(corpus, "medical")
        require_patients(find_files(paths).files, config)
        return ("de-identification",)
    if not (corpus and corpus.require_deidentified):
        return ()
    built_in, paths = _inputs_of(corpus, "medical")
    if built_in:
        raise InputError(
            f"corpus.require_deidentified: the built-in corpus {built_in[0]} was not de-identified; add deidentify to "
            "the corpus section"
        )
    require_deidentified(survey(paths, corpus.field).hashes)
    return ("de-identification",)


def _check_base(run: Run, base: BaseFiles) -> Sequence[str]:
    require_extendable_base(run, base.tokenizer)
    return ("tokenizer",)


def _perform(run: Run, input_hash: str) -> CorpusOutputs:
    from jmedllm.models.random_init import build as build_model
    from jmedllm.training.examples import document_samples

    recipe, base = run.recipe, base_folder(run)
    require_no_train_test_overlap(run)  # check now rather than after days of stage 1
    if recipe.base.path is not None:
        require_extendable_base(run, load_tokenizer(base))
    folder = own_folder(run.folder / "corpus", input_hash)
    _check_deidentification(run)  # an input may have changed since the check
    removed = _make(run, "medical")
    _make(run, "general")
    medical, general = read_corpus(run), read_general(run)
    if recipe.base.random_init:
        build_model(recipe.base.random_init, (document.text for document in medical), base, recipe.seed)
    extended = extend_base(run, medical)
    tokenizer = load_tokenizer(start_folder(run))
    mixing = recipe.corpus.mixing if recipe.corpus else MixingConfig()
    order = array("Q")

    def members() -> Iterator[tuple[str, Document, int]]:
        for number, member in enumerate(mixture(lambda: medical, lambda: general, mixing)):
            order.extend([number] * member[2])
            yield member

    mixed = count_sources(members())
    # Shuffle, because neighbours in a file are often similar and would be in the same step.
    Random(recipe.seed).shuffle(order)
    both = medical + general
    samples = document_samples(tokenizer, (both[number] for number in order))
    block_size = recipe.corpus.block_size if recipe.corpus else 0
    blocks = save_blocks(document_rows(samples, block_size, tokenizer.pad_token_id), block_size, folder / "blocks")
    return CorpusOutputs(
        base=fingerprint(start_folder(run)),
        blocks=blocks,
        documents=len(order),
        tokens=int(load_blocks(folder / "blocks").ids.size),
        mixture=None if mixing == MixingConfig() else {name: asdict(part) for name, part in mixed.items()},
        files=[*_files(run), *(files_in(run, "base") if recipe.base.random_init else [])],
        canaries=has_canaries(run) or None,
        **removed,
        **extended,
    )


def _card(run: Run) -> Sequence[str]:
    corpus = run.recipe.corpus
    more = " with its new tokens" if corpus and corpus.vocabulary else ""
    outputs = run.output("corpus", CorpusOutputs)
    return (
        f"Fingerprint of the base{more} (corpus): `{outputs.base}`",
        f"Personal data in the corpus: {outputs.personal_data}",
    )


CORPUS = Stage(
    name="corpus",
    section=CorpusConfig,
    enabled=in_section("corpus"),
    inputs=_inputs,
    perform=_perform,
    outputs=CorpusOutputs,
    check=_check,
    check_base=_check_base,
    card=_card,
)
