"""Processes that need not import what takes long: each is forked from one that has, and has done nothing else.

A stage of the pipeline imports for some seconds to work for one. Each line of this program's input is a command as
JSON; it forks a process that becomes that command, and answers with its id, then with its exit status. The project's
own modules are not imported here: each command takes those of the folder that it is told.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import sys
import threading
import traceback
from typing import Any

LONG = (
    "torch._dynamo", "torch.utils.data", "torch.utils.flop_counter", "torchvision", "mlflow.tracking",
    "mlflow.store.tracking.sqlalchemy_store", "optuna", "pandas", "scipy.io", "scipy.ndimage", "scipy.optimize",
    "scipy.stats", "seaborn", "matplotlib.backends.backend_svg",
)  # fmt: skip


def main() -> int:
    for name in LONG:
        importlib.import_module(name)
    assert threading.active_count() == 1, "a process that forks must have no thread but this one"
    gc.freeze()  # the collector touches no page that the forks share
    for line in sys.stdin:
        if not (child := os.fork()):
            return _become(**json.loads(line))
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    return 0


def _become(argv: list[str], folder: str, environment: dict[str, str], outputs: list[str]) -> int:
    """What ``python *argv`` does in ``folder``, for ``-m`` and ``-c``; returns its exit status."""
    for number, path in enumerate([os.devnull, *outputs]):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC if number else os.O_RDONLY)
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:] = [folder, *environment.get("PYTHONPATH", "").split(os.pathsep), *sys.path[1:]]
    option, what, *rest = argv
    sys.argv = [option, *rest]
    try:
        if option == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            space: dict[str, Any] = {"__name__": "__main__"}
            exec(compile(what, "<string>", "exec"), space)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
