"""A runtime that does what each event's body tells it, with raw sockets: `python scripted.py`. On a managed instance
it has as many workers as that takes invocations, threads of one process.

The body is a JSON list of steps, each a list of a method of `Invocation` and its arguments. What the variable
`RUNTIME_INIT` names is done before the first GET /next: steps of `INIT`, each with its argument ("name=argument"),
separated by ";".
"""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

HOST, PORT = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
PREFIX = "/2018-06-01/runtime"
EXTENSION = "/2020-01-01/extension"
PRELUDE_TYPE = "application/vnd.awslambda.http-integration-response"


class Connection:
    def __init__(self) -> None:
        self.socket = socket.create_connection((HOST, int(PORT)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def reply(self) -> tuple[int, dict[str, str], bytes]:
        status = int(self.file.readline().split()[1])
        headers = {}
        while (line := self.file.readline().strip()) != b"":
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        return status, headers, self.file.read(int(headers["content-length"]))


class Invocation:
    def __init__(self, headers: dict[str, str]) -> None:
        self.path = f"{PREFIX}/invocation/{headers['lambda-runtime-aws-request-id']}"
        self.request_id = headers["lambda-runtime-aws-request-id"]
        self.nonce = headers["lambda-runtime-invocation-id"]
        self.stream = Connection()

    def post(self, what: str, body: str, headers: dict[str, str]) -> None:
        """A whole POST to /response or /error; prints the status."""
        connection = Connection()
        data = body.encode()
        lines = [f"POST {self.path}/{what} HTTP/1.1", f"Host: {HOST}", f"Content-Length: {len(data)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        connection.send("\r\n".join([*lines, "", ""]).encode() + data)
        print(what, connection.reply()[0])

    def open(self, content_type: str = PRELUDE_TYPE) -> None:
        """The head of a streamed response."""
        self.stream.send(
            f"POST {self.path}/response HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n"
            f"Content-Type: {content_type}\r\nLambda-Runtime-Function-Response-Mode: streaming\r\n"
            "Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n"
            f"Lambda-Runtime-Invocation-Id: {self.nonce}\r\n\r\n".encode()
        )

    def chunk(self, text: str) -> None:
        data = text.encode("latin-1")
        self.stream.send(b"%x\r\n%b\r\n" % (len(data), data))

    def prelude(self, value: Any) -> None:
        self.chunk(json.dumps(value))
        self.chunk("\0" * 8)

    def bytes(self, size: int) -> None:
        """So many bytes, in chunks of 64 KiB."""
        while size > 0:
            part = min(size, 64 * 1024)
            self.stream.send(b"%x\r\n%b\r\n" % (part, b"x" * part))
            size -= part

    def slowly(self, text: str) -> None:
        """As one chunk for each byte."""
        for character in text:
            self.chunk(character)

    def end(self, error_type: str = "", error: Any = None) -> None:
        """The terminator, with error trailers if there is an error; prints the status."""
        self.stream.send(b"0\r\n")
        if error_type:
            body = base64.b64encode(json.dumps(error).encode()).decode()
            self.stream.send(
                f"Lambda-Runtime-Function-Error-Type: {error_type}\r\n"
                f"Lambda-Runtime-Function-Error-Body: {body}\r\n".encode()
            )
        self.stream.send(b"\r\n")
        print("response", self.stream.reply()[0])

    def cut(self) -> None:
        """The end of file in the middle of a chunk; prints the status."""
        self.stream.send(b"ff\r\nincomplete")
        self.stream.socket.shutdown(socket.SHUT_WR)
        print("response", self.stream.reply()[0])

    def gate(self, port: int) -> None:
        gate(port)

    def print(self, text: str, end: str = "\n") -> None:
        sys.stdout.write(text + end)
        sys.stdout.flush()

    def identify(self) -> None:
        print("request", self.request_id, "invocation", self.nonce, flush=True)

    def exit(self, status: int) -> None:
        os._exit(status)

    def exit_without(self, path: str) -> None:
        """Exit with status 9, until the test makes this file."""
        if not os.path.exists(path):
            os._exit(9)

    def hang(self) -> None:
        time.sleep(600)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def later(self, port: int, text: str) -> None:
        """Print, from a thread, when the test says so."""

        def speak() -> None:
            gate(port)
            self.print(text)

        threading.Thread(target=speak, daemon=True).start()

    def respond_at_sigterm(self) -> None:
        def respond(*_: Any) -> None:
            self.post("response", "{}", {})
            os._exit(0)

        signal.signal(signal.SIGTERM, respond)

    def child(self) -> None:
        """Leave a child process behind; prints its pid."""
        print("child", subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid)


def gate(port: int) -> None:
    """Wait for the test."""
    with socket.create_connection(("127.0.0.1", port)) as gate:
        gate.sendall(b"%d\n" % os.getpid())
        gate.recv(1)


def fail(how: str) -> None:
    if how == "exit":
        os._exit(4)
    connection = Connection()
    body = json.dumps({"errorType": "Runtime.NoTea", "errorMessage": "there is none"})
    connection.send(
        f"POST {PREFIX}/init/error HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {len(body)}\r\n"
        f"Lambda-Runtime-Function-Error-Type: Runtime.NoTea\r\n\r\n{body}".encode()
    )
    print("init error", connection.reply()[0])
    sys.exit(1)


def fail_once(file: str) -> None:
    """The first environment leaves the file behind."""
    if not os.path.exists(file):
        open(file, "x").close()
        os._exit(4)


def on_signal(what: str) -> None:
    """Says that SIGTERM or SIGCONT has come; after SIGTERM it exits, if it is not stubborn."""

    def said(number: int, _: Any) -> None:
        print("signal", signal.Signals(number).name)
        if number == signal.SIGTERM and what != "stubborn":
            os._exit(0)

    signal.signal(signal.SIGTERM, said)
    signal.signal(signal.SIGCONT, said)


def extension(what: str) -> None:
    """An internal extension that lives in a thread: "[]", or "INVOKE" and a gate's port to stop at with each event."""
    events, _, port = what.partition(":")
    body = json.dumps({"events": [] if events == "[]" else [events]})
    connection = Connection()
    connection.send(
        f"POST {EXTENSION}/register HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {len(body)}\r\n"
        f"Lambda-Extension-Name: scripted\r\n\r\n{body}".encode()
    )
    status, headers, _ = connection.reply()
    print("extension", status)
    identifier = headers["lambda-extension-identifier"]

    def live() -> None:
        while True:
            connection.send(
                f"GET {EXTENSION}/event/next HTTP/1.1\r\nHost: {HOST}\r\n"
                f"Lambda-Extension-Identifier: {identifier}\r\n\r\n".encode()
            )
            _, _, event = connection.reply()
            print("extension", json.loads(event)["eventType"])
            gate(int(port))

    threading.Thread(target=live, daemon=True).start()


INIT: dict[str, Callable[[str], None]] = {
    "extension": extension,
    "fail": fail,
    "fail_once": fail_once,
    "gate": lambda port: gate(int(port)),
    "on_signal": on_signal,
    "say": print,
}


def main() -> None:
    for step in filter(None, os.environ.get("RUNTIME_INIT", "").split(";")):
        name, _, argument = step.partition("=")
        INIT[name](argument)
    api = Connection()
    while True:
        api.send(f"GET {PREFIX}/invocation/next HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        _, headers, event = api.reply()
        invocation = Invocation(headers)
        for name, *arguments in json.loads(json.loads(event)["body"]):
            getattr(invocation, name)(*arguments)


if __name__ == "__main__":
    for _ in range(int(os.environ.get("AWS_LAMBDA_MAX_CONCURRENCY", "1")) - 1):
        threading.Thread(target=main).start()
    main()
