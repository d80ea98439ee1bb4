"""Functions that the user names as ``file.py:function``."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeprune.errors import UsageError


def is_function_spec(spec: str) -> bool:
    """Whether the text names a function in a Python file."""
    path, colon, name = spec.rpartition(":")
    return bool(colon) and path.endswith(".py") and name.isidentifier()


def describe_failure(error: Exception) -> str:
    """An exception's type and the first line of its text."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def load_function(spec: str, error_type: type[UsageError]) -> Callable[..., Any]:
    """The function that ``file.py:function`` names; the file's folder is importable while the file loads.

    Args:
        spec: path of a Python file, a colon, the name of a callable in it.
        error_type: what to raise: CalibrationError or EvaluationError.

    Raises:
        UsageError: of type ``error_type``: no such file or function, or the file fails to import.
    """
    file, _, name = spec.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise error_type(f"{path} does not exist")
    module_spec = importlib.util.spec_from_file_location(f"_edgeprune_user_{path.stem}", path)
    if module_spec is None or module_spec.loader is None:
        raise error_type(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(module_spec)
    sys.path.insert(0, str(path.resolve().parent))
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        raise error_type(f"{path} fails to import: {describe_failure(error)}") from error
    finally:
        sys.path.remove(str(path.resolve().parent))
    function = getattr(module, name, None)
    if not callable(function):
        raise error_type(f"{path} has no function {name!r}")
    return function  # type: ignore[no-any-return]
