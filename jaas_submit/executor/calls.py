"""A call of a function as a job's input, and its answer as a value or an exception."""

from __future__ import annotations

import ast
import base64
import builtins
import json
import pickle
import re
import sys
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from importlib.resources import files
from types import ModuleType
from typing import Any, Final

from jaas_submit.errors import FunctionFailed, JaasError, SpecError, how_to_install
from jaas_submit.model.bounds import shown
from jaas_submit.model.result import JobResult

__all__ = ["COMMAND", "RemoteTraceback", "call_input", "exception_of", "job_name", "name_of", "value_of"]

COMMAND: Final = (
    "import json,os,sys;c=json.load(open(os.environ['JAAS_INPUT']));m={'__name__':'jaas'};exec(c['run'],m);"
    "sys.exit(m['main'](c))"
)
"""What the container's Python runs: the text that came with the input."""

_BY_VALUE: Final = threading.Lock()
"""Which modules are pickled by value is a setting of cloudpickle for all threads."""


class RemoteTraceback(Exception):
    """The traceback in the container, as the cause of the exception here.

    Args:
        text: as Python prints it there.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def name_of(function: Callable[..., Any]) -> str:
    """Return what a function is called, for people: ``shop.convert``."""
    name = getattr(function, "__qualname__", type(function).__name__)
    module = getattr(function, "__module__", "") or ""
    return name if module in {"", "__main__", "builtins"} else f"{module}.{name}"


def job_name(name: str) -> str:
    """Return a function's name as the name of its jobs: without the characters that those cannot have.

    Args:
        name: as ``name_of`` gives it.
    """
    return re.sub(r"[^a-zA-Z0-9_.-]+", "", name.rpartition("<locals>.")[2])[-64:].lstrip("_.-") or "function"


def call_input(
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    by_value: Sequence[ModuleType],
    *,
    unpickle: bool,
) -> dict[str, Any]:
    """Return a call as the input of a job.

    Args:
        function: the function.
        args: its arguments.
        kwargs: its named arguments.
        by_value: modules whose functions and classes are sent along.
        unpickle: whether the answer may be a pickle.

    Raises:
        SpecError: it cannot be pickled.
        JaasError: cloudpickle is not installed.
    """
    try:
        import cloudpickle
    except ImportError as error:
        raise JaasError(f"functions need cloudpickle: {how_to_install('functions')}") from error
    with _BY_VALUE, ExitStack() as after:
        for module in by_value:
            cloudpickle.register_pickle_by_value(module)
            after.callback(cloudpickle.unregister_pickle_by_value, module)
        try:
            made = cloudpickle.dumps((function, tuple(args), dict(kwargs)))
        except Exception as error:
            raise SpecError(
                f"{name_of(function)}: cannot be sent: {shown(str(error))}; open files, connections and locks inside "
                "the function",
                field="input",
            ) from error
    return {
        "run": files(__package__).joinpath("in_container.py").read_text(encoding="utf-8"),
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "cloudpickle": _cloudpickle_itself(),
        "function": _packed(made),
        "unpickle": unpickle,
    }


@cache
def _cloudpickle_itself() -> str:
    """Return the source of cloudpickle without what it says to people: any image with Python will do."""
    tree = ast.parse(files("cloudpickle").joinpath("cloudpickle.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return _packed(ast.unparse(tree).encode())


def _packed(data: bytes) -> str:
    return base64.b85encode(zlib.compress(data, 9)).decode()


def _unpickled(text: str) -> Any:
    # Only where the caller has asked for it: whoever writes the answer runs code here (SECURITY.md).
    return pickle.loads(zlib.decompress(base64.b85decode(text)))  # noqa: S301


def value_of(answer: Any, *, unpickle: bool) -> Any:
    """Return the value of a call that went well.

    Args:
        answer: the job's typed output.
        unpickle: whether the caller has asked for pickles.

    Raises:
        FunctionFailed: it is no answer of a call.
    """
    if isinstance(answer, dict) and unpickle and isinstance(answer.get("pickle"), str):
        return _unpickled(answer["pickle"])
    if isinstance(answer, dict) and "value" in answer:
        return answer["value"]
    raise FunctionFailed("the container's last line is no answer of a call: something else has printed after it")


def exception_of(result: JobResult, name: str, *, unpickle: bool) -> BaseException:
    """Return the exception of a call that failed.

    Args:
        result: of its job.
        name: of the function, for the text.
        unpickle: whether the caller has asked for pickles.
    """
    answer = _answer_in(result.stdout)
    if isinstance(problem := answer.get("problem"), str):
        return FunctionFailed(f"{name}: {problem}", result=result)
    raised = answer.get("raised")
    if not isinstance(raised, dict):
        try:
            result.check()
        except JaasError as error:
            return error
        return FunctionFailed(f"{name}: the container gave no answer", result=result)
    made = _exception(raised, unpickle=unpickle) or FunctionFailed(
        f"{name} raised {raised.get('name')}: {raised.get('text')}", result=result
    )
    made.__cause__ = RemoteTraceback(str(raised.get("traceback", "")))
    return made


def _answer_in(stdout: str) -> dict[str, Any]:
    last = next((line for line in reversed(stdout.split("\n")) if line.strip()), "")
    try:
        found = json.loads(last)
    except ValueError:
        return {}
    return found if isinstance(found, dict) and found.get("jaas_call") == 1 else {}


def _exception(raised: Mapping[str, Any], *, unpickle: bool) -> BaseException | None:
    """Return the exception itself; None where only its text is known."""
    if unpickle and isinstance(raised.get("pickle"), str):
        found = _unpickled(raised["pickle"])
        return found if isinstance(found, Exception) else None
    if raised.get("module") != "builtins" or not isinstance(raised.get("args"), list):
        return None
    kind = getattr(builtins, str(raised.get("name")), None)
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        return None
    try:
        return kind(*raised["args"])
    except TypeError:
        return None
