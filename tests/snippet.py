"""A snippet of the docs as a function of its own, which can import only the packages that it says to install."""

import os
import re
import shlex
import sysconfig
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
INSTALL = re.compile(r"^(?:# )?pip install ((?:.*\\\n)*.+)$", re.MULTILINE)

# A module of its own, for every process of the function: https://docs.python.org/3/library/site.html#module-sitecustomize
SITECUSTOMIZE = """
import importlib.machinery, sys

class Installed(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        spec = super().find_spec(name, path, target)
        hidden = spec and spec.origin and spec.origin.startswith({site!r}) and spec.origin not in {files!r}
        return None if hidden else spec

sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Installed
"""


def install_line(text: str) -> list[str]:
    """The requirements of the last `pip install` in a text. Raises IndexError if there is none."""
    return shlex.split(INSTALL.findall(text)[-1].replace("\\\n#", ""), comments=True)


def brought(requirements: Iterable[str]) -> set[str]:
    """Return the names of the distributions that pip would install, by the metadata of those that are here."""
    names: set[str] = set()
    seen: set[str] = set()
    pending = list(requirements)
    while pending:
        if (text := pending.pop()) in seen:
            continue
        seen.add(text)
        requirement = Requirement(text)
        names.add(requirement.name)
        for needed in metadata.requires(requirement.name) or []:
            further = Requirement(needed)
            extras = [{"extra": extra} for extra in requirement.extras or [""]]
            if further.marker is None or any(further.marker.evaluate(extra) for extra in extras):
                further.marker = None
                pending.append(str(further))
    return names


def with_installed(requirements: Iterable[str], folder: Path) -> dict[str, str]:
    """Return the environment of processes that can import these requirements, and what is in `folder`."""
    site = sysconfig.get_path("purelib")
    # The tests' own is there as well: coverage runs in each process.
    files = {
        str(metadata.distribution(name).locate_file(file))
        for name in brought([*requirements, "coverage"])
        for file in metadata.files(name) or []
    }
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE.format(site=site, files=files))
    return {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}


def snippet(library: str, folder: Path, *also: str) -> dict[str, str]:
    """Write the one of docs/background.md with the line ``from library …`` to ``folder``.

    Returns the environment for ``main.handler``, with the packages that it says to install, and ``also`` these.
    """
    page = (ROOT / "docs" / "background.md").read_text()
    snippets = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (code,) = [code for code in snippets if re.search(rf"^from {library}\b", code, re.MULTILINE)]
    (folder / "main.py").write_text(code)
    return with_installed([*install_line(code), *also], folder)
