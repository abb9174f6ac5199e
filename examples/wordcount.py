"""Count the words of some texts with 64 map jobs and a tree of reduce jobs.

    python examples/wordcount.py /usr/share/common-licenses/*

The texts are cut into pieces at line ends; each piece is the input of one job. A map returns the counts of its piece as
JSON, a reduce adds up those of eight others, and one reduce is left. Redis is found by ``JAAS_REDIS_URL``. Counts of
large texts are too large for Redis: then ``JAAS_STORE_URL`` has to name a place for them, here and for the workers.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from jaas_submit import BatchFailed, BatchRecord, Client, JobSpec, RetryPolicy

AGAIN = RetryPolicy(max_cluster_retries=3)
"""Counting twice does no harm: a job that its node or engine failed is run again."""

MAP = r"""
import collections, json, os, re
with open(os.environ["JAAS_INPUT"], encoding="utf-8") as file:
    text = json.load(file)
print(json.dumps(collections.Counter(re.findall(r"\w+", text.lower()))))
"""

REDUCE = """
import collections, json, os
total = collections.Counter()
with open(os.environ["JAAS_INPUT"], encoding="utf-8") as file:
    for line in file:
        total.update(json.loads(line)["output"])
print(json.dumps(total))
"""


def pieces(files: list[Path], count: int) -> Iterator[str]:
    """Yield the texts of files in ``count`` pieces of about the same size, cut at line ends."""
    text = "".join(path.read_text(encoding="utf-8", errors="replace") for path in files)
    start = 0
    for number in range(1, count + 1):
        end = len(text) if number == count else text.find("\n", number * len(text) // count) + 1 or len(text)
        yield text[start : max(start, end)]
        start = max(start, end)


def count_words(client: Client, texts: Iterator[str], image: str, fan_in: int) -> dict[str, int]:
    """Return how often each word occurs in all texts."""

    def show(status: BatchRecord) -> None:
        print(f"\r{status.ended} of {status.total} maps have ended", end="", file=sys.stderr)

    job = client.map_reduce(
        JobSpec(image=image, command=["python3", "-c", MAP], output="json", name="count", retry=AGAIN),
        texts,
        JobSpec(image=image, command=["python3", "-c", REDUCE], output="json", name="add", retry=AGAIN),
        fan_in=fan_in,
        name="words",
    )
    result = job.wait(progress=show)
    print(f"\n{sum(level.status.size for level in job.levels)} reduces on {len(job.levels)} levels", file=sys.stderr)
    counts: dict[str, int] = client.fetch(result.output)
    return counts


def main() -> int:
    """Read the command line, count, print; return the exit code."""
    parser = argparse.ArgumentParser(description="Count the words of some texts, in many containers.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--image", default="jaas-python:bookworm", help="an image with python3 (default %(default)s)")
    parser.add_argument("--maps", type=int, default=64, help="map jobs (default %(default)s)")
    parser.add_argument("--fan-in", type=int, default=8, help="inputs of a reduce job (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print all counts as one JSON object")
    args = parser.parse_args()
    files = [path for path in args.files if path.is_file()]
    with Client() as client:
        try:
            counts = count_words(client, pieces(files, args.maps), args.image, args.fan_in)
        except BatchFailed as error:
            print(f"wordcount: {error}", file=sys.stderr)
            return 1
    if args.json:
        print(json.dumps(counts, ensure_ascii=False))
        return 0
    for word, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:20]:
        print(f"{count:8,}  {word}")
    print(f"{sum(counts.values()):8,}  words, {len(counts):,} different ones")
    return 0


if __name__ == "__main__":
    sys.exit(main())
