from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import watchfiles

from adapter.local.configuration import Configuration
from adapter.local.function import Function
from adapter.local.log import Log
from adapter.local.managed_instance import ManagedInstance


@dataclass(frozen=True)
class Watched:
    """A folder, and what in it is a reason to reload."""

    folder: Path
    recursive: bool
    wanted: Callable[[watchfiles.Change, str], bool]


def watched(configuration: Configuration) -> list[Watched]:
    """Where code can change: Python files under the app dir, and the env file."""
    app_dir, env_file = configuration.app_dir, configuration.env_file
    python_files = watchfiles.PythonFilter()

    def code(change: watchfiles.Change, path: str) -> bool:
        # Also the folder itself: a build may put a new one in its place.
        return Path(path) == app_dir or python_files(change, path)

    found = [Watched(app_dir, True, code)]
    if env_file is not None:
        # The env file's folder and not the file: editors put a new file in its place.
        found.append(Watched(env_file.parent, False, lambda _, path: Path(path) == env_file))
    return found


async def watch(function: Function | ManagedInstance, log: Log, place: Watched, ready: asyncio.Event) -> None:
    """Reload when something there changes; what changes before it is `ready` waits for that."""
    folder = place.folder
    skips_unreadable = False  # and what is beyond the system's limit for watches, which is not to go unnoticed
    while True:
        watching = watchfiles.awatch(
            folder,
            watch_filter=place.wanted,
            recursive=place.recursive,
            ignore_permission_denied=skips_unreadable,
        )
        try:
            async for changes in watching:
                is_gone = (watchfiles.Change.deleted, str(folder)) in changes
                while not folder.is_dir():  # noqa: ASYNC110  # nobody tells of a folder that is not there
                    await asyncio.sleep(0.1)
                await ready.wait()
                names = sorted({Path(path).name for _, path in changes})
                log.line(f"{', '.join(names)} changed: environments of the old code end, a new one starts")
                function.reload()
                if is_gone:
                    break  # another folder of this name is there now
        except (OSError, RuntimeError, ExceptionGroup) as raised:
            error: Exception = raised
            while isinstance(error, ExceptionGroup):  # watchfiles' own task group
                error = error.exceptions[0]
            if isinstance(error, PermissionError) and not skips_unreadable:
                skips_unreadable = True
            elif "Unable to decode path" not in str(error):  # of a file whose name is not UTF-8: no Python module
                log.line(f"{folder} cannot be watched, and a change there goes unnoticed: {error}")
                return
