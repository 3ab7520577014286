"""The local Lambda: a function URL on your laptop whose function is a real child process. Run `python -m
adapter.local`.

    fronts/          what callers talk to: HTTP requests in, events out; responses in, HTTP replies out
    asynchronous.py  events whose callers do not wait, and what is tried again
    function.py      one function: its execution environments, and which of them takes an invocation
    environment.py   one execution environment: init, invocation after invocation, end
    runtime_api.py   the Runtime API that an environment's process talks to
    process.py       that process and its output

Nothing here is imported by the library, and nothing here imports the library: any handler that awslambdaric can run is
served.
"""
