"""A snippet of docs/background.md as a function of its own."""

import os
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def snippet(library: str, folder: Path) -> dict[str, str]:
    """Write the one with the line ``from library …`` to ``folder``; the environment for ``main.handler``."""
    page = (ROOT / "docs" / "background.md").read_text()
    snippets = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (code,) = [code for code in snippets if re.search(rf"^from {library}\b", code, re.MULTILINE)]
    (folder / "main.py").write_text(code)
    return {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
