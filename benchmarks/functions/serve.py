"""The app behind uvicorn: ``serve.py LOOP HTTP`` prints the port."""

import socket
import sys

import uvicorn

loop, http = sys.argv[1:]
# As asyncio makes one: on a socket that is not said to be TCP it does not set TCP_NODELAY.
with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    print(listening.getsockname()[1], flush=True)
    # Between two turns of its own it may wait for long.
    config = uvicorn.Config(
        "app:app", loop=loop, http=http, log_level="warning", access_log=False, timeout_keep_alive=3600
    )
    uvicorn.Server(config).run(sockets=[listening])
