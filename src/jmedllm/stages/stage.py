"""Types of stages. This module imports no stage; all stages import it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self, TypeVar

from jmedllm.errors import InputError, unknown
from jmedllm.evaluation.prompts.format import PromptConfig
from jmedllm.files import atomic_folder, write_atomic
from jmedllm.manifest import BASE
from jmedllm.models.folder import fingerprint, require_unambiguous, resolve
from jmedllm.planning.plan import TrainingStage
from jmedllm.precision import Precision
from jmedllm.processes import is_main_process
from jmedllm.recipe import Recipe
from jmedllm.settings import Settings
from jmedllm.stages.base_files import BaseFiles, PublishedBase

HASH_FILE = "input_hash"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """Outputs of a finished stage for later stages and the manifest: plain values that JSON can represent.

    Attributes:
        files: paths in the run directory. If one is missing, the stage runs again.
    """

    files: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Convert to values for the manifest, without those that are None."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Restore outputs from the values in a manifest.

        Raises:
            InputError: another version of the stage wrote them.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise InputError(
                f"manifest: the outputs {', '.join(values)} are of another version of {cls.__name__}; "
                "choose another --output"
            ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOutputs(Outputs):
    """Outputs of a stage that yields a model.

    Attributes:
        model: fingerprint of the model.
    """

    model: str


O = TypeVar("O", bound=Outputs)  # noqa: E741


@dataclass(frozen=True, slots=True)
class StageModel:
    """A model directory that a stage yields. Later stages start from it; it is evaluated and reported.

    Attributes:
        name: the name in `eval.models` and in reports.
        folder: path in the run's folder.
        adapter: path of the adapter that was merged into the model, if any.
        adapter_base: name of the stage that trained this adapter, on the model before it.
        description: description for the glossary of the page; a sentence without its subject.
    """

    name: str
    folder: str
    adapter: str | None = None
    adapter_base: str | None = None
    description: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """A recipe and the directory that it runs in.

    Attributes:
        outputs: outputs of the finished stages, by stage name.
        date: start of the run, as YYYY-MM-DD. Chat templates use it as today's date, even if the run resumes on
            another day. Empty before the pipeline runs.
        previews_example: whether to print the text of the first training example.
        stages: all stages of the pipeline, in order; set when the pipeline runs or checks them.
    """

    recipe: Recipe
    folder: Path
    precision: Precision
    outputs: dict[str, Outputs]
    date: str = ""
    previews_example: bool = False
    stages: "tuple[Stage, ...]" = ()

    @property
    def prompt_config(self) -> PromptConfig:
        """Prompt settings of the recipe, with the date for chat templates."""
        prompt = self.recipe.prompt
        return prompt.model_copy(update={"date": prompt.date or self.date or None})

    @property
    def data(self) -> Path:
        """Data directory."""
        return Path(self.recipe.data)

    def output(self, stage: str, kind: type[O]) -> O:
        """Return the outputs of a finished stage, which are of class `kind`."""
        outputs = self.outputs[stage]
        assert isinstance(outputs, kind)
        return outputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of the pipeline.

    Attributes:
        name: name of the stage, of its folder in the run directory, and of its recipe section.
        enabled: returns whether the recipe enables the stage.
        inputs: returns everything that affects the result, as plain values; large inputs as hashes.
        perform: does the work in the run directory and resumes a killed run; its second argument is the hash of the
            inputs.
        outputs: class of the return value of `perform`.
        section: class of the recipe section, if the stage has settings.
        after: name of the stage that it follows, for stages of other packages.
        needs: names of the stages whose outputs it uses.
        model: the model that the stage yields, if any; `outputs` is then a `ModelOutputs`.
        training: for a stage that trains, returns the planner's input from the recipe and the run directory.
        check: raises an InputError for every problem that can be found before any stage starts and without the base
            model; returns the names of the checks.
        check_base: the same for checks that need the files of the base model, without loading weights. Not called if
            the run creates its base.
        check_config: checks instead of `check_base` if the base is not on this machine and its config comes with
            jmedllm.
        card: returns lines about the finished stage for the section "Model" of the model card.
        card_data: returns lines about the questions and instructions that the finished stage was trained on, for the
            section of that name of the model card.
        keeps: patterns of files in the stage's folder that took long to compute. If they were computed from other
            inputs, the stage raises an error instead of replacing them.
        shared: whether all processes of torchrun run the stage together; only the main process's return value is used.
            Other stages run in the main process while the rest wait.
    """

    name: str
    enabled: Callable[[Recipe], bool]
    inputs: Callable[[Run], dict[str, Any]]
    perform: Callable[[Run, str], Outputs]
    outputs: type[Outputs]
    section: type[Settings] | None = None
    after: str = ""
    needs: tuple[str, ...] = ()
    model: StageModel | None = None
    training: Callable[[Recipe, Path | None], TrainingStage] | None = None
    check: Callable[[Run], Sequence[str]] = lambda run: ()
    check_base: Callable[[Run, BaseFiles], Sequence[str]] = lambda run, base: ()
    check_config: Callable[[Run, PublishedBase], Sequence[str]] = lambda run, base: ()
    card: Callable[[Run], Sequence[str]] = lambda run: ()
    card_data: Callable[[Run], Sequence[str]] = lambda run: ()
    keeps: tuple[str, ...] = ()
    shared: bool = False


def in_section(name: str) -> Callable[[Recipe], bool]:
    """Return a function for `Stage.enabled`: whether the recipe has the section with this name."""
    return lambda recipe: recipe.section(name) is not None


def in_order(stages: Sequence[Stage], more: Iterable[Stage]) -> list[Stage]:
    """Insert further stages after the stages that they follow.

    Raises:
        InputError: one follows a stage that does not exist, or needs a stage that does not come before it.
    """
    ordered, waiting = list(stages), list(more)
    while waiting:
        names = [stage.name for stage in ordered]
        stage = next((each for each in waiting if each.after in names), None)
        if stage is None:
            raise unknown(f"stage that {waiting[0].name} follows (after)", waiting[0].after, names)
        ordered.insert(names.index(stage.after) + 1, stage)
        waiting.remove(stage)
    for number, stage in enumerate(ordered):
        for name in stage.needs:
            if name not in (earlier.name for earlier in ordered[:number]):
                raise InputError(f"stage {stage.name} needs the stage {name}, which does not run before it")
    return ordered


def yielding(stages: Iterable[Stage], recipe: Recipe) -> Iterator[tuple[Stage, StageModel]]:
    """Yield the enabled stages that yield a model, in order."""
    for stage in stages:
        if stage.model and stage.enabled(recipe):
            yield stage, stage.model


def model_names(stages: Iterable[Stage], recipe: Recipe) -> list[str]:
    """Return the models of a run, in order: the base, then those that its stages yield."""
    return [BASE, *(model.name for _, model in yielding(stages, recipe))]


def described_models(stages: Iterable[Stage], recipe: Recipe) -> dict[str, str]:
    """Return what the models of a run are, as far as their stages say so, in order."""
    models = {model.name: model.description for _, model in yielding(stages, recipe) if model.description}
    return {BASE: "the model before training."} | models


def starts_from_base(run: Run, name: str) -> bool:
    """Return whether no stage before this one yields a model."""
    return next(yielding(_before(run, name), run.recipe), None) is None


def base_folder(run: Run) -> Path:
    """Return the directory of the base model: the recipe's, or the one that the run creates for `base.random_init`
    (stage corpus) or `base.dequantize`."""
    base = run.recipe.base
    return run.folder / BASE if base.path is None or base.dequantize else source_folder(run)


def source_folder(run: Run) -> Path:
    """Return the directory that the recipe names as its base.

    Raises:
        InputError: it is not here, or also contains an adapter.
    """
    base = run.recipe.base
    assert base.path is not None
    folder = resolve(base.path, revision=base.revision)
    require_unambiguous(folder, ignore_adapter=base.ignore_adapter)
    return folder


def model_before(run: Run, name: str) -> Path:
    """Return the model that a stage starts from: that of the last earlier stage that yields one, else the base."""
    *_, last = [None, *(model for _, model in yielding(_before(run, name), run.recipe))]
    return _folder(run, last) if last else base_folder(run)


def name_before(run: Run, name: str) -> str:
    """Return the name of the model that a stage starts from."""
    *_, last = [BASE, *(model.name for _, model in yielding(_before(run, name), run.recipe))]
    return last


def fingerprint_before(run: Run, name: str) -> str:
    """Return the fingerprint of the model that a stage starts from."""
    *_, last = [None, *(stage for stage, _ in yielding(_before(run, name), run.recipe))]
    if last is None:
        return fingerprint(base_folder(run))
    outputs = run.outputs[last.name]
    assert isinstance(outputs, ModelOutputs)
    return outputs.model


def model_folder(run: Run, name: str) -> Path:
    """Return the directory of a model of the run by its name."""
    if name == BASE:
        return base_folder(run)
    return _folder(run, next(model for _, model in yielding(run.stages, run.recipe) if model.name == name))


def _before(run: Run, name: str) -> tuple[Stage, ...]:
    names = [stage.name for stage in run.stages]
    return run.stages[: names.index(name)] if name in names else ()


def _folder(run: Run, model: StageModel) -> Path:
    folder = run.folder / model.folder
    require_unambiguous(folder)
    return folder


def files_in(run: Run, folder: str) -> list[str]:
    """List all files in a folder of the run, for a stage's outputs."""
    return sorted(p.relative_to(run.folder).as_posix() for p in (run.folder / folder).rglob("*") if p.is_file())


def own_folder(folder: Path, input_hash: str) -> Path:
    """Create a folder for work on these inputs. The main process empties it if it contains work on other inputs.

    Raises:
        InputError: the folder contains files that jmedllm did not write, or is not writable.
    """
    if is_main_process() and input_hash_of(folder) != input_hash:
        with atomic_folder(folder, HASH_FILE) as empty:
            write_atomic(empty / HASH_FILE, input_hash)
    return folder


def input_hash_of(folder: Path) -> str | None:
    """Return the hash of the inputs of the work in a folder; None if jmedllm wrote none."""
    file = folder / HASH_FILE
    return file.read_text(encoding="utf-8") if file.is_file() else None
