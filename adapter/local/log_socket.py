from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import struct
import tempfile
import termios
from collections.abc import Callable

from adapter.local.process import READ_SIZE, Lines


class LogSocket:
    """Where the workers of a managed instance write: each connects once for its stdout and once for its stderr, so that
    the lines of several do not mix.

    awslambdaric's workers find it by the variable `_LAMBDA_TELEMETRY_LOG_FD_PROVIDER_SOCKET`.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._outputs: dict[socket.socket, Lines] = {}
        self._listener = socket.socket(socket.AF_UNIX)
        # The socket has a name for this moment only, so that a SIGKILL leaves nothing in the temporary folder. Workers
        # reach it by way of this process's descriptor. So does `bind`: a socket's path has at most 107 bytes, and the
        # folder's may have more.
        with tempfile.TemporaryDirectory(prefix="lambda-log-") as folder:
            descriptor = os.open(folder, os.O_PATH)
            try:
                name = f"/proc/self/fd/{descriptor}/socket"
                self._listener.bind(name)
                self._descriptor = os.open(name, os.O_PATH)
            finally:
                os.close(descriptor)
        self.path = f"/proc/{os.getpid()}/fd/{self._descriptor}"
        self._listener.listen()
        self._listener.setblocking(False)
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def drain(self) -> None:
        """Write out the lines that are complete up to now."""
        self._accept()
        for output in list(self._outputs):
            waiting = bytearray(struct.calcsize("i"))
            fcntl.ioctl(output, termios.FIONREAD, waiting)
            (size,) = struct.unpack("i", waiting)
            if size > 0:
                self._outputs[output].feed(output.recv(size))

    def close(self) -> None:
        self.drain()
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listener)
        self._listener.close()
        for output in list(self._outputs):
            self._end(output)
        os.close(self._descriptor)

    def _accept(self) -> None:
        try:
            output, _ = self._listener.accept()
        except BlockingIOError:
            return
        output.setblocking(False)
        self._outputs[output] = Lines(self._write)
        asyncio.get_running_loop().add_reader(output, self._readable, output)
        self._accept()

    def _readable(self, output: socket.socket) -> None:
        try:
            data = output.recv(READ_SIZE)
        except BlockingIOError:
            # drain() was quicker, in the same turn of the loop.
            return
        except ConnectionError:
            data = b""
        if data:
            self._outputs[output].feed(data)
        else:
            self._end(output)

    def _end(self, output: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(output)
        self._outputs.pop(output).flush()
        output.close()
