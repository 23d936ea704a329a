"""How transformers makes a network's parameters of the tensors in its files, and how to undo that.

Files and networks name tensors differently (a vision-language file says `language_model.model.layers.0`, its
network `model.language_model.layers.0`), and some networks hold in one parameter what their files hold in many,
the experts of a layer for one. transformers has the rules for each architecture: here they are applied, not
repeated.
"""

from collections.abc import Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch

from jmedllm.errors import InputError


@dataclass(frozen=True, slots=True)
class Conversion:
    """Tensors of a model's files and the parameters that transformers makes of them.

    Attributes:
        network: whose parameters they are; its weights may be missing.
        sources: names in the files by the pattern that they match, in the order in which they are read.
        first: the parameter that transformers names the conversion by.
        rule: transformers' own; None where one tensor is one parameter under another name or the same.
    """

    network: Any
    sources: Mapping[str, tuple[str, ...]]
    first: str
    rule: Any = None

    @property
    def names(self) -> list[str]:
        """All names in the files."""
        return [name for names in self.sources.values() for name in names]

    def to_parameters(self, stored: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The parameters made of what is stored; without values on the meta device."""
        if self.rule is None:
            return {self.first: stored[self.names[0]]}
        rule = deepcopy(self.rule)
        for pattern, names in self.sources.items():
            for name in names:
                rule.add_tensor(self.first, name, pattern, stored[name])
        made = rule.convert(self.first, model=self.network, config=self.network.config)
        return {name: value[0] if isinstance(value, list) else value for name, value in made.items()}

    def to_stored(self, parameters: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What is to be stored so that these parameters are made of it; by the names that the files have now.

        Raises:
            InputError: transformers' rule cannot be undone.
        """
        if self.rule is None:
            return {self.names[0]: parameters[self.first]}
        undo = self.rule.reverse_transform()
        values: dict[str, Any] = {}
        for name, value in parameters.items():
            values.setdefault(undo.rename_source_key(name)[1], []).append(value)
        for step in undo.operations:
            values = step.convert(
                values,
                source_patterns=undo.source_patterns,
                target_patterns=undo.target_patterns,
                full_layer_name=self.first,
                model=self.network,
                config=self.network.config,
                missing_keys=None,
            )
        names = {
            pattern.replace("*", str(number)): name
            for pattern, key in zip(undo.target_patterns, self.rule.source_patterns, strict=True)
            for number, name in enumerate(self.sources.get(key, ()))
        }
        if values.keys() != names.keys():
            raise InputError(f"{self.first}: transformers does not say how its files are written from it")
        return {names[key]: value[0] if isinstance(value, list) else value for key, value in values.items()}


def conversions(network: Any, stored: Collection[str]) -> list[Conversion]:
    """How the parameters of a network are made of tensors with these names, as `from_pretrained` would make them.

    Names that no parameter is made of are left out: whether those may be there is `from_pretrained`'s to say.

    Args:
        network: of a transformers class; its weights may be missing.
        stored: names of the tensors in the files.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key

    rules: list[Any] = get_model_conversion_mapping(network)
    renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
    by_pattern = {pattern: rule for rule in converters for pattern in rule.source_patterns}
    parameters = network.state_dict()
    found: dict[str, tuple[Any, dict[str, list[str]]]] = {}
    for name in sorted(stored, key=dot_natural_key):
        parameter, pattern = _parameter(name, renamings, converters, network, parameters)
        if parameter in parameters:
            _, sources = found.setdefault(parameter, (by_pattern.get(pattern), {}))
            sources.setdefault(pattern or name, []).append(name)
    return [
        Conversion(network, {pattern: tuple(names) for pattern, names in sources.items()}, parameter, rule)
        for parameter, (rule, sources) in found.items()
    ]


def _parameter(
    name: str, renamings: list[Any], converters: list[Any], network: Any, parameters: dict[str, Any]
) -> tuple[str, Any]:
    """The first parameter that a stored tensor goes into, and the pattern of the converter that puts it there."""
    from transformers.core_model_loading import rename_source_key

    prefix = network.base_model_prefix
    renamed: tuple[str, Any] = rename_source_key(name, renamings, converters, prefix, parameters)
    if renamed[0] not in parameters and name in parameters:
        renamed = rename_source_key(name, [], [], prefix, parameters)
    return renamed
