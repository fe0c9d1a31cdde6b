"""A process with Django set up that runs one management command, or script, after the other.

Starting a process for each takes longer than most commands do. It reads a JSON object a line:
``{"argv": [...]}`` or ``{"script": "..."}``, and answers with exit status and output.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import traceback
from typing import Any

import django
from django.core.management import execute_from_command_line


def answer(wanted: dict[str, Any]) -> dict[str, Any]:
    """Do what is wanted, as a process of its own would; return what it would have left."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            if "script" in wanted:
                exec(wanted["script"], {})
            else:
                execute_from_command_line(["manage.py", *wanted["argv"]])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except Exception:  # noqa: BLE001 - told to the test, whatever it is
            traceback.print_exc()
            code = 1
    return {"code": code, "out": out.getvalue(), "err": err.getvalue()}


if __name__ == "__main__":
    django.setup()
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
