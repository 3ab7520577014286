"""The asyncio runtime in place of the managed runtime's ``bootstrap.py``, with the import path that it would have made.

Run by the script ``exec-wrapper``: ``python -P exec_wrapper.py /var/runtime/bootstrap.py``. A function's own packages
come first, then those of layers, then the runtime's, as
https://docs.aws.amazon.com/lambda/latest/dg/python-package.html#python-package-searchpath has it.
"""

import os
import site
import sys


def search_path(bootstrap: str) -> None:
    """What ``bootstrap.py`` does; a PYTHONPATH takes the place of the layers' folders, as there."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    folders = [os.environ.get("LAMBDA_TASK_ROOT", "/var/task")]
    if "PYTHONPATH" not in os.environ:
        folders += [f"/opt/python/lib/{version}/site-packages", "/opt/python"]
    # Where the wrapper itself is, too: that need not be one of these.
    sys.path[:0] = [*folders, os.path.dirname(os.path.dirname(os.path.abspath(__file__))), os.path.dirname(bootstrap)]
    for folder in folders:
        site.addsitedir(folder)


search_path(sys.argv[1])
# For the processes that a function starts, as bootstrap.py does it.
os.environ.setdefault("PYTHONPATH", os.environ.get("LAMBDA_RUNTIME_DIR") or os.path.dirname(sys.argv[1]))

from adapter.runtime import main  # noqa: E402

sys.exit(main([os.environ["_HANDLER"]]))
