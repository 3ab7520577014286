"""What the command line, and a template, ask for."""

from __future__ import annotations

import argparse
import math
import os
import re
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import adapter
from adapter.local.configuration import Configuration
from adapter.local.env_file import read_env_file
from adapter.local.files import FileError
from adapter.local.parser import FUNCTION_URL, FURTHER_FRONTS, fail, parser
from adapter.local.template import NAMES, TemplateError, TemplateFunction, read
from adapter.local.web_pages import host_name

T = TypeVar("T")

# Lambda's own form: a module, dotted or a path, then the attribute.
HANDLER = re.compile(r"[\w-]+([./][\w-]+)*\.\w+")

# Of a function's name and, ASSUMPTION, of a region's.
ARN_PART = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class Limits:
    """Lambda's limits for a function's timeout, in seconds, and memory, in MB; the least memory is the default."""

    timeout: int
    least_memory: int
    most_memory: int


# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
ON_DEMAND = Limits(900, 128, 10_240)
# Managed Instances: https://github.com/aws-cloudformation/cfn-lint/pull/4685 for the timeout,
# https://github.com/hashicorp/terraform-provider-aws/issues/46052 for the most memory. ASSUMPTION for the default: no
# source says what Lambda takes where a function names no memory.
MANAGED = Limits(5_400, 2_048, 32_768)

MAX_PORT = 65535


@dataclass(frozen=True)
class CommandLine:
    """What is asked for. `ports` has each front's port, 0 for any; `notes` are lines for the terminal. Requests for
    the `allowed_hosts` are answered, besides those for this machine."""

    configuration: Configuration
    host: str
    allowed_hosts: Sequence[str]
    ports: Mapping[str, int]
    reload: bool
    notes: Sequence[str]


def parse(arguments: Sequence[str] | None) -> CommandLine:
    """Exits with status 2 and one line if an argument, or what the template says, makes no sense."""
    given = parser().parse_args(arguments)
    if given.env_file is not None:
        if not os.path.exists(given.env_file):
            fail(f"--env-file: there is no file {str(given.env_file)!r}", 2)
        try:
            read_env_file(given.env_file)
        except OSError as error:
            fail(f"--env-file: {str(given.env_file)!r}: {error.strerror}", 2)
        except UnicodeError:
            fail(f"--env-file: {str(given.env_file)!r} is no text in UTF-8", 2)
        except FileError as error:
            fail(f"--env-file: {error}", 2)
    try:
        function = template_function(given)
        configuration, notes = configure(given, function)
    except TemplateError as error:
        fail(str(error), 2)
    allowed_hosts = [given.host.lower(), *map(allowed_host, given.allowed_hosts)]
    return CommandLine(configuration, given.host, allowed_hosts, ports(given.port, given.fronts), given.reload, notes)


def allowed_host(name: str) -> str:
    """Return the name as it is compared; exits with status 2 and one line if it is none."""
    if (found := host_name(name)) is None or ":" in name:
        fail(f"--allow-host: a name such as example.com, without scheme and port, not {name!r}", 2)
    return found


def template_function(given: argparse.Namespace) -> TemplateFunction | None:
    """None if the handler is given and nothing says that there is a template."""
    path = given.template
    if path is None:
        if given.handler is not None and given.function is None:
            return None
        path = next((Path(name) for name in NAMES if os.path.isfile(name)), None)
        if path is None and given.handler is None:
            fail(f"which handler? Give one, such as main.handler; there is no {NAMES[0]} here to say it", 2)
        if path is None:
            fail(f"--function: there is no {NAMES[0]} here", 2)
    # The region as the function will see it.
    region = Configuration(handler="", app_dir=Path(), env_file=given.env_file).region
    return read(path, given.function, region)


def configure(given: argparse.Namespace, function: TemplateFunction | None) -> tuple[Configuration, list[str]]:
    """The configuration, and lines that say what of it is the template's. Raises TemplateError."""

    def chosen(option: T | None, template: Callable[[TemplateFunction], T], default: T) -> T:
        if option is not None:
            return option
        return default if function is None else template(function)

    def source(option: str, name: str) -> str:
        return option if function is None or vars(given)[option[2:]] is not None else function.where(name)

    handler = chosen(given.handler, lambda template: template.handler, "")
    app_dir = chosen(given.app_dir, lambda template: template.app_dir, Path())
    timeout = chosen(given.timeout, lambda template: float(template.timeout), 30.0)
    limits, others, how = (ON_DEMAND, MANAGED, "with") if given.concurrency is None else (MANAGED, ON_DEMAND, "without")
    memory = chosen(given.memory, lambda template: template.memory(limits.least_memory), limits.least_memory)
    invoke_mode = chosen(given.invoke_mode, lambda template: template.invoke_mode, None)
    if not HANDLER.fullmatch(handler):
        fail(f"the handler is module.attribute, such as main.handler, not {reprlib.repr(handler)}", 2)
    if not os.path.isdir(app_dir):
        fail(f"--app-dir: there is no folder {str(app_dir)!r}", 2)
    if given.runtime == "adapter" and (hides := hiding(app_dir)) is not None:
        fail(f"--runtime adapter: {str(hides)!r} hides the package of that name, which is the runtime: rename it", 2)
    if not 0 < timeout <= limits.timeout:
        place, bounds = source("--timeout", "Timeout"), f"up to {limits.timeout} seconds"
        fail(f"{place}: Lambda's are {bounds} ({others.timeout} {how} --concurrency), not {timeout:g}", 2)
    if not limits.least_memory <= memory <= limits.most_memory:
        place, bounds = source("--memory", "MemorySize"), f"from {limits.least_memory} to {limits.most_memory} MB"
        elsewhere = f"{others.least_memory} to {others.most_memory} {how} --concurrency"
        fail(f"{place}: Lambda's are {bounds} ({elsewhere}), not {memory}", 2)
    if given.max_environments < 1:
        fail(f"--max-environments: at least 1, not {given.max_environments}", 2)
    if given.concurrency is not None and given.concurrency < 1:
        fail(f"--concurrency: at least 1, not {given.concurrency}", 2)
    if not 0 <= given.queue < math.inf:
        fail(f"--queue: 0 seconds or more, not {given.queue:g}", 2)
    if not 0 < given.idle < math.inf:
        fail(f"--idle: more than 0 seconds, not {given.idle:g}", 2)
    variables, unknown = function.variables() if function is not None else ({}, {})
    configuration = Configuration(
        handler=handler,
        app_dir=app_dir.resolve(),
        memory=memory,
        timeout=timeout,
        max_environments=given.max_environments,
        env_file=given.env_file.resolve() if given.env_file is not None else None,
        settings=variables,
        invoke_mode=invoke_mode or "RESPONSE_STREAM",
        freeze=not given.no_freeze,
        queue=given.queue,
        idle=given.idle,
        concurrency=given.concurrency,
        throttle=given.throttle,
        log_format=given.log_format,
        client=given.runtime,
    )
    for variable, value in (("AWS_REGION", configuration.region), ("AWS_LAMBDA_FUNCTION_NAME", configuration.name)):
        if not ARN_PART.fullmatch(value):
            fail(f"{variable}: up to 64 letters, digits, - and _ (it is part of an ARN), not {value!r}", 2)
    notes = []
    if "AWS_LAMBDA_EXEC_WRAPPER" in configuration.variables(runtime_api=""):
        notes.append("AWS_LAMBDA_EXEC_WRAPPER is not run here; what this library's wrapper does is --runtime adapter")
    if function is None:
        return configuration, notes
    mode: str = configuration.invoke_mode
    if invoke_mode is None:
        mode += ", as it has no function URL to go by"
        if function.fronts:
            mode += f" (for its API: {' '.join(f'--front {name}' for name in function.fronts)})"
    notes.append(f"{function.where()}: timeout {timeout:g} s, memory {memory} MB, {mode}")
    # Those that the shell or the env file sets are not missed.
    missing = unknown.keys() - configuration.variables(runtime_api="").keys()
    if missing:
        names = ", ".join(f"{name} ({unknown[name]})" for name in sorted(missing))
        notes.append(
            f"{function.where()}: not set, since only a deployed stack knows: {names}; --env-file can say them"
        )
    return configuration, notes


def hiding(app_dir: Path) -> Path | None:
    """A module of the function's with our name: Python would find that first."""
    for path in (app_dir / "adapter" / "__init__.py", app_dir / "adapter.py"):
        if os.path.isfile(path) and path.resolve() != Path(adapter.__file__):
            return path
    return None


def ports(first: int, fronts: Sequence[str]) -> dict[str, int]:
    """Each front's port; exits with status 2 and one line if one makes no sense."""
    if not 0 <= first <= MAX_PORT:
        fail(f"--port: from 0 to {MAX_PORT}, not {first}", 2)
    result = {FUNCTION_URL: first}
    following = first
    for front in fronts:
        name, equals, port = front.partition("=")
        if name not in FURTHER_FRONTS:
            fail(f"--front: one of {', '.join(FURTHER_FRONTS) or 'none'}, not {name!r}", 2)
        if name in result:
            fail(f"--front: {name} is there twice", 2)
        if equals:
            if not re.fullmatch("[0-9]{1,5}", port) or int(port) > MAX_PORT:
                fail(f"--front: a port is from 0 to {MAX_PORT}, not {port!r}", 2)
            result[name] = int(port)
        else:
            # Where the first one may have any port, so may the others.
            following += 1 if first else 0
            result[name] = following
    numbers = [port for port in result.values() if port]
    for number in numbers:
        if numbers.count(number) > 1:
            fail(f"--front: port {number} is there twice", 2)
        if number > MAX_PORT:
            fail(f"--front: the next port would be {number}; there is none above {MAX_PORT}", 2)
    return result
