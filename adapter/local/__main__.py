from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from adapter import __version__

try:
    from adapter.local.configuration import Configuration
    from adapter.local.log import Log
    from adapter.local.server import serve
except ModuleNotFoundError as error:
    sys.exit(f"function-url: {error.name} is missing. Install it with: pip install 'lambda-stream-adapter[local]'")

# Lambda's own form: a module, dotted or a path, then the attribute.
HANDLER = re.compile(r"[\w-]+([./][\w-]+)*\.\w+")

# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
MAX_TIMEOUT = 900
MIN_MEMORY, MAX_MEMORY = 128, 10240

MAX_PORT = 65535


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="function-url", description="Serve a Lambda function behind a function URL on this machine."
    )
    result.add_argument("handler", help="as in Lambda's configuration: main.handler, or pkg/main.handler")
    result.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    result.add_argument("--port", type=int, default=8000, help="port to listen on, 0 for any (default: %(default)s)")
    result.add_argument("--memory", type=int, default=128, help="MB the function is told it has (default: %(default)s)")
    result.add_argument(
        "--timeout", type=float, default=30, help="seconds for an invocation, background work included (default: 30)"
    )
    result.add_argument(
        "--max-environments", type=int, default=10, help="requests at one time before 429 (default: %(default)s)"
    )
    result.add_argument("--reload", action="store_true", help="start new environments when the code changes")
    result.add_argument("--env-file", type=Path, help="file of NAME=value lines for the function's environment")
    result.add_argument("--app-dir", type=Path, default=Path(), help="the function's folder (default: this one)")
    result.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return result


def fail(message: str, status: int) -> NoReturn:
    sys.stderr.write(f"function-url: {message}\n")
    sys.exit(status)


def configure(arguments: argparse.Namespace) -> Configuration:
    """Exits with status 2 and one line if an argument makes no sense."""
    if not HANDLER.fullmatch(arguments.handler):
        fail(f"the handler is module.attribute, such as main.handler, not {arguments.handler!r}", 2)
    if not arguments.app_dir.is_dir():
        fail(f"--app-dir: there is no folder {str(arguments.app_dir)!r}", 2)
    if arguments.env_file is not None and not arguments.env_file.is_file():
        fail(f"--env-file: there is no file {str(arguments.env_file)!r}", 2)
    if not 0 < arguments.timeout <= MAX_TIMEOUT:
        fail(f"--timeout: Lambda's are up to {MAX_TIMEOUT} seconds, not {arguments.timeout:g}", 2)
    if not MIN_MEMORY <= arguments.memory <= MAX_MEMORY:
        fail(f"--memory: Lambda's are from {MIN_MEMORY} to {MAX_MEMORY} MB, not {arguments.memory}", 2)
    if not 0 <= arguments.port <= MAX_PORT:
        fail(f"--port: from 0 to {MAX_PORT}, not {arguments.port}", 2)
    if arguments.max_environments < 1:
        fail(f"--max-environments: at least 1, not {arguments.max_environments}", 2)
    return Configuration(
        handler=arguments.handler,
        app_dir=arguments.app_dir.resolve(),
        memory=arguments.memory,
        timeout=arguments.timeout,
        max_environments=arguments.max_environments,
        env_file=arguments.env_file.resolve() if arguments.env_file is not None else None,
    )


def listen(host: str, port: int) -> socket.socket:
    """Bound and listening before the function starts; exits with status 1 and one line if it cannot be."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except socket.gaierror as error:
        reason = error.strerror
    except OSError as error:
        # Not its own text: create_server has put the address, once more, into that.
        reason = os.strerror(error.errno) if error.errno else str(error)
    fail(f"cannot listen on {host}, port {port}: {reason}", 1)


async def run(configuration: Configuration, listener: socket.socket, log: Log, reload: bool) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signal_number, stop.set)
    return await serve(configuration, {"function-url": listener}, log, stop, reload)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The command line.

    Exit status: 0 after Ctrl-C or SIGTERM, 1 if the port cannot be had, 2 for wrong arguments, 3 if the function fails
    its init and there is no --reload.
    """
    parsed = parser().parse_args(arguments)
    configuration = configure(parsed)
    with listen(parsed.host, parsed.port) as listener:
        # A function may print what the terminal's encoding does not have.
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        status = asyncio.run(run(configuration, listener, Log(sys.stdout), parsed.reload))
    sys.exit(status)


if __name__ == "__main__":
    main()
