"""Runs in the container: calls the function that came as the job's input, and prints its answer as the last line.

Its text is sent with each call. It uses the standard library alone, and the syntax of Python 3.6, so that a wrong
Python can be named.
"""

import base64
import json
import pickle
import sys
import traceback
import types
import zlib
from typing import Any

__all__ = ["MOST_TEXT", "answer", "main"]

MOST_TEXT = 20000
"""Characters of a traceback, or of a text in an exception, that are sent back."""


def _unpacked(text: str) -> bytes:
    return zlib.decompress(base64.b85decode(text))


def _bring_cloudpickle(source: bytes) -> Any:
    """Make the caller's cloudpickle known here: pickles are for the version that has made them."""
    package, module = types.ModuleType("cloudpickle"), types.ModuleType("cloudpickle.cloudpickle")
    package.__path__ = []
    sys.modules["cloudpickle"], sys.modules["cloudpickle.cloudpickle"] = package, module
    exec(compile(source, "cloudpickle.py", "exec"), module.__dict__)  # noqa: S102 (the caller's own copy)
    package.__dict__.update((name, value) for name, value in vars(module).items() if not name.startswith("__"))
    return module


def answer(call: Any) -> Any:
    """Return what a call gives: its value, what it raised, or why it could not be made.

    Args:
        call: the job's input; see ``jaas_submit.executor.calls``.
    """
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if here != call["python"]:
        return {"problem": f"the image runs Python {here}, the caller Python {call['python']}; both must be the same"}
    cloudpickle = _bring_cloudpickle(_unpacked(call["cloudpickle"]))
    try:
        function, args, kwargs = pickle.loads(_unpacked(call["function"]))  # noqa: S301 (the producer may run anything here)
    except ImportError as error:
        return {
            "problem": f"the image cannot import what the function needs ({error}); install it there, or name your own "
            "module in Executor(by_value=[module])"
        }
    try:
        value = function(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001 (whatever it is, the caller gets it)
        return {"raised": _raised(error, call["unpickle"], cloudpickle)}
    return _returned(value, call["unpickle"], cloudpickle)


def _returned(value: Any, as_pickle: bool, cloudpickle: Any) -> Any:
    kind = type(value).__name__
    try:
        if as_pickle:
            return {"pickle": base64.b85encode(zlib.compress(cloudpickle.dumps(value))).decode()}
        json.dumps(value, allow_nan=False)
    except Exception as error:  # noqa: BLE001 (an object may raise anything)
        remedy = "" if as_pickle else "; return plain values, or use Executor(unpickle=True)"
        return {"problem": f"the function returned a {kind} that cannot be sent back ({error}){remedy}"}
    return {"value": value}


def _raised(error: BaseException, as_pickle: bool, cloudpickle: Any) -> Any:
    if error.__traceback__ is not None:
        error.__traceback__ = error.__traceback__.tb_next  # without the call in this module
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    sys.stderr.write(text)
    found: Any = {
        "module": type(error).__module__,
        "name": type(error).__qualname__,
        "text": str(error)[:MOST_TEXT],
        "traceback": text[-MOST_TEXT:],
    }
    try:
        if len(json.dumps(error.args, allow_nan=False)) <= MOST_TEXT:
            found["args"] = error.args
        if as_pickle:
            found["pickle"] = base64.b85encode(zlib.compress(cloudpickle.dumps(error))).decode()
    except Exception:  # noqa: BLE001, S110 (then it is known by its text)
        pass
    return found


def main(call: Any) -> int:
    """Make a call, and print its answer.

    Args:
        call: the job's input.

    Returns:
        The process' exit code.
    """
    found = answer(call)
    sys.stdout.flush()
    # A function may have printed half a line, or replaced sys.stdout.
    out: Any = sys.__stdout__
    out.write("\n" + json.dumps({"jaas_call": 1, **found}) + "\n")
    out.flush()
    return 0 if "value" in found or "pickle" in found else 1
