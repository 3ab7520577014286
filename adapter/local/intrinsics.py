"""CloudFormation's intrinsic functions, as far as they can be known without a stack.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/intrinsic-function-reference.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, cast

import yaml

from adapter.local.configuration import ACCOUNT

REFERENCE = re.compile(r"\$\{(!?)([^}]*)\}")


class UnknownValueError(Exception):
    """Only a deployed stack knows the value; says which part of it: `!GetAtt Table.Arn`."""


class IntrinsicError(Exception):
    """An intrinsic function is not used as it has to be; says how, for a sentence whose subject is the property."""


class NoValue:
    """`!Ref AWS::NoValue`: as if the property were not there."""


NO_VALUE = NoValue()


class Loader(yaml.SafeLoader):
    """Reads short forms, `!Ref X`, as their long ones, `{"Ref": "X"}`, and leaves numbers and dates as they are
    written: `012345678901` is an account.
    """


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] not in ("float", "int", "timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def short_form(loader: Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(cast(yaml.MappingNode, node), deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".")
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


Loader.add_multi_constructor("!", short_form)


def is_intrinsic(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) == 1
        and (set(value) <= {"Ref", "Condition"} or str(next(iter(value))).startswith("Fn::"))
    )


def shown(value: Mapping[str, Any]) -> str:
    """An intrinsic function as its author wrote it, or nearly."""
    ((name, argument),) = value.items()
    if name == "Fn::GetAtt" and isinstance(argument, list):
        argument = ".".join(map(str, argument))
    name = f"!{name.removeprefix('Fn::')}"
    return f"{name} {argument}" if isinstance(argument, str) else name


class Intrinsics:
    """Values as the template's parameters have them by default, in `region`."""

    def __init__(self, template: Mapping[str, Any], region: str) -> None:
        self._parameters = template.get("Parameters") or {}
        self._conditions = template.get("Conditions") or {}
        self._mappings = template.get("Mappings") or {}
        self._pseudo = {
            "AWS::AccountId": ACCOUNT,
            "AWS::NoValue": NO_VALUE,
            "AWS::Partition": "aws",
            "AWS::Region": region,
            "AWS::StackName": "local",  # ASSUMPTION: any name will do
            "AWS::URLSuffix": "amazonaws.com",
        }

    def resolve(self, value: Any) -> Any:
        """The value, if it is an intrinsic function; else `value` itself, whatever is in it.

        Raises UnknownValueError and IntrinsicError.
        """
        if not is_intrinsic(value):
            return value
        ((name, argument),) = value.items()
        if name not in FUNCTIONS:
            raise UnknownValueError(shown(value))
        try:
            return FUNCTIONS[name](self, argument)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise IntrinsicError(f"has a {shown({name: None})} that is not as CloudFormation has it") from error

    def _ref(self, name: str) -> Any:
        if name in self._pseudo:
            return self._pseudo[name]
        parameter = self._parameters.get(name, {})
        # A parameter of these types has as its default the name under which Systems Manager knows the value.
        if "Default" not in parameter or str(parameter.get("Type")).startswith("AWS::SSM::"):
            raise UnknownValueError(f"!Ref {name}")
        default = text(parameter["Default"])
        kind = str(parameter.get("Type"))
        if kind == "CommaDelimitedList" or kind.startswith("List<"):
            return [part.strip() for part in default.split(",")]
        return default

    def _sub(self, argument: Any) -> str:
        template, values = argument if isinstance(argument, list) else (argument, {})

        def substitute(match: re.Match[str]) -> str:
            literal, name = match.groups()
            if literal:
                return f"${{{name}}}"
            value = self.resolve(values[name]) if name in values else self._reference(name)
            return text(value)

        return REFERENCE.sub(substitute, template)

    def _reference(self, name: str) -> Any:
        if "." in name:
            raise UnknownValueError(f"!GetAtt {name}")
        return self._ref(name)

    def _if(self, argument: Any) -> Any:
        condition, yes, no = argument
        return self.resolve(yes if self._condition(condition) else no)

    def _condition(self, name: str) -> bool:
        if name not in self._conditions:
            raise IntrinsicError(f"asks for the condition {name!r}, which is not there")
        return self._holds(self._conditions[name])

    def _holds(self, condition: Any) -> bool:
        value = self.resolve(condition)
        if not isinstance(value, bool):
            raise TypeError("a condition is true or false")
        return value

    def _equals(self, argument: Any) -> bool:
        first, second = map(self.resolve, argument)
        return text(first) == text(second)

    def _find_in_map(self, argument: Any) -> Any:
        name, first, second = (text(self.resolve(part)) for part in argument)
        return self._mappings[name][first][second]

    def _join(self, argument: Any) -> str:
        delimiter, parts = argument
        resolved = [self.resolve(part) for part in self._list(parts)]
        return text(delimiter).join([text(part) for part in resolved if part is not NO_VALUE])

    def _select(self, argument: Any) -> Any:
        index, parts = argument
        number = int(text(self.resolve(index)))
        if number < 0:
            raise ValueError("an index is 0 or more")
        return self.resolve(self._list(parts)[number])

    def _split(self, argument: Any) -> list[str]:
        delimiter, source = argument
        return text(self.resolve(source)).split(text(delimiter))

    def _list(self, value: Any) -> list[Any]:
        parts = self.resolve(value)
        if not isinstance(parts, list):
            raise TypeError("not a list")
        return parts

    def _not(self, argument: Any) -> bool:
        (condition,) = argument
        return not self._holds(condition)


FUNCTIONS: dict[str, Callable[[Intrinsics, Any], Any]] = {
    "Condition": Intrinsics._condition,
    "Fn::And": lambda self, argument: all([self._holds(condition) for condition in argument]),
    "Fn::Equals": Intrinsics._equals,
    "Fn::FindInMap": Intrinsics._find_in_map,
    "Fn::If": Intrinsics._if,
    "Fn::Join": Intrinsics._join,
    "Fn::Not": Intrinsics._not,
    "Fn::Or": lambda self, argument: any([self._holds(condition) for condition in argument]),
    "Fn::Select": Intrinsics._select,
    "Fn::Split": Intrinsics._split,
    "Fn::Sub": Intrinsics._sub,
    "Ref": Intrinsics._ref,
}


def text(value: Any) -> str:
    """A scalar as CloudFormation makes it text. Raises TypeError for what is none."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        raise TypeError("not text")
    return value
