"""The command line's options."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from adapter import __version__
from adapter.local.presentation import show_controls
from adapter.local.server import FRONTS

# The front that is always there, on --port.
FUNCTION_URL = "function-url"
FURTHER_FRONTS = sorted(FRONTS.keys() - {FUNCTION_URL})

DESCRIPTION = """\
Serve a Lambda function behind a function URL on this machine. In a folder with a SAM or CloudFormation template no
argument is needed: it serves the template's function, with its timeout, memory and environment variables.
"""


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        fail(f"{message} (--help says what there is)", 2)


def parser() -> argparse.ArgumentParser:
    result = Parser(
        prog="function-url",
        usage="%(prog)s [options] [handler]",
        description=DESCRIPTION,
        add_help=False,
        allow_abbrev=False,
    )

    add = result.add_argument_group("the function").add_argument
    add("handler", nargs="?", help="as in Lambda's configuration: main.handler, or pkg/main.handler")
    add(
        "--template", type=Path, metavar="FILE", help="SAM or CloudFormation; without a handler ./template.yaml is read"
    )
    add("--function", metavar="NAME", help="its logical id, if the template has several functions")
    add("--app-dir", type=Path, metavar="FOLDER", help="its code (default: the template's, or this folder)")
    add("--env-file", type=Path, metavar="FILE", help="NAME=value lines for its environment")
    add(
        "--runtime",
        choices=("awslambdaric", "adapter"),
        default="awslambdaric",
        help="AWS's runtime client, or this package's asyncio runtime (default: awslambdaric)",
    )
    add("--reload", action="store_true", help="start new environments when the code changes")

    add = result.add_argument_group("limits, as on Lambda").add_argument
    add(
        "--timeout",
        type=float,
        metavar="SECONDS",
        help="for an invocation, background work included, up to 900, or 5400 with --concurrency (default: the"
        " template's, or 30)",
    )
    add(
        "--memory",
        type=int,
        metavar="MB",
        help="what it is told it has, 128 to 10240, or 2048 to 32768 with --concurrency (default: the template's, or"
        " the least)",
    )
    add("--max-environments", type=int, default=10, metavar="N", help="requests at one time before 429 (default: 10)")
    add("--queue", type=float, default=0.1, metavar="SECONDS", help="wait for one of them to be free (default: 0.1)")
    add("--idle", type=float, default=300.0, metavar="SECONDS", help="before an unused one ends (default: 300)")
    add("--concurrency", type=int, metavar="N", help="Managed Instances: one environment, N invocations at one time")
    add("--no-freeze", action="store_true", help="let the process run between invocations; Lambda does not")
    add("--throttle", action="store_true", help="send a long response no faster than Lambda does")

    add = result.add_argument_group("fronts").add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    add(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        dest="allowed_hosts",
        help="answer for this Host too, as a tunnel's, where only localhost is; .NAME for all below; may be repeated",
    )
    add("--port", type=int, default=8000, help="the function URL's, 0 for any (default: 8000)")
    add(
        "--invoke-mode",
        choices=("RESPONSE_STREAM", "BUFFERED"),
        help="the function URL's (default: the template's, or RESPONSE_STREAM)",
    )
    add(
        "--front",
        action="append",
        default=[],
        metavar="NAME[=PORT]",
        dest="fronts",
        help=f"one more, on PORT or the next after --port; may be repeated ({', '.join(FURTHER_FRONTS) or 'none'})",
    )

    add = result.add_argument_group("terminal").add_argument
    add("--log-format", choices=("text", "json"), default="text", help="the function's and ours (default: text)")
    add("--version", action="version", version=f"%(prog)s {__version__}", help="show the version and exit")
    add("-h", "--help", action="help", help="show this and exit")
    return result


def fail(message: str, status: int) -> NoReturn:
    sys.stderr.write(f"function-url: {show_controls(message)}\n")
    sys.exit(status)
