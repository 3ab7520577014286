"""The wheel: what is in it, what it pulls in, and that it works without the extra."""

import email.parser
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import adapter

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True)
    (built,) = folder.glob("*.whl")
    return built


def test_what_is_in_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        wrapper = archive.getinfo("adapter/exec-wrapper")
        metadata = next(name for name in names if name.endswith("/METADATA"))
        fields = email.parser.Parser().parsestr(archive.read(metadata).decode())
    assert {name.partition("/")[0] for name in names if "dist-info" not in name} == {"adapter"}
    assert {"adapter/py.typed", "adapter/asgi.py", "adapter/local/launcher.py"} <= set(names)
    assert wrapper.external_attr >> 16 & 0o111 == 0o111  # pip keeps it executable
    assert fields["License-Expression"] == "MIT"
    needed = [line for line in fields.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert needed == ["awslambdaric>=2.2", "awslambdaric>=3; python_version >= '3.13'", "mangum>=0.19"]
    assert fields.get_all("Provides-Extra") == ["fast", "local", "powertools"]


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = re.findall(r"Python :: (3\.\d+)\b", "\n".join(PROJECT["classifiers"]))


@pytest.mark.parametrize("version", PYTHONS)
def test_the_lower_bounds_install_on_each_python(version: str, tmp_path: Path) -> None:
    """Without a compiler. `make test-lowest` runs tests with them, on the Python that it is given."""
    allowed = [
        *PROJECT["dependencies"],
        *(line for extra in PROJECT["optional-dependencies"].values() for line in extra),
    ]
    lowest: dict[str, str] = {}
    for line in allowed:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"python_version": version}):
            (bound,) = requirement.specifier
            assert bound.operator == ">="
            lowest[requirement.name] = f"{requirement.name}=={bound.version}"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--dry-run",
        "--ignore-installed",
        "--target",
        str(tmp_path),
    ]
    only = ["--only-binary", ":all:", "--python-version", version]
    done = subprocess.run([*pip, *only, *lowest.values()], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_library_alone(wheel: Path, tmp_path: Path) -> None:
    """What Lambda has: no extra, no framework. The local Lambda says what it lacks."""
    venv.create(tmp_path, symlinks=True, with_pip=False)
    python = str(tmp_path / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    subprocess.run([*pip, str(wheel)], check=True)
    script = (
        "import sys, adapter; handler = adapter.StreamingAdapter(lambda scope, receive, send: None, lifespan='off');"
        "print([name for name in ('h11', 'uvicorn', 'watchfiles', 'dotenv', 'mangum') if name in sys.modules])"
    )
    alone = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True)
    assert alone.stdout == "[]\n"
    local = subprocess.run([python, "-m", "adapter.local", "main.handler"], capture_output=True, text=True)
    assert local.returncode == 1
    assert local.stderr.splitlines() == [
        "function-url: dotenv is missing. Install it with: pip install 'lambda-stream-adapter[local]'"
    ]


def test_public_names_are_imported_when_they_are_asked_for() -> None:
    script = (
        "import sys, adapter; print('adapter.asgi' in sys.modules, 'adapter.handler' in sys.modules);"
        "[getattr(adapter, name) for name in adapter.__all__]; from adapter import StreamingAdapter, streamify;"
        "print(callable(streamify), adapter.streamify is streamify)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["False False", "True True"]
    with pytest.raises(AttributeError, match="module 'adapter' has no attribute 'streamed'"):
        adapter.streamed  # type: ignore[attr-defined]  # noqa: B018
