"""What became of each of Celery's tests with either pool, and which of them do not apply."""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["differences", "not_applicable", "outcomes"]


def not_applicable() -> dict[str, str]:
    """Return the tests that are not run, each with the reason; not_applicable.txt has their list."""
    lines = (Path(__file__).parent / "not_applicable.txt").read_text().splitlines()
    pairs = [line.split(None, 1) for line in lines if line and not line.startswith("#")]
    return dict(pairs)


def outcomes(file: Path) -> dict[str, str]:
    """Return the outcome of each test by its name; a test that failed in any of its phases has failed."""
    found: dict[str, str] = {}
    for line in file.read_text().splitlines():
        outcome, name = line.split("\t", 1)
        if found.get(name) != "failed":
            found[name] = outcome
    return found


def differences(ours: dict[str, str], theirs: dict[str, str]) -> list[str]:
    """Return a line for each test whose outcome is not the same with both pools."""
    names = sorted(ours.keys() | theirs.keys())
    pairs = [(name, ours.get(name, "not run"), theirs.get(name, "not run")) for name in names]
    return [f"{name}: {one} with jaas, {other} with Celery's threads" for name, one, other in pairs if one != other]


def main() -> None:
    """Compare two files and print what differs; exit code 1 where something does."""
    ours, theirs = (outcomes(Path(name)) for name in sys.argv[1:3])
    found = differences(ours, theirs)
    for line in found:
        print(line)
    left_out = len(not_applicable())
    print(f"{len(ours | theirs)} tests, {left_out} entries of not_applicable.txt left out, {len(found)} differences")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
