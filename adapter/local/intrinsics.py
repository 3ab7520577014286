"""CloudFormation's intrinsic functions, as far as they can be known without a stack.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/intrinsic-function-reference.html
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Mapping
from typing import Any, cast

import yaml

from adapter.local.configuration import ACCOUNT

REFERENCE = re.compile(r"\$\{(!?)([^{}]*)\}")

# Levels of a template, and its values with all aliases written out, of which a few lines may else come to any number.
MAX_DEPTH = 100
MAX_NODES = 100_000
# Characters, and parts of lists, that all intrinsic functions of a template come to.
MAX_RESOLVED = 1_000_000
# Characters of a value that a message shows.
MAX_SHOWN = 100


class UnknownValueError(Exception):
    """Only a deployed stack knows the value; says which part of it: `!GetAtt Table.Arn`."""


class IntrinsicError(Exception):
    """An intrinsic function is not used as it has to be; says how, for a sentence whose subject is the property."""


class NoValue:
    """`!Ref AWS::NoValue`: as if the property were not there."""


NO_VALUE = NoValue()


class Loader(yaml.SafeLoader):
    """Reads short forms, `!Ref X`, as their long ones, `{"Ref": "X"}`, and leaves numbers, dates and keys as they are
    written: `012345678901` is an account, and `On` may be a logical id.

    Raises yaml.MarkedYAMLError, also for what is nested too deeply, or with all its aliases written out too long.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = self._nodes = 0
        self._extents: dict[yaml.Node, tuple[int, int]] = {}  # of complete collections: their levels and their nodes

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if parent is not None and self._depth > MAX_DEPTH:
            raise problem(parent, f"this is nested more than {MAX_DEPTH} levels deep")
        node = super().compose_node(parent, index)
        self._nodes += 1
        if node is not None and self._nodes > MAX_NODES:
            raise problem(node, f"this comes to more than {MAX_NODES:,} values")
        if isinstance(node, yaml.CollectionNode):
            if node not in self._extents:  # an alias inside what it is an alias of
                raise problem(node, "this refers to itself")
            if self._depth + self._extents[node][0] > MAX_DEPTH:  # by way of aliases
                raise problem(node, f"this is nested more than {MAX_DEPTH} levels deep")
        return node

    def compose_sequence_node(self, anchor: Any) -> yaml.SequenceNode:
        self._depth += 1
        node = super().compose_sequence_node(anchor)
        self._ascend(node, node.value)
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        self._depth += 1
        node = super().compose_mapping_node(anchor)
        self._ascend(node, [child for pair in node.value for child in pair])
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        if isinstance(node, yaml.MappingNode):  # which its tag only says
            self.flatten_mapping(node)
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode):
                    key.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep)

    def _ascend(self, node: yaml.Node, children: list[yaml.Node]) -> None:
        self._depth -= 1
        extents = [self._extents.get(child, (0, 1)) for child in children]
        nodes = 1 + sum(nodes for _, nodes in extents)
        if nodes > MAX_NODES:
            raise problem(node, f"this comes to more than {MAX_NODES:,} values")
        self._extents[node] = 1 + max((levels for levels, _ in extents), default=0), nodes


def problem(node: yaml.Node, text: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=text, problem_mark=node.start_mark)


def as_written(loader: Loader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


def true_or_false(loader: Loader, node: yaml.ScalarNode) -> bool:
    value = loader.bool_values.get(as_written(loader, node).lower())
    if value is None:
        raise problem(node, f"{reprlib.repr(node.value)} is not true or false")
    return value


AS_WRITTEN = ("float", "int", "timestamp", "value")
Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] not in AS_WRITTEN]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# No others: CloudFormation has no sets and nothing binary either
# (https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/template-formats.html).
Loader.yaml_constructors = {
    tag: constructor
    for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in ("map", "null", "seq", "str")
}
for kind in AS_WRITTEN:
    Loader.add_constructor(f"tag:yaml.org,2002:{kind}", as_written)
Loader.add_constructor("tag:yaml.org,2002:bool", true_or_false)


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
    return f"{name} {argument[:MAX_SHOWN]}" if isinstance(argument, str) else name


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
        self._room = MAX_RESOLVED
        self._asked: list[str] = []  # conditions, each asked for by the one before

    def resolve(self, value: Any) -> Any:
        """The value, if it is an intrinsic function; else `value` itself, whatever is in it.

        Raises UnknownValueError and IntrinsicError.
        """
        if not is_intrinsic(value):
            return self._spend(value)
        ((name, argument),) = value.items()
        if name not in FUNCTIONS:
            raise UnknownValueError(shown(value))
        try:
            return self._spend(FUNCTIONS[name](self, argument))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise IntrinsicError(f"has a {shown({name: None})} that is not as CloudFormation has it") from error

    def _spend(self, value: Any, times: int = 1) -> Any:
        """The value; raises IntrinsicError when all values until now have come to too much."""
        self._room -= 1 + (len(value) * times if isinstance(value, str | list) else 0)
        if self._room < 0:
            raise IntrinsicError(f"comes to too much: more than {MAX_RESOLVED:,} characters in one template")
        return value

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
            return text(self._spend(value))

        return REFERENCE.sub(substitute, self._spend(template))

    def _reference(self, name: str) -> Any:
        if "." in name:
            raise UnknownValueError(f"!GetAtt {name}")
        return self._ref(name)

    def _if(self, argument: Any) -> Any:
        condition, yes, no = argument
        return self.resolve(yes if self._condition(condition) else no)

    def _condition(self, name: str) -> bool:
        if name not in self._conditions:
            raise IntrinsicError(f"asks for the condition {reprlib.repr(name)}, which is not there")
        if name in self._asked:
            raise IntrinsicError("refers to itself")
        self._asked.append(name)
        try:
            return self._holds(self._conditions[name])
        finally:
            self._asked.pop()

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
        self._spend(text(delimiter), len(resolved))
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
