"""The schema of a recipe, which combines the settings of all components."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from jmedllm.canary.config import CanaryConfig
from jmedllm.corpus.deidentify.config import DeidentifyConfig
from jmedllm.deploy.delivery import DeployConfig
from jmedllm.deploy.merge import MergeConfig
from jmedllm.errors import InputError, unknown
from jmedllm.evaluation.benchmarks import custom
from jmedllm.evaluation.benchmarks.columns import require_fields
from jmedllm.evaluation.benchmarks.file_formats import is_custom_file
from jmedllm.evaluation.evaluate import EvalConfig, require_benchmark, require_known, split_language
from jmedllm.evaluation.exam_years import parse_day
from jmedllm.evaluation.prompts.format import PromptConfig
from jmedllm.evaluation.selection import SELECTIONS
from jmedllm.files import hash_text, to_json
from jmedllm.models.folder import Quantization
from jmedllm.models.random_init import RandomInit
from jmedllm.models.tokenizer.extend import Vocabulary
from jmedllm.precision import DeviceName, PrecisionName
from jmedllm.settings import Settings
from jmedllm.training.config import TrainingConfig, ValidationConfig, clash
from jmedllm.training.examples import ExcessLength
from jmedllm.training.instructions import INSTRUCTION_FIELDS
from jmedllm.training.lora import AdapterConfig
from jmedllm.training.mixing import MixingConfig
from jmedllm.training.turns import Reasoning

Weight = Annotated[float, Field(ge=0)]


@contextmanager
def _validation() -> Iterator[None]:
    """Convert an `InputError` into an error that pydantic reports with its place in the recipe."""
    try:
        yield
    except InputError as error:
        raise ValueError(str(error)) from None


class BaseConfig(Settings):
    """The model to adapt: a directory or hub id, or a randomly initialized model."""

    path: str | None = Field(None, description="directory, or id in the local Hugging Face cache")
    revision: str | None = None
    ignore_adapter: bool = Field(False, description="use the weights without the adapter in the same folder")
    dequantize: bool = Field(False, description="load weights that are stored quantized in bfloat16")
    released: str | None = Field(None, description="day of its release; reports name the exams that came later")
    random_init: RandomInit | None = None

    @field_validator("released", mode="before")
    @classmethod
    def _day(cls, value: object) -> object:
        if isinstance(value, date):  # as YAML reads it
            return value.isoformat()
        with _validation():
            return parse_day(value).isoformat() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_origin(self) -> "BaseConfig":
        if (self.path is None) == (self.random_init is None):
            raise ValueError("give either path or random_init")
        if self.dequantize and self.path is None:
            raise ValueError("random_init has no quantized weights; remove dequantize")
        return self


class CorpusConfig(Settings):
    """Raw medical text for stage 1."""

    inputs: list[str] = Field(min_length=1, description="files, folders, or the built-in corpus demo")
    field: str = Field("text", description="key of the text in lines of JSON")
    block_size: int = Field(2048, ge=8, description="tokens of a packed row")
    mixing: MixingConfig = MixingConfig()
    vocabulary: Vocabulary | None = None
    deidentify: DeidentifyConfig | None = Field(None, description="replace identifiers in the inputs first")
    require_deidentified: bool = Field(False, description="refuse inputs that jmedllm has not de-identified")


class MfptConfig(TrainingConfig):
    """Stage 1: medical full-parameter training on the corpus."""


class QuestionSource(Settings):
    """Questions to train on."""

    benchmark: str = Field(description="a benchmark, or a file with your own questions")
    languages: list[Literal["ja", "en"]] = Field(min_length=1)
    split: str = Field("train", description="any but test")
    selection: str = Field("graded", description="which items: all, graded, legacy")
    map: dict[str, str] = Field({}, description="fields → columns of your file, see docs/custom-questions.md")
    skip_invalid: bool = Field(False, description="leave invalid rows of your file out and count them")

    @property
    def read_options(self) -> custom.ReadOptions:
        """Options for reading custom questions."""
        return custom.ReadOptions(tuple(self.map.items()), self.skip_invalid)

    @model_validator(mode="after")
    def _known(self) -> "QuestionSource":
        with _validation():
            require_benchmark(self.benchmark)
            require_fields(self.map, custom.MAP_FIELDS)
            if self.read_options != custom.DEFAULT_READ_OPTIONS and not is_custom_file(self.benchmark):
                raise InputError("map and skip_invalid apply only to your own files; leave them out")
            if self.selection not in SELECTIONS:
                raise unknown("selection", self.selection, SELECTIONS)
        return self

    @field_validator("split")
    @classmethod
    def _not_a_test_split(cls, split: str) -> str:
        if split == "test":
            raise ValueError("a model trained on a test split has seen the answers; train on another split")
        return split


class AdapterTrainingConfig(TrainingConfig):
    """Settings for training an adapter on a frozen model."""

    adapter: AdapterConfig = AdapterConfig()
    offload_embedding: bool = Field(False, description="keep the input embedding in host memory")

    @model_validator(mode="after")
    def _adapter_is_small(self) -> "AdapterTrainingConfig":
        if self.cpu_offload != "none" or self.optimizer_in_backward:
            raise ValueError(
                "cpu_offload and optimizer_in_backward are for mfpt, because adapters are small; remove them"
            )
        return self


class MpeftConfig(AdapterTrainingConfig):
    """Stage 2: medical parameter-efficient tuning on questions and instructions."""

    questions: list[QuestionSource] = Field([], description="see QuestionSource")
    instructions: list[str] = Field(
        [], description="files with instruction, input, output; messages; or ShareGPT conversations"
    )
    map: dict[str, str] = Field({}, description="fields → columns of instruction files")
    skip_invalid: bool = Field(False, description="leave invalid rows of instruction files out and count them")
    reasoning: Reasoning = Field("train", description="thoughts in the data: train them, or mask them as context")
    weights: dict[str, Weight] = Field(
        {}, description="benchmark, file or language → repetitions of its examples; default 1"
    )
    replay: float = Field(0.0, ge=0, lt=1, description="share of corpus documents among the examples")
    max_prompt_tokens: int | None = Field(None, ge=1, description="maximum tokens of a prompt")
    max_completion_tokens: int | None = Field(None, ge=2, description="maximum tokens of an answer with EOS")
    block_size: int = Field(2048, ge=8, description="tokens of a packed row, and maximum of prompt plus answer")
    excess_length_strategy: ExcessLength = Field("raise", description="drop: leave longer examples out and count them")

    @property
    def read_options(self) -> custom.ReadOptions:
        """Options for reading instruction files."""
        return custom.ReadOptions(tuple(self.map.items()), self.skip_invalid)

    @field_validator("map")
    @classmethod
    def _known_fields(cls, columns: dict[str, str]) -> dict[str, str]:
        with _validation():
            require_fields(columns, INSTRUCTION_FIELDS)
        return columns

    @model_validator(mode="after")
    def _some_data(self) -> "MpeftConfig":
        if not self.questions and not self.instructions:
            raise ValueError("give questions or instructions to train on")
        return self


class EvalSection(EvalConfig):
    """Settings of the eval stage: models and benchmarks."""

    models: list[str] | None = Field(
        None, min_length=1, description="base, or names of models that stages yield; default: all"
    )
    quantization: Quantization = Field(
        "none", description="nf4: quantize the models to 4 bits; adapters stay unmerged, as they were trained"
    )

    @model_validator(mode="after")
    def _known(self) -> "EvalSection":
        with _validation():
            require_known(self)
        return self


class Recipe(Settings):
    """One adaptation from raw text to report. A stage without its section does not run."""

    name: str = Field(pattern=r"^\w[\w.-]*$")
    seed: int = Field(0, ge=0)
    data: str = Field(
        default_factory=lambda: os.environ.get("JMEDLLM_DATA", "data"),
        description="data directory, as `jmedllm data get` fills it; default: JMEDLLM_DATA, or data",
    )
    precision: PrecisionName = "auto"
    device: DeviceName = "auto"
    threads: int | None = Field(None, ge=1, description="CPU threads; by default one for each core")
    memory: Literal["as-configured", "auto"] = Field(
        "as-configured", description="auto: choose memory settings that fit this machine, see docs/plan.md"
    )
    base: BaseConfig
    prompt: PromptConfig = PromptConfig()
    corpus: CorpusConfig | None = None
    validation: ValidationConfig | None = None
    mfpt: MfptConfig | None = None
    mpeft: MpeftConfig | None = None
    merge: MergeConfig = MergeConfig()
    eval: EvalSection | None = None
    deploy: DeployConfig | None = None
    canary: CanaryConfig | None = None
    controls: dict[str, dict[str, Any]] = Field({}, description="named changes for `run --control NAME`")

    def section(self, name: str) -> Any:
        """Return the section with this name; None if the recipe does not have it."""
        return getattr(self, name, None)

    # A section that failed to validate counts as given: its own error is reported.
    @field_validator("mfpt")
    @classmethod
    def _text_to_train_on(cls, mfpt: MfptConfig | None, info: ValidationInfo) -> MfptConfig | None:
        if mfpt and info.data.get("corpus", ...) is None:
            raise ValueError("needs a corpus section")
        return mfpt

    @field_validator("*")
    @classmethod
    def _one_precision(cls, stage: Any, info: ValidationInfo) -> Any:
        if isinstance(stage, TrainingConfig) and (
            reason := clash(stage.weight_format, info.data.get("precision", "auto"))
        ):
            raise ValueError(reason)
        return stage

    @field_validator("validation")
    @classmethod
    def _text_to_hold_out(cls, validation: ValidationConfig | None, info: ValidationInfo) -> ValidationConfig | None:
        if validation and validation.held_out and info.data.get("corpus", ...) is None:
            raise ValueError("held_out needs a corpus section")
        return validation

    @field_validator("*")
    @classmethod
    def _something_to_measure(cls, stage: Any, info: ValidationInfo) -> Any:
        if (
            isinstance(stage, TrainingConfig)
            and stage.early_stopping.metric
            and info.data.get("validation", ...) is None
        ):
            raise ValueError("early_stopping.metric needs a validation section, which configures what is measured")
        return stage

    @field_validator("mpeft")
    @classmethod
    def _text_to_replay(cls, mpeft: MpeftConfig | None, info: ValidationInfo) -> MpeftConfig | None:
        if mpeft and mpeft.replay and info.data.get("corpus", ...) is None:
            raise ValueError("replay needs a corpus section")
        return mpeft

    @field_validator("eval")
    @classmethod
    def _not_chosen_by_eval(cls, section: EvalSection | None, info: ValidationInfo) -> EvalSection | None:
        validation = info.data.get("validation")
        chosen_by = [name for section in info.data.values() for name in _chosen_by(section)]
        if (
            section
            and validation
            and validation.split == section.split
            and any(n.startswith("accuracy.") for n in chosen_by)
        ):
            for name in {split_language(each)[0] for each in validation.benchmarks}:
                if name in {split_language(each)[0] for each in section.benchmarks}:
                    raise ValueError(
                        f"{name} also chooses the weights (early_stopping.metric), which biases its score upwards; "
                        "choose by another benchmark, another split or bits per byte"
                    )
        return section

    @model_validator(mode="after")
    def _text_for_the_tokenizer(self) -> "Recipe":
        if self.base.random_init and not self.corpus:
            raise ValueError("base.random_init needs a corpus section, for its tokenizer")
        return self

    @model_validator(mode="after")
    def _a_template_to_shape(self) -> "Recipe":
        shaping = next(iter(self.prompt.shaping_the_template), None)
        if shaping and not self.prompt.chat and not (self.mpeft and self.mpeft.instructions):
            raise ValueError(f"prompt.{shaping} shapes the chat template; set prompt.chat: true")
        return self

    @model_validator(mode="after")
    def _something_to_plan_from(self) -> "Recipe":
        if self.memory == "auto" and self.base.random_init:
            raise ValueError(
                "memory: auto needs the config of a base, which base.random_init does not have; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _data_for_canaries(self) -> "Recipe":
        if self.canary is None:
            return self
        if self.deploy:
            raise ValueError("a model that was trained with canaries is not for delivery; remove canary or deploy")
        if self.canary.into == "corpus" and not self.mfpt:
            raise ValueError("canary.into: corpus needs corpus and mfpt sections, which train the text")
        if self.canary.into == "instructions" and not (self.mpeft and self.mpeft.instructions):
            raise ValueError("canary.into: instructions needs mpeft.instructions, files to plant in")
        with _validation():
            self.canary.required()
        return self

    @model_validator(mode="after")
    def _training_for_new_tokens(self) -> "Recipe":
        if self.corpus and self.corpus.vocabulary and not self.mfpt:
            raise ValueError("corpus.vocabulary needs an mfpt section, which trains the new tokens")
        return self


def _chosen_by(section: Any) -> list[str]:
    return section.early_stopping.metric if isinstance(section, TrainingConfig) else []


def recipe_hash(recipe: Recipe) -> str:
    """Hash all values of a recipe, including defaults."""
    return hash_text(to_json(recipe.model_dump()))
