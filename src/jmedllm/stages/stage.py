"""What a stage is. This module imports none of the stages; all of them build on it."""

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
from jmedllm.stages.base_files import BaseFiles

HASH_FILE = "input_hash"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """What a finished stage passes to later stages and keeps in the manifest: plain values that JSON can represent.

    Attributes:
        files: paths in the run's folder. If one of them is missing, the stage runs again.
    """

    files: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The values for the manifest; those that are None are left out."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The outputs from the values in a manifest.

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
        description: what it is, for the glossary of the page; a sentence without its subject.
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
        date: the day on which the run was started, as YYYY-MM-DD. Chat templates see it as today's date, also when
            the run resumes on another day. Empty before the pipeline runs.
        shows_example: whether to print the text of the first training example.
        stages: all stages of the pipeline, in order; set when the pipeline runs or checks them.
    """

    recipe: Recipe
    folder: Path
    precision: Precision
    outputs: dict[str, Outputs]
    date: str = ""
    shows_example: bool = False
    stages: "tuple[Stage, ...]" = ()

    @property
    def prompt_config(self) -> PromptConfig:
        """The recipe's prompt settings, with the date that chat templates see."""
        prompt = self.recipe.prompt
        return prompt.model_copy(update={"date": prompt.date or self.date or None})

    @property
    def data(self) -> Path:
        """The data directory."""
        return Path(self.recipe.data)

    def output(self, kind: type[O]) -> O:
        """The outputs of the finished stage whose outputs are of this class."""
        return next(outputs for outputs in self.outputs.values() if isinstance(outputs, kind))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of the pipeline.

    Attributes:
        name: also the name of its folder in the run directory, and of its recipe section.
        enabled: whether the recipe asks for it.
        inputs: everything that its result depends on, as plain values; large inputs by their hash.
        perform: does the work in the run's folder and resumes a killed run; takes the hash of the inputs.
        outputs: the class of what `perform` returns.
        section: the class of its recipe section, if the recipe can set anything.
        after: name of the stage that it follows; for stages of other packages.
        needs: names of the stages whose outputs it uses.
        model: the model that it yields, if any; `outputs` is then a `ModelOutputs`.
        training: what the planner needs to know, for a stage that trains; takes the recipe and the run's folder.
        check: raises an InputError for every problem that can be found before any stage starts and without the
            base model; returns the names of what it checked.
        check_base: the same for what needs the files of the base model, which are passed; loads no weights. Not
            called if the run creates its base.
        card: lines about the finished stage for the section "Model" of the model card.
        keeps: patterns of files in the stage's folder that took long to compute. If they were computed on other
            inputs, the stage is refused instead of run again in their place.
        shared: whether all processes that torchrun started perform it together; only the main process's return
            value is used. The other stages run in the main process while the rest wait.
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
    card: Callable[[Run], Sequence[str]] = lambda run: ()
    keeps: tuple[str, ...] = ()
    shared: bool = False


def in_section(name: str) -> Callable[[Recipe], bool]:
    """For `Stage.enabled`: the recipe has the section of this name."""
    return lambda recipe: recipe.section(name) is not None


def in_order(stages: Sequence[Stage], more: Iterable[Stage]) -> list[Stage]:
    """The stages, with each further one behind the stage that it follows.

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
    """The stages of a recipe that yield a model, in order."""
    for stage in stages:
        if stage.model and stage.enabled(recipe):
            yield stage, stage.model


def model_names(stages: Iterable[Stage], recipe: Recipe) -> list[str]:
    """The models of a run, in order: the base, then those that its stages yield."""
    return [BASE, *(model.name for _, model in yielding(stages, recipe))]


def described_models(stages: Iterable[Stage], recipe: Recipe) -> dict[str, str]:
    """Return what the models of a run are, as far as their stages say so, in order."""
    models = {model.name: model.description for _, model in yielding(stages, recipe) if model.description}
    return {BASE: "the model before training."} | models


def starts_from_base(run: Run, name: str) -> bool:
    """Return whether no stage before this one yields a model."""
    return next(yielding(_before(run, name), run.recipe), None) is None


def base_folder(run: Run) -> Path:
    """The base model: the recipe's, or the one that the corpus stage creates for `base.random_init`."""
    base = run.recipe.base
    if base.path is None:
        return run.folder / BASE
    folder = resolve(base.path, revision=base.revision)
    require_unambiguous(folder, ignore_adapter=base.ignore_adapter)
    return folder


def model_before(run: Run, name: str) -> Path:
    """The model that a stage starts from: of the last stage before it that yields one, else the base."""
    *_, last = [None, *(model for _, model in yielding(_before(run, name), run.recipe))]
    return _folder(run, last) if last else base_folder(run)


def fingerprint_before(run: Run, name: str) -> str:
    """The fingerprint of the model that a stage starts from."""
    *_, last = [None, *(stage for stage, _ in yielding(_before(run, name), run.recipe))]
    if last is None:
        return fingerprint(base_folder(run))
    outputs = run.outputs[last.name]
    assert isinstance(outputs, ModelOutputs)
    return outputs.model


def model_folder(run: Run, name: str) -> Path:
    """The directory of one of the run's models by its name."""
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
    """All files in a folder of the run, for a stage's outputs."""
    return sorted(p.relative_to(run.folder).as_posix() for p in (run.folder / folder).rglob("*") if p.is_file())


def own_folder(folder: Path, input_hash: str) -> Path:
    """A folder for work on these inputs. The main process empties it if it has work on other inputs.

    Raises:
        InputError: it has files that jmedllm did not write, or is not writable.
    """
    if is_main_process() and input_hash_of(folder) != input_hash:
        with atomic_folder(folder, HASH_FILE) as empty:
            write_atomic(empty / HASH_FILE, input_hash)
    return folder


def input_hash_of(folder: Path) -> str | None:
    """The hash of the inputs that the work in a folder was computed on; None without work of ours."""
    file = folder / HASH_FILE
    return file.read_text(encoding="utf-8") if file.is_file() else None
