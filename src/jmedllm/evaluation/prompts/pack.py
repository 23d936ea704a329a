"""Prompt packs: one template for each language, from the package, a folder or the published file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jmedllm.errors import InputError, unknown
from jmedllm.evaluation.prompts.published import DEFAULT_TEMPLATE, published_templates
from jmedllm.evaluation.prompts.template import PromptTemplate, reads
from jmedllm.evaluation.question import LANGUAGES, Language

PUBLISHED = "sukeda2024"
"""Name of the pack of published templates, which are in DATA/prompts/sukeda2024.json."""

PACKS: dict[str, Path] = {
    folder.name: folder for folder in sorted((Path(__file__).parent / "packs").iterdir()) if folder.is_dir()
}
"""Built-in packs: name → folder."""


@dataclass(frozen=True, slots=True)
class PromptPack:
    """A named set of templates.

    Attributes:
        name: the name that the user gave, with the template's name if one file has several.
        templates: one for each language of the pack; at least one.
        note: which templates were chosen, for the user; empty if there was no choice.
        published: whether it is the published pack, whose responses are read from the whole decoded text.
    """

    name: str
    templates: Mapping[Language, PromptTemplate]
    note: str = ""
    published: bool = False

    def template(self, language: Language) -> PromptTemplate:
        """Return the template for `language`; a pack without one is an `InputError`."""
        if language not in self.templates:
            raise InputError(f"prompt pack {self.name!r} has no {language}.j2; add it or leave {language} out")
        return self.templates[language]


def pack_names() -> tuple[str, ...]:
    """Return the names that `load_pack` accepts: the built-in packs, then the published one."""
    return (*PACKS, PUBLISHED)


def load_pack(name: str, data: Path | None = None) -> PromptPack:
    """Load a prompt pack.

    Args:
        name: a built-in pack such as "instruction"; a folder with ja.j2, en.j2 or both; "sukeda2024" or the path of
            a JSON file of that form, both with an optional ":TEMPLATE" [medpalm_five_choice_cot].
        data: the data directory, where `jmedllm data get` puts the published templates.

    Raises:
        InputError: there is no such pack, template or file, or a template is broken.
    """
    source, _, template_name = name.partition(":")
    if source == PUBLISHED:
        return _published_pack(source, _published_file(data), template_name or DEFAULT_TEMPLATE)
    folder = PACKS.get(name, Path(name))
    if folder.is_dir():
        return _checked(PromptPack(name, _folder_templates(folder)))
    if source.endswith(".json"):
        return _published_pack(source, Path(source), template_name or DEFAULT_TEMPLATE)
    raise unknown("prompt pack", name, pack_names())


def _folder_templates(folder: Path) -> dict[Language, PromptTemplate]:
    files: dict[Language, Path] = {language: folder / f"{language}.j2" for language in LANGUAGES}
    templates = {
        language: PromptTemplate(str(file), _read(file)) for language, file in files.items() if file.is_file()
    }
    if not templates:
        raise InputError(f"{folder}: not a prompt pack: it has neither ja.j2 nor en.j2; add one of them")
    return templates


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}; fix its permissions") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8: {error.reason}; convert the file to UTF-8") from error


def _published_file(data: Path | None) -> Path:
    if data is None:
        raise InputError(f"prompt pack {PUBLISHED!r} is in the data directory; name that directory with --data DIR")
    file = data / "prompts" / f"{PUBLISHED}.json"
    if not file.is_file():
        raise InputError(f"{file}: no such file; fetch it with: jmedllm data get {PUBLISHED} --data {data}")
    return file


def _published_pack(source: str, file: Path, template_name: str) -> PromptPack:
    templates = published_templates(file, template_name)
    used = ", ".join(f"{lang} uses {t.origin.rpartition(':')[2]}" for lang, t in templates.items())
    return _checked(PromptPack(f"{source}:{template_name}", templates, note=used, published=True))


def _checked(pack: PromptPack) -> PromptPack:
    for template in pack.templates.values():
        reads(template)
    return pack
