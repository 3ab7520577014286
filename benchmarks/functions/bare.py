"""No runtime, no adapter, no app: the pieces that an event asks for, by a blocking ``sendall`` each."""

import json
import os
import socket
from urllib.parse import parse_qs


def request(sock: socket.socket, message: bytes) -> bytes:
    sock.sendall(message)
    received = b""
    while b"\r\n\r\n" not in received:
        received += sock.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += sock.recv(65536)
    return body


host, number = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
with socket.create_connection((host, int(number))) as sock:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while True:
        event = json.loads(request(sock, b"GET /next HTTP/1.1\r\n\r\n"))
        count = int(event["rawPath"].rpartition("/")[2])
        query = parse_qs(event["rawQueryString"])
        size = int(query["size"][0])
        piece = b"x" * size
        if "chunked" in query:  # with the framing of a streamed response: each piece can be told from the next
            piece = b"%x\r\n%s\r\n" % (size, piece)
            sock.sendall(
                b"POST /response HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n8\r\n%s\r\n" % bytes(8)
            )
        else:
            sock.sendall(b"POST /response HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (count * size))
        for _ in range(count):
            sock.sendall(piece)
        request(sock, b"0\r\n\r\n" if "chunked" in query else b"")
