"""Where ``HALFWAY_HANG`` names a migration, its code writes a mark and waits to be killed."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any


def hang_in(name: str) -> Any:
    """Return code for ``RunPython`` that counts its runs, and hangs if it is told to."""

    def code(apps: Any, schema_editor: Any) -> None:
        folder = Path(os.environ["HOST_DATA_DIR"])
        with (folder / f"runs-{name}").open("a") as runs:
            runs.write("run\n")
        if os.environ.get("HALFWAY_HANG") == name:
            (folder / "hanging").touch()
            time.sleep(60)

    return code
