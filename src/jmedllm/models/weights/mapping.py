"""Mapping of the tensors in model files to parameters, and back, by the rules of transformers.

Files and networks name tensors differently (`language_model.model.layers.0` in a vision-language file is
`model.language_model.layers.0` in its network). Some networks have one parameter for many tensors in their files,
such as the experts of a layer. transformers has the rules for each architecture; this module applies them.
"""

from collections.abc import Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch

from jmedllm.errors import InputError


@dataclass(frozen=True, slots=True)
class Conversion:
    """Tensors in model files and the parameters that transformers makes from them.

    Attributes:
        network: the network with the parameters; its weights may be missing.
        sources: names in the files by the pattern that they match, in the order in which they are read.
        first: the parameter after which transformers names the conversion.
        rule: transformers' rule; None if one tensor is one parameter, under the same or another name.
    """

    network: Any
    sources: Mapping[str, tuple[str, ...]]
    first: str
    rule: Any = None

    @property
    def names(self) -> list[str]:
        """Return all names in the files."""
        return [name for names in self.sources.values() for name in names]

    def to_parameters(self, stored: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Convert stored tensors to parameters, without values on the meta device."""
        if self.rule is None:
            return {self.first: stored[self.names[0]]}
        rule = deepcopy(self.rule)
        for pattern, names in self.sources.items():
            for name in names:
                rule.add_tensor(self.first, name, pattern, stored[name])
        made = rule.convert(self.first, model=self.network, config=self.network.config)
        return {name: value[0] if isinstance(value, list) else value for name, value in made.items()}

    def to_stored(self, parameters: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Convert parameters to the tensors to store, by their names in the files.

        Raises:
            InputError: transformers' rule cannot be reversed.
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
            raise InputError(f"{self.first}: transformers has no rule to write it back to files")
        return {names[key]: value[0] if isinstance(value, list) else value for key, value in values.items()}


def conversions(network: Any, stored: Collection[str]) -> list[Conversion]:
    """Return the conversions by which `from_pretrained` makes a network's parameters from tensors with these names.

    Names that belong to no parameter are omitted; `from_pretrained` decides whether they are allowed.

    Args:
        network: a network of a transformers class; its weights may be missing.
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
    """Return the first parameter that a stored tensor becomes part of, and the pattern of its converter."""
    from transformers.core_model_loading import rename_source_key

    prefix = network.base_model_prefix
    renamed: tuple[str, Any] = rename_source_key(name, renamings, converters, prefix, parameters)
    if renamed[0] not in parameters and name in parameters:
        renamed = rename_source_key(name, [], [], prefix, parameters)
    return renamed
