"""All Python examples of the documentation and of examples/, checked by mypy (strict) and pyright.

`python -m tests.support.examples` prints what they find, by page and line.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["findings", "written"]

ROOT = Path(__file__).parents[2]

_NAMES = {
    "client": "from jaas_submit import Client\nclient = Client()",
    "batch": "from jaas_submit import Batch, Client\nbatch: Batch = Client().batch('0')",
    "downloads": "from jaas_submit import Batch, Client\ndownloads: Batch = Client().batch('0')",
    **dict.fromkeys(("urls", "inputs", "texts", "names"), "{0}: list[str] = []"),
    **dict.fromkeys(
        ("spec", "count", "add", "load_spec", "report_spec", "alarm_spec", "tidy_spec", "thumb_spec"),
        "from jaas_submit import JobSpec\n{0} = JobSpec(image='alpine')",
    ),
    **dict.fromkeys(("extract", "load", "merge"), "from jaas_submit import JobSpec\n{0} = JobSpec(image='alpine')"),
    "parts": "from jaas_submit import JobSpec\nparts: list[JobSpec] = []",
}
"""Names that a page's fragments use because its text has introduced them."""

_MYPY = (
    *("--strict", "--ignore-missing-imports", "--allow-untyped-decorators", "--allow-subclassing-any"),
    *("--namespace-packages", "--explicit-package-bases", "--config-file=", "--no-error-summary"),
)


def findings(folder: Path) -> list[str]:
    """Return what mypy and pyright say of all examples, one finding a line.

    Args:
        folder: an empty one, for the examples.
    """
    pages = written(folder)
    here = Path(sys.executable).parent
    strict = _run(folder, [here / "mypy", *_MYPY, "--cache-dir", ROOT / ".mypy_cache" / "examples", *pages])
    # Whether Django and FastAPI are installed here says nothing of the examples.
    (folder / "pyrightconfig.json").write_text('{"reportMissingImports": false}')
    basic = _run(folder, [here / "pyright", "--pythonpath", sys.executable, "--project", folder, folder])
    own = _run(ROOT, [here / "pyright", "--pythonpath", sys.executable, ROOT / "examples"])
    return strict + basic + own


def written(folder: Path) -> list[Path]:
    """Write every example of the pages to a file of its own, each at its own line, and return the files."""
    made = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = page.read_text(encoding="utf-8")
        for block in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            code = block[1]
            line = text[: block.start(1)].count("\n") + 1
            named = re.match(r"# ([\w/]+\.py)\b", code)
            apart = folder / ("on_" + page.stem.replace("-", "_"))  # no folder may have the name of a package
            file = apart / (named[1] if named else f"line_{line}.py")
            file.parent.mkdir(parents=True, exist_ok=True)
            before = "; ".join(_prelude(code).splitlines())
            file.write_text(f"{before}\n" + "\n" * (line - 2) + code, encoding="utf-8")
            made.append(file)
    return made


def _prelude(code: str) -> str:
    """Return the lines that a fragment needs for its names."""
    tree = list(ast.walk(ast.parse(code)))
    names = [node for node in tree if isinstance(node, ast.Name)]
    stored = {name.id for name in names if isinstance(name.ctx, ast.Store)}
    stored |= {node.name for node in tree if isinstance(node, ast.FunctionDef)}
    stored |= {arg.arg for arg in tree if isinstance(arg, ast.arg)}
    wanted = {name.id for name in names} - stored
    return "\n".join(text.format(name) for name, text in _NAMES.items() if name in wanted)


def _run(folder: Path, command: list[str | Path]) -> list[str]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
    found = [line for line in lines if re.search(r": error\b", line) or " - error:" in line]
    if done.returncode and not found:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return [line.replace(f"{folder}/", "") for line in found]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        found = findings(Path(made))
    print("\n".join(found) or "mypy and pyright find nothing")
    sys.exit(bool(found))
