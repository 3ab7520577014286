from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

try:
    from adapter.local.command_line import CommandLine, parse
    from adapter.local.log import Log
    from adapter.local.parser import fail
    from adapter.local.server import serve
except ModuleNotFoundError as error:
    sys.exit(f"function-url: {error.name} is missing. Install it with: pip install 'lambda-stream-adapter[local]'")


def listen(host: str, port: int) -> socket.socket:
    """Bound and listening before the function starts; exits with status 1 and one line if it cannot be."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except socket.gaierror as error:
        reason = error.strerror
    except UnicodeError as error:
        reason = f"this is no host name: {error}"
    except OSError as error:
        # Not its own text: create_server has put the address, once more, into that.
        reason = os.strerror(error.errno) if error.errno else str(error)
    fail(f"cannot listen on {host}, port {port}: {reason}", 1)


async def run(command_line: CommandLine, listeners: Mapping[str, socket.socket], log: Log, stop: asyncio.Event) -> int:
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # nohup has SIGHUP ignored.
        if signal_number != signal.SIGHUP or signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            loop.add_signal_handler(signal_number, stop.set)
    return await serve(
        command_line.configuration, listeners, log, stop, command_line.reload, command_line.allowed_hosts
    )


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The command line.

    Exit status: 0 after Ctrl-C, SIGTERM or SIGHUP, or when nobody reads the log any more; 1 if a port cannot be had, 2
    for wrong arguments or a template that cannot be used, 3 if the function fails its init and there is no --reload.
    """
    command_line = parse(arguments)
    with contextlib.ExitStack() as stack:
        listeners = {
            name: stack.enter_context(listen(command_line.host, port)) for name, port in command_line.ports.items()
        }
        # A function may print what the terminal's encoding does not have.
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        stop = asyncio.Event()
        log = Log(sys.stdout, command_line.configuration.log_format, unread=stop.set)
        for note in command_line.notes:
            log.line(note)
        status = asyncio.run(run(command_line, listeners, log, stop))
    sys.exit(status)


if __name__ == "__main__":
    main()
