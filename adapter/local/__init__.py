"""The local Lambda: a function on your laptop that is a real child process, behind a function URL and other fronts. Run
`python -m adapter.local`.

    fronts/          what callers talk to: HTTP requests in, events out; responses in, HTTP replies out
    asynchronous.py  events whose callers do not wait, and what is tried again
    function.py      one function: its execution environments, and which of them takes an invocation
    environment.py   one execution environment: init, invocation after invocation, end
    runtime_api.py   the Runtime API that an environment's process talks to; listener.py: its port; extensions.py: the
                     Extensions API beside it
    process.py       that process and its output

    managed_instance.py, managed_environment.py, managed_runtime_api.py, log_socket.py
                     the same four for Lambda Managed Instances: one environment, several invocations at a time

    parser.py, command_line.py, template.py, intrinsics.py, configuration.py, env_file.py, files.py
                     what is asked for, on the command line, by a SAM template or an env file
    web_pages.py     what the pages in the developer's browser may not do
    log.py, presentation.py, timeline.py
                     what the terminal shows

Nothing here is imported by the library, and nothing here imports the library: any handler that awslambdaric can run is
served.
"""
