from __future__ import annotations

import asyncio
import fcntl
import math
import os
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

LAUNCHER = Path(__file__).with_name("launcher.py")
READ_SIZE = 64 * 1024
# CloudWatch cuts an event at 256 KB
# (https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/cloudwatch_limits_cwl.html).
MAX_LINE = 256 * 1024
# How often, and at an interval of how many seconds, to look whether a thawed process is back where it was.
RESUMED_CHECKS, RESUMED_INTERVAL = 20, 0.005


# The type of a frame, a level in text or in JSON: `_TEXT_FRAME_TYPES` and `_JSON_FRAME_TYPES` of awslambdaric
# (https://github.com/aws/aws-lambda-python-runtime-interface-client/blob/main/awslambdaric/lambda_runtime_log_utils.py).
# The end of the data may cut it. The message's length follows in 4 bytes, the time in 8, then the message.
FRAME_TYPE = re.compile(rb"\xa5(\Z|\x5a(\Z|\x00(\Z|[\x02\x03\x0a\x0b\x0e\x0f\x12\x13\x16\x17\x1a\x1b])))")
TYPE_SIZE, HEADER_SIZE = 4, 16


class Lines:
    """Bytes in, records out: lines, and frames as awslambdaric writes them, one for each call of its log.

    A frame keeps a record together that has several lines, or no line end, as one with a traceback. A carriage return
    is a line break too: without frames awslambdaric has them inside a traceback.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._partial = bytearray()  # a line's beginning
        self._header = b""  # a frame's, as far as it has come
        self._message = bytearray()  # a frame's, as far as it has come
        self._missing = 0  # so many bytes of it have not come yet

    def feed(self, data: bytes) -> None:
        data, self._header = self._header + data, b""
        position = 0
        while position < len(data):
            if self._missing:
                part = data[position : position + self._missing]
                position += len(part)
                self._missing -= len(part)
                self._message += part
                self._cut(self._message)
                if not self._missing:
                    self._emit(self._message.removesuffix(b"\n"))
                    self._message.clear()
                continue
            frame = FRAME_TYPE.search(data, position)
            end = frame.start() if frame else len(data)
            self._feed_lines(data[position:end])
            position = end + HEADER_SIZE
            if frame and position > len(data):
                self._header = data[end:]
            elif frame:
                self._missing = int.from_bytes(data[end + TYPE_SIZE : end + 2 * TYPE_SIZE], "big")

    def flush(self) -> None:
        """Write what has no line end yet, and what there is of a frame."""
        if len(self._header) < TYPE_SIZE:
            # A character of text may end as a frame begins.
            self._partial += self._header
            self._header = b""
        for buffer in (self._message, self._partial):
            if buffer:
                self._emit(buffer)
                buffer.clear()

    def _feed_lines(self, data: bytes) -> None:
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._emit(self._partial + line)
            self._partial.clear()
        self._partial += rest
        self._cut(self._partial)

    def _cut(self, buffer: bytearray) -> None:
        while len(buffer) > MAX_LINE:
            self._emit(buffer[:MAX_LINE])
            del buffer[:MAX_LINE]

    def _emit(self, line: bytes | bytearray) -> None:
        text = line.decode("utf-8", "backslashreplace").rstrip("\r")
        self._write(text.replace("\r\n", "\n").replace("\r", "\n"))


class FunctionProcess:
    """The process of one execution environment, in a session of its own. What it starts belongs to its group, unless it
    leaves that, and shares its fate.

    Its stdout, its stderr and its log are one pipe, so that lines keep their order.
    """

    def __init__(self, process: asyncio.subprocess.Process, output: int, lines: Lines) -> None:
        self.pid = process.pid
        self.exited: asyncio.Task[int] = asyncio.create_task(process.wait())
        self._output = output
        self._lines = lines
        self._max_memory: int | None = None
        self._frozen = False
        self._ending = False
        asyncio.get_running_loop().add_reader(output, self._readable)

    @classmethod
    async def start(
        cls,
        argv: Sequence[str],
        *,
        cwd: Path,
        variables: Mapping[str, str],
        write: Callable[[str], None],
        framed: bool = False,
    ) -> FunctionProcess:
        """With `framed` awslambdaric is given a descriptor for its log, as on Lambda; it writes frames to that."""
        read_end, write_end = os.pipe()
        try:
            os.set_blocking(read_end, False)
            log = {"_LAMBDA_TELEMETRY_LOG_FD": str(write_end)} if framed else {}
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), *argv),
                stdin=subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                cwd=cwd,
                env={**variables, **log},
                pass_fds=(write_end,) if framed else (),
                start_new_session=True,
            )
        except BaseException:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        return cls(process, read_end, Lines(write))

    @property
    def exit_reason(self) -> str:
        """In the words of Lambda's log."""
        status = self.exited.result()
        if status < 0:
            return f"Runtime exited with error: signal: {str(signal.strsignal(-status)).lower()}"
        if status > 0:
            return f"Runtime exited with error: exit status {status}"
        return "Runtime exited without providing a reason"

    def max_memory(self) -> int | None:
        """The most memory that the process has had resident so far, in MB; None where there is no /proc."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return self._max_memory
        for line in status.splitlines():
            if line.startswith("VmHWM:"):
                self._max_memory = math.ceil(int(line.split()[1]) / 1024)
        # A process that has ended has no such line: what was read last stands.
        return self._max_memory

    def drain(self) -> None:
        """Write out what the function has printed up to now.

        It takes only what is in the pipe at this moment: a thread of the function that prints for ever must not hold it
        up.
        """
        waiting = bytearray(struct.calcsize("i"))
        fcntl.ioctl(self._output, termios.FIONREAD, waiting)
        (size,) = struct.unpack("i", waiting)
        while size > 0:
            data = os.read(self._output, min(size, READ_SIZE))
            self._lines.feed(data)
            size -= len(data)
        self._lines.flush()

    def freeze(self) -> None:
        """Stop the group where it stands. It can still be killed, and its end is noticed."""
        self._frozen = True
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        if self._frozen:
            self._frozen = False
            self._signal(signal.SIGCONT)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    async def end(self, grace: float = 0.0) -> None:
        """Kill the group, write out its last lines, and reap it.

        With `grace` it has a SIGTERM first, and so many seconds to end by itself. A second call, after a first one that
        was cancelled, does not wait again.
        """
        first, self._ending = not self._ending, True
        if grace and first and not self.exited.done():
            if self._frozen:
                self.thaw()
                await self._resumed()
            self._signal(signal.SIGTERM)
            await asyncio.wait({self.exited}, timeout=grace)
        self.kill()
        await asyncio.wait({self.exited})
        self.drain()
        asyncio.get_running_loop().remove_reader(self._output)
        os.close(self._output)

    async def _resumed(self) -> None:
        """Wait until the main thread, continued, sleeps again, as it does in its GET /next; but not for long.

        The kernel gives a signal to the main thread, where Python handles it, unless that is still coming out of its
        stop. Then any other thread may have it, and a main thread that is blocked never learns of it.
        """
        for _ in range(RESUMED_CHECKS):
            await asyncio.sleep(RESUMED_INTERVAL)
            if self._state() == "S":
                return

    def _state(self) -> str:
        """The main thread's, in one letter (proc(5)); none where there is no /proc."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return ""

    def _signal(self, number: signal.Signals) -> None:
        """To the process and all that it has started in its group; the group may have gone already."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass
        except PermissionError:
            # macOS, for a group in which only zombies are left.
            pass

    def _readable(self) -> None:
        try:
            data = os.read(self._output, READ_SIZE)
        except BlockingIOError:
            # drain() was quicker, in the same turn of the loop.
            return
        if data:
            self._lines.feed(data)
        else:
            # Nobody holds the other end any more; end() closes this one.
            asyncio.get_running_loop().remove_reader(self._output)
