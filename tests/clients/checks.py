"""How does a client say what worked? Each program runs its checks in order and prints one line a check, which `main.py` counts:

    ok NAME            or            FAILED NAME: why

Where the server and the model are stands in the environment.
"""

import asyncio
import inspect
import os
import sys
import traceback

URL = os.environ.get("CLIENTS_URL", "")
MODEL = "smollm2"
CHECKS = []


def check(function):
    """Registers a check; its name is what it holds."""
    CHECKS.append(function)
    return function


def run():
    """Runs all checks of this program."""
    n_failed = 0
    for function in CHECKS:
        name = function.__name__.replace("_", " ")
        try:
            result = function()
            if inspect.iscoroutine(result):
                result = asyncio.run(result)
            print(f"ok {name}" + (f" ({result})" if result else ""), flush=True)
        except Exception as error:
            n_failed += 1
            where = traceback.extract_tb(error.__traceback__)
            ours = [frame for frame in where if os.path.dirname(frame.filename) == os.path.dirname(os.path.abspath(__file__))]
            frame = (ours or where)[-1]
            why = f"{type(error).__name__} {error}".strip().replace("\n", " ")[:600]
            print(f"FAILED {name}: {os.path.basename(frame.filename)}:{frame.lineno} `{frame.line}` {why}", flush=True)
    sys.exit(1 if n_failed else 0)


def raises(kind, function):
    """The error of a call that must fail with one of this kind."""
    try:
        function()
    except kind as error:
        return error
    raise AssertionError(f"expected {kind.__name__}, found an answer")
