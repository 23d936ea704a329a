"""The files with which a model is deployed: one for each type, each with its proof."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator, model_validator

from jmedllm.deploy.gguf.types import FILE_TYPES
from jmedllm.errors import InputError, unknown
from jmedllm.evaluation.evaluate import require_benchmark, split_language
from jmedllm.files import hash_file
from jmedllm.settings import Settings

BITS: Mapping[str, float] = {
    "f32": 32, "f16": 16, "bf16": 16, "q8_0": 8.5, "q6_k": 6.6, "q5_k_m": 5.7, "q4_k_m": 4.9,
}  # fmt: skip
"""Bits of a weight by the type of the file; matrices that fall back to another format have more."""

if TYPE_CHECKING:
    from jmedllm.deploy.gguf.benchmarks import Benchmarks
    from jmedllm.deploy.gguf.source import Source


class DeployConfig(Settings):
    """Files to export from a run's last model."""

    types: list[str] = Field(["f16"], min_length=1, description=f"number formats: {', '.join(FILE_TYPES)}")
    accept_divergence: float = Field(0.1, ge=0, description="largest KL divergence of types below q8_0, in nats")

    benchmarks: list[str] = Field(
        [], description="benchmarks that the model and each file answer, as part of the proof"
    )
    modelfile: bool = Field(False, description="write a Modelfile for Ollama beside each file")
    bundle: bool = Field(False, description="pack the first type for a machine without a network")
    wheels: str | None = Field(None, description="directory of wheels for the bundle, instead of a package index")

    @field_validator("types")
    @classmethod
    def _known(cls, types: list[str]) -> list[str]:
        for name in types:
            if name not in FILE_TYPES:
                raise ValueError(str(unknown("type", name, FILE_TYPES)))
        if len(set(types)) < len(types):
            raise ValueError("names a type twice; name each once")
        return types

    @field_validator("benchmarks")
    @classmethod
    def _known_benchmarks(cls, names: list[str]) -> list[str]:
        for name in names:
            try:
                require_benchmark(split_language(name)[0])
            except InputError as error:
                raise ValueError(str(error)) from None
        return names

    @model_validator(mode="after")
    def _wheels_of_a_bundle(self) -> "DeployConfig":
        if self.wheels is not None and not self.bundle:
            raise ValueError("wheels are for a bundle; set bundle: true, or leave wheels out")
        return self


@dataclass(frozen=True, slots=True)
class Delivered:
    """An exported file.

    Attributes:
        file: its path.
        type: one of `FILE_TYPES`.
        bytes: its size.
        sha256: SHA-256 of its content.
        limit: KL divergence that it had to stay below, in nats per token.
        proof: record of its proof, see `deploy.gguf.proof.Proof`.
    """

    file: Path
    type: str
    bytes: int
    sha256: str
    limit: float
    proof: dict[str, Any]


def deliver(
    source: "Source", folder: Path, name: str, config: DeployConfig, benchmarks: "Benchmarks | None", today: str
) -> Iterator[Delivered]:
    """Export a model in each type of the settings, and remove files of other types.

    A file that exists is complete and proved, because an export replaces it at its end.

    Args:
        source: the model.
        folder: directory of files that were exported from this model with the same settings, apart from the types.
        name: beginning of the names of the files.
        config: settings.
        benchmarks: benchmarks that the model and each file answer.
        today: date as YYYY-MM-DD for the Modelfiles of templates that write it.

    Raises:
        InputError: see `export_gguf` and `write_modelfile`.
    """
    from jmedllm.deploy.gguf.export import export_gguf
    from jmedllm.deploy.ollama.modelfile import write_modelfile

    files = {kind: folder / f"{name}-{kind}.gguf" for kind in config.types}
    kept = tuple(f"{file.stem}." for file in files.values())
    for other in folder.glob("*.*"):
        if other.is_file() and not other.name.startswith(kept):
            other.unlink()
    for kind, file in files.items():
        if not file.exists():
            export_gguf(source, file, kind, ceiling=config.accept_divergence, benchmarks=benchmarks)
        if config.modelfile:
            write_modelfile(file, file.with_suffix(".Modelfile"), today=today)
        yield _delivered(file, kind, config)


def _delivered(file: Path, kind: str, config: DeployConfig) -> Delivered:
    from jmedllm.deploy.gguf.proof import LIMITS
    from jmedllm.models.conversion.gguf import read_gguf

    limit = LIMITS[kind].kl if kind in LIMITS else config.accept_divergence
    proof = json.loads(read_gguf(file).metadata["jmedllm.proof"])
    return Delivered(file, kind, file.stat().st_size, hash_file(file), limit, proof)


def delivery_bytes(parameters: int, types: Iterable[str]) -> int:
    """Estimate the disk space that exports need, with the float32 file that is removed after the proof.

    Args:
        parameters: number of parameters of the model.
        types: types of the files.
    """
    bits = [BITS[kind] for kind in types]
    # A file is written twice before the first copy is replaced: the second has the proof in its metadata.
    return int(parameters * (sum(bits) + max(bits) + BITS["f32"]) / 8)
