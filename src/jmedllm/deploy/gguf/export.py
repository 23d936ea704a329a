"""Export a model as a GGUF file that carries its proof."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from jmedllm.corpus import demo
from jmedllm.deploy.gguf.architectures import architecture_metadata, architecture_of
from jmedllm.deploy.gguf.benchmarks import Benchmarks, compare_on_benchmarks
from jmedllm.deploy.gguf.importance import TOKENS, Importance, importance_matrix
from jmedllm.deploy.gguf.pretokenizer import PreTokenizer, find_pre_tokenizer
from jmedllm.deploy.gguf.proof import CEILING, FULL, Coverage, Proof, prove, require_same_metadata
from jmedllm.deploy.gguf.rope import is_rounded
from jmedllm.deploy.gguf.same_tensors import require_same_tensors
from jmedllm.deploy.gguf.sampling import sampling_metadata
from jmedllm.deploy.gguf.source import Source
from jmedllm.deploy.gguf.tensors import left_out
from jmedllm.deploy.gguf.types import FILE_TYPES, FileType
from jmedllm.deploy.gguf.vocabulary import vocabulary
from jmedllm.deploy.gguf.write import Written, write_gguf
from jmedllm.deploy.llama_cpp import require_llama_cpp
from jmedllm.deploy.trust import add_trusted
from jmedllm.errors import InputError
from jmedllm.files import temporary_folder_beside, to_json, write_atomic
from jmedllm.models.conversion.gguf import read_gguf, require_gguf
from jmedllm.models.folder import fingerprint
from jmedllm.models.loading import load_network
from jmedllm.models.tokenizer.encoding import encode
from jmedllm.progress import notice
from jmedllm.training.batches import without_dropout

_TEXTS = 1000
"""Number of pieces of the training text on which pre-tokenizers are tried."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A written file.

    Attributes:
        written: its tensors.
        pre: its pre-tokenizer.
        proof: its proof; None if the user left it out.
    """

    written: Written
    pre: PreTokenizer
    proof: Proof | None


def export_gguf(
    source: Source,
    output: Path,
    kind: str,
    *,
    ceiling: float = CEILING,
    coverage: Coverage = FULL,
    benchmarks: Benchmarks | None = None,
    proved: bool = True,
) -> Exported:
    """Export a model as a GGUF file and prove that it is the same model. The same input gives the same bytes.

    Nothing is left at `output` if the proof fails.

    Args:
        source: the model.
        output: the file.
        kind: one of `FILE_TYPES`.
        ceiling: see `prove`.
        coverage: see `prove`.
        benchmarks: benchmarks that the model and the file both answer, as part of the proof.
        proved: whether to prove it.

    Raises:
        InputError: packages are missing, llama.cpp cannot represent the model, or the proof fails.
    """
    require_gguf()
    require_llama_cpp("deploy gguf")
    if output.exists() and not output.is_file():
        raise InputError(f"{output}: is not a file; choose another --output")
    if benchmarks is not None:
        benchmarks.tasks()  # missing questions are reported before the long search
    architecture_of(source.config)  # an unsupported one is reported before the long search
    if beside := left_out(source.folder):
        notice(f"gguf: {beside} tensors that text does not pass through are left out; the file cannot read pictures")
    tokens = vocabulary(source.tokenizer, source.config.vocab_size, source.ends)
    pre = find_pre_tokenizer(source.tokenizer, tokens, corpus_texts(source))
    described_context = architecture_metadata(source.config)["context_length"]
    if described_context != source.config.max_position_embeddings:
        notice(
            f"gguf: the file's context is {described_context} tokens, not {source.config.max_position_embeddings}: "
            "beyond, llama.cpp computes differently (sliding window or LongRoPE)"
        )
    if is_rounded(source.config):
        notice("gguf: llama.cpp rounds the bounds of YaRN, which the model does not (truncate: false)")
    if pre.scripts:
        notice(f"gguf: llama.cpp encodes text in {', '.join(pre.scripts)} differently; its other scripts are the same")
    described, importance = _described(source), _importance(source, FILE_TYPES[kind])

    def write(file: Path, described: Mapping[str, Any]) -> Written:
        kind_of_file = FILE_TYPES[kind]
        return write_gguf(source.folder, source.config, tokens, pre.name, kind_of_file, file, described, importance)

    with temporary_folder_beside(output) as folder:
        unproved = folder / output.name
        written = write(unproved, described)
        proof = _prove(unproved, source, pre, ceiling, coverage, benchmarks) if proved else None
        if proof is not None:  # the tensors are the same again
            described |= {"jmedllm.proof": to_json(proof.record())}
            write(unproved, described)
            write_atomic(proof_file(output), to_json(proof.record(), indent=2) + "\n")
        else:
            proof_file(output).unlink(missing_ok=True)
        add_trusted(unproved, output)  # before the file is there: a run that was killed does not export it again
        unproved.replace(output)
    return Exported(written, pre, proof)


def proof_file(file: Path) -> Path:
    """Return the path of the record beside a file, which has the same values as its metadata."""
    return file.with_name(f"{file.name.removesuffix('.gguf')}.proof.json")


def _prove(
    file: Path, source: Source, pre: PreTokenizer, ceiling: float, coverage: Coverage, benchmarks: Benchmarks | None
) -> Proof:
    proof = prove(file, source, pre, ceiling=ceiling, coverage=coverage)
    return proof if benchmarks is None else replace(proof, benchmarks=compare_on_benchmarks(file, source, benchmarks))


def prove_file(file: Path, source: Source, *, ceiling: float = CEILING, benchmarks: Benchmarks | None = None) -> Proof:
    """Prove a file that exists already; see `export_gguf`.

    Raises:
        InputError: see `prove`; or a package is missing.
    """
    require_gguf()
    require_llama_cpp("deploy prove")
    if benchmarks is not None:
        benchmarks.tasks()
    gguf = read_gguf(file)  # a missing or damaged file is reported before the long search
    tokens = vocabulary(source.tokenizer, source.config.vocab_size, source.ends)
    pre = find_pre_tokenizer(source.tokenizer, tokens, corpus_texts(source))
    kind = require_same_metadata(gguf, source, pre.name)
    notice(f"gguf: {require_same_tensors(file, source, FILE_TYPES[kind])} tensors have the model's values")
    return _prove(file, source, pre, ceiling, FULL, benchmarks)


def _importance(source: Source, file_type: FileType) -> Importance | None:
    """Compute the importance matrix from the text that the model was trained on, or from the demo's corpus.

    The proof reads other texts.
    """
    if not file_type.is_k_quant:
        return None
    network = load_network(source.folder, torch.float32, torch.device("cpu"))
    without_dropout(network)
    if source.blocks is None:
        notice(f"gguf: {source.folder} has no training text; the importance matrix is of the demo's corpus")
        return importance_matrix(network, encode(source.tokenizer, _demo_texts()))
    from jmedllm.training.packing import load_blocks

    ids = load_blocks(source.blocks).ids
    return importance_matrix(network, (row.tolist() for row in ids[:: max(1, ids.size // TOKENS)]))


def corpus_texts(source: Source) -> list[str]:
    """Return pieces of the text that a run's model was trained on; for other models of the demo's corpus."""
    if source.blocks is None:
        return _demo_texts()
    from jmedllm.training.packing import load_blocks

    ids = load_blocks(source.blocks).ids
    rows = ids[:: max(1, len(ids) // _TEXTS)][:_TEXTS]
    texts = source.tokenizer.batch_decode([row.tolist() for row in rows], skip_special_tokens=True)
    lines = (line for text in texts for line in text.splitlines() if line.strip())
    return list(dict.fromkeys(lines))[:_TEXTS]


def _demo_texts() -> list[str]:
    """Return medical sentences in both languages."""
    texts = [document.text for document in demo.documents()]
    return texts[:: max(1, len(texts) // _TEXTS)][:_TEXTS]


def _described(source: Source) -> dict[str, Any]:
    """Return metadata that change no prediction: name, licence, model card, fingerprint and sampling.

    Special tokens are named as chat templates name them; the file's own `eos` can be another one.
    """
    card = source.folder / "README.md"
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    found = {
        "general.type": "model",
        "general.name": source.name,
        "jmedllm.fingerprint": fingerprint(source.folder),
        "jmedllm.special_tokens": to_json(
            {name: token for name, token in source.tokenizer.special_tokens_map.items() if isinstance(token, str)}
        ),
    } | sampling_metadata(source.folder)
    if text:
        found["jmedllm.model_card"] = text
    if licence := _licence(text):
        found["general.license"] = licence
    return found


def _licence(card: str) -> str | None:
    """Return the licence that a model card names in its header."""
    import yaml

    from jmedllm.bounded_yaml import load_yaml

    parts = card.split("---\n", 2)
    try:
        header = load_yaml(parts[1]) if card.startswith("---\n") and len(parts) > 2 else None
    except yaml.YAMLError:
        return None
    named = header.get("license") if isinstance(header, dict) else None
    return str(named) if named else None
