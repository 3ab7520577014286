"""``python -m adapter main.handler``: the asyncio runtime (`adapter.runtime`)."""

import sys

from adapter.runtime import main

sys.exit(main(sys.argv[1:]))
