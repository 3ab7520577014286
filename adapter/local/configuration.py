from __future__ import annotations

import datetime
import functools
import os
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from adapter.local.env_file import read_env_file

ACCOUNT = "123456789012"

# Set in the shell or an env file, these would make awslambdaric something else than it is to be here (several
# invocations at once; log lines in frames on a descriptor, or on sockets, of their own).
NOT_INHERITED = ("AWS_LAMBDA_MAX_CONCURRENCY", "_LAMBDA_TELEMETRY_LOG_FD", "_LAMBDA_TELEMETRY_LOG_FD_PROVIDER_SOCKET")


@dataclass(frozen=True)
class Configuration:
    """What a function is, in Lambda's terms
    (https://docs.aws.amazon.com/lambda/latest/api/API_FunctionConfiguration.html).

    `memory` is in MB: the function is told and REPORT shows it, nothing enforces it. `timeout` is in seconds, for the
    whole invocation, background work included. `command` replaces `python -m <client> <handler>`. `invoke_mode` is
    the function URL's. `queue` is how many seconds an invocation waits at the cap before it is refused, `idle` after
    how many an environment without work ends. With `concurrency` the function runs as on Lambda Managed Instances: one
    environment, that many invocations at a time. `settings` are environment variables; those of the env file win.
    `log_format` is how the function is told to log, and how this log is written. `client` is the runtime client's
    module: AWS's own, or `adapter`, the asyncio runtime.
    """

    handler: str
    app_dir: Path
    memory: int = 128
    timeout: float = 30.0
    max_environments: int = 10
    env_file: Path | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    invoke_mode: Literal["RESPONSE_STREAM", "BUFFERED"] = "RESPONSE_STREAM"
    freeze: bool = True
    queue: float = 0.1
    idle: float = 300.0
    concurrency: int | None = None
    throttle: bool = False
    log_format: Literal["text", "json"] = "text"
    client: Literal["awslambdaric", "adapter"] = "awslambdaric"
    command: tuple[str, ...] | None = None

    @property
    def runtime(self) -> str:
        return f"python{sys.version_info.major}.{sys.version_info.minor}"

    @property
    def initialization_type(self) -> str:
        return "on-demand" if self.concurrency is None else "lambda-managed-instances"

    @property
    def argv(self) -> tuple[str, ...]:
        return self.command or (sys.executable, "-m", self.client, self.handler)

    @functools.cached_property
    def region(self) -> str:
        variables = self._user_variables()
        return variables.get("AWS_REGION") or variables.get("AWS_DEFAULT_REGION") or "us-east-1"

    @functools.cached_property
    def name(self) -> str:
        return self._user_variables().get("AWS_LAMBDA_FUNCTION_NAME") or "local"

    @property
    def arn(self) -> str:
        return f"arn:aws:lambda:{self.region}:{ACCOUNT}:function:{self.name}"

    def variables(self, runtime_api: str) -> dict[str, str]:
        """The environment variables of a new environment's process; `runtime_api` is host:port.

        The names are those of https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html. The env file is
        read each time, so that a new environment has what it says now.
        """
        variables = self._user_variables()
        for name in NOT_INHERITED:
            variables.pop(name, None)
        if self.log_format == "json":
            variables["AWS_LAMBDA_LOG_FORMAT"] = "JSON"
        task_root = str(self.app_dir)
        # Parts that are empty would put the working directory on the path a second time.
        python_path = [task_root, *filter(None, variables.get("PYTHONPATH", "").split(os.pathsep))]
        if variables.get("PYTHONPATH") == os.environ.get("PYTHONPATH"):
            # The shell's: what is relative in it is so to the folder we are in, and not to the function's.
            python_path = [os.path.abspath(part) for part in python_path]
        now = datetime.datetime.now(datetime.UTC)
        variables.update(
            AWS_LAMBDA_RUNTIME_API=runtime_api,
            _HANDLER=self.handler,
            LAMBDA_TASK_ROOT=task_root,
            # On Lambda the folder of the runtime's own code; here that is wherever awslambdaric is installed.
            LAMBDA_RUNTIME_DIR=str(Path(sys.executable).parent),
            AWS_EXECUTION_ENV=f"AWS_Lambda_{self.runtime}",
            AWS_LAMBDA_FUNCTION_NAME=self.name,
            AWS_LAMBDA_FUNCTION_VERSION="$LATEST",
            AWS_LAMBDA_FUNCTION_MEMORY_SIZE=str(self.memory),
            AWS_LAMBDA_INITIALIZATION_TYPE=self.initialization_type,
            AWS_LAMBDA_LOG_GROUP_NAME=f"/aws/lambda/{self.name}",
            AWS_LAMBDA_LOG_STREAM_NAME=f"{now:%Y/%m/%d}/[$LATEST]{uuid.uuid4().hex}",
            AWS_REGION=self.region,
            AWS_DEFAULT_REGION=self.region,
            TZ=":UTC",
            PYTHONPATH=os.pathsep.join(python_path),
            # The output is a pipe here; block buffering would show a line long after it was printed.
            PYTHONUNBUFFERED="1",
        )
        if self.concurrency is not None:
            # https://docs.aws.amazon.com/lambda/latest/dg/lambda-managed-instances-runtimes.html; logs are JSON only.
            variables.update(
                AWS_LAMBDA_MAX_CONCURRENCY=str(self.concurrency),
                AWS_LAMBDA_LOG_FORMAT="JSON",
            )
        if variables.get("AWS_LAMBDA_LOG_FORMAT") == "JSON":
            # ASSUMPTION: the level that LoggingConfig has where it names none.
            variables.setdefault("AWS_LAMBDA_LOG_LEVEL", "INFO")
        return variables

    def _user_variables(self) -> dict[str, str]:
        return {**os.environ, **self.settings, **self._env_file_variables()}

    def _env_file_variables(self) -> Mapping[str, str]:
        return {} if self.env_file is None else read_env_file(self.env_file)
