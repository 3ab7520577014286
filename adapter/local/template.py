"""A function as a SAM or CloudFormation template describes it.

https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/sam-resource-function.html and
https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-lambda-function.html
"""

from __future__ import annotations

import os
import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from adapter.local.env_file import find_fault
from adapter.local.files import FileError, read_text
from adapter.local.intrinsics import (
    MAX_SHOWN,
    NO_VALUE,
    IntrinsicError,
    Intrinsics,
    Loader,
    UnknownValueError,
    is_intrinsic,
    text,
)

NAMES = ("template.yaml", "template.yml")
SAM, PLAIN = "AWS::Serverless::Function", "AWS::Lambda::Function"
URL = "AWS::Lambda::Url"

# What Lambda takes for what a template does not say
# (https://docs.aws.amazon.com/lambda/latest/api/API_CreateFunction.html,
# https://docs.aws.amazon.com/lambda/latest/api/API_CreateFunctionUrlConfig.html).
DEFAULT_TIMEOUT = 3
DEFAULT_INVOKE_MODE = "BUFFERED"

FRONTS = {"Api": "rest-api", "HttpApi": "http-api"}

# https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/dynamic-references.html
DYNAMIC_REFERENCE = re.compile(r"\{\{resolve:[^{}]*\}\}")


# Bytes (https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html).
MAX_TEMPLATE = 1024 * 1024

# Digits of a number: no property has as many.
MAX_DIGITS = 9


class TemplateError(Exception):
    """The template cannot be used; one line that says where and why."""


class TemplateFunction:
    """One function of a template. Each property is read when it is asked for, and raises TemplateError if it is not
    usable: what the command line says need not be right here.
    """

    def __init__(self, path: Path, name: str, template: Mapping[str, Any], region: str) -> None:
        self.name = name
        self._path = path
        self._resources = template["Resources"]
        self._intrinsics = Intrinsics(template, region)
        resource = self._resources[name]
        self._sam = resource["Type"] == SAM
        self._properties = self._mapping(resource.get("Properties"), "Properties")
        if self._sam:
            in_all = self._mapping(self._mapping(template.get("Globals"), "Globals").get("Function"), "Globals")
            self._properties = merged(in_all, self._properties)
        self._check_runtime()

    def where(self, name: str = "") -> str:
        """The function's place in the template, or that of one of its properties, for a message."""
        return f"{self._path}: {self.name}.{name}" if name else f"{self._path}: {self.name}"

    @property
    def handler(self) -> str:
        if self._text("PackageType", "Zip") == "Image":
            raise self._error("PackageType", "is Image: its handler is in the image and not in the template")
        return self._text("Handler")

    @property
    def app_dir(self) -> Path:
        if "InlineCode" in self._properties:
            raise self._error("InlineCode", "is not served: only code in a folder is")
        name = "CodeUri" if self._sam else "Code"
        code = self._value(name, ".")
        if not isinstance(code, str) or code.startswith("s3://"):
            raise self._error(name, "is not a folder on this machine")
        folder = self._path.parent / code
        if not os.path.isdir(folder):
            raise self._error(name, f"names a folder that is not there: {str(folder)[:MAX_SHOWN]!r}")
        return folder

    @property
    def timeout(self) -> int:
        return self._number("Timeout", DEFAULT_TIMEOUT)

    def memory(self, default: int) -> int:
        """The default depends on where Lambda runs the function."""
        return self._number("MemorySize", default)

    @property
    def invoke_mode(self) -> Literal["RESPONSE_STREAM", "BUFFERED"] | None:
        """The function URL's; None if the template has no URL for the function."""
        configuration = self._url()
        if configuration is None:
            return None
        mode = self._known("InvokeMode", configuration.get("InvokeMode", DEFAULT_INVOKE_MODE))
        if mode == "RESPONSE_STREAM":
            return "RESPONSE_STREAM"
        if mode == "BUFFERED":
            return "BUFFERED"
        raise self._error("InvokeMode", f"is RESPONSE_STREAM or BUFFERED, not {reprlib.repr(mode)}")

    @property
    def fronts(self) -> list[str]:
        """The fronts that its APIs are: SAM's events."""
        events = self._properties.get("Events")
        values = events.values() if isinstance(events, Mapping) else ()
        kinds = [event.get("Type") for event in values if isinstance(event, Mapping)]
        return [FRONTS[kind] for kind in FRONTS if kind in kinds]

    def variables(self) -> tuple[dict[str, str], dict[str, str]]:
        """The environment variables, and those whose value only a stack knows, each with what that value is."""
        environment = self._mapping(self._value("Environment", {}), "Environment")
        given = self._known("Environment.Variables", environment.get("Variables"))
        variables = self._mapping(None if given is NO_VALUE else given, "Environment.Variables")
        known, unknown = {}, {}
        for name, value in variables.items():
            try:
                resolved = self._resolve(f"Environment.Variables.{name}", value)
                if resolved is NO_VALUE:
                    continue
                if reference := DYNAMIC_REFERENCE.search(text(resolved)):
                    raise UnknownValueError(reference[0])
                if (fault := find_fault(name, text(resolved))) is not None:
                    raise self._error(f"Environment.Variables.{name}", fault)
                known[name] = text(resolved)
            except UnknownValueError as error:
                unknown[name] = str(error)
            except TypeError as error:
                raise self._error(f"Environment.Variables.{name}", "is not text") from error
        return known, unknown

    def _check_runtime(self) -> None:
        """Which Python it names makes no difference: the function runs on the one that runs this."""
        try:
            runtime = self._resolve("Runtime", self._properties.get("Runtime", "python"))
        except UnknownValueError:
            return
        if runtime is not NO_VALUE and not str(runtime).startswith("python"):
            raise self._error("Runtime", f"is {str(runtime)[:MAX_SHOWN]}; only Python functions run here")

    def _url(self) -> Mapping[str, Any] | None:
        if "FunctionUrlConfig" in self._properties:
            given = self._known("FunctionUrlConfig", self._properties["FunctionUrlConfig"])
            return None if given is NO_VALUE else self._mapping(given, "FunctionUrlConfig")
        for resource in self._resources.values():
            if isinstance(resource, Mapping) and resource.get("Type") == URL:
                properties = self._mapping(resource.get("Properties"), URL)
                if properties.get("TargetFunctionArn") in (
                    {"Ref": self.name},
                    {"Fn::GetAtt": [self.name, "Arn"]},
                    {"Fn::Sub": f"${{{self.name}.Arn}}"},
                ):
                    return properties
        return None

    def _resolve(self, name: str, value: Any) -> Any:
        try:
            return self._intrinsics.resolve(value)
        except IntrinsicError as error:
            raise self._error(name, str(error)) from error
        except RecursionError as error:
            raise self._error(name, "is nested too deeply") from error

    def _known(self, name: str, value: Any) -> Any:
        try:
            return self._resolve(name, value)
        except UnknownValueError as error:
            raise self._error(name, f"is {error}, which only a deployed stack knows") from error

    def _value(self, name: str, default: Any) -> Any:
        value = self._known(name, self._properties.get(name, NO_VALUE))
        return default if value is NO_VALUE else value

    def _text(self, name: str, default: str = "") -> str:
        value = self._value(name, default)
        if not isinstance(value, str):
            raise self._error(name, "is not text")
        if not value:
            raise self._error(name, "is missing")
        return value

    def _number(self, name: str, default: int) -> int:
        value = self._value(name, str(default))
        if not isinstance(value, str) or not value.isdecimal() or len(value) > MAX_DIGITS:
            raise self._error(name, f"is a whole number, not {reprlib.repr(value)}")
        return int(value)

    def _mapping(self, value: Any, what: str) -> Mapping[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise self._error(what, "is not a mapping")
        return value

    def _error(self, name: str, message: str) -> TemplateError:
        return TemplateError(f"{self.where(name)} {message}")


def read(path: Path, function: str | None, region: str) -> TemplateFunction:
    """The template's function with that logical id, or the only one. Raises TemplateError."""
    template = load(path)
    for section in ("Resources", "Parameters", "Conditions"):
        if not isinstance(template.get(section) or {}, Mapping):
            raise TemplateError(f"{path}: {section} is not a mapping")
    names = [
        name
        for name, resource in (template.get("Resources") or {}).items()
        if isinstance(resource, Mapping) and resource.get("Type") in (SAM, PLAIN)
    ]
    if not names:
        raise TemplateError(f"{path}: there is no function, neither {SAM} nor {PLAIN}")
    if function is None and len(names) > 1:
        raise TemplateError(f"{path}: there are several functions, choose one with --function: {', '.join(names)}")
    if function is not None and function not in names:
        raise TemplateError(f"{path}: there is no function {function!r}, only {', '.join(names)}")
    return TemplateFunction(path, function or names[0], template, region)


def load(path: Path) -> Mapping[str, Any]:
    try:
        template = yaml.load(read_text(path, MAX_TEMPLATE), Loader)
    except OSError as error:
        raise TemplateError(f"{path}: {error.strerror}") from error
    except UnicodeError as error:
        raise TemplateError(f"{path}: this is no text in UTF-8") from error
    except FileError as error:
        raise TemplateError(str(error)) from error
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise TemplateError(f"{path}{line}: {error.problem}") from error
    except yaml.YAMLError as error:
        raise TemplateError(f"{path}: {str(error).splitlines()[0]}") from error
    if not isinstance(template, Mapping):
        raise TemplateError(f"{path}: this is no template: it is not a mapping")
    return template


def merged(in_all: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """SAM's Globals: what a function says itself wins, and mappings are merged
    (https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/sam-specification-template-anatomy-globals.html).
    """
    result = {**in_all, **own}
    for name in in_all.keys() & own.keys():
        both = in_all[name], own[name]
        if all(isinstance(value, Mapping) and not is_intrinsic(value) for value in both):
            result[name] = merged(*both)
    return result
