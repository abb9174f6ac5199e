"""Crawl some pages at once: one job a page, a progress bar, and a table at the end.

    python examples/crawl.py --network demo http://pages/library/json.html http://pages/library/re.html
    python examples/crawl.py --network demo --min-success 0.99 --max-parallel 20 - < urls.txt

Each job is a container of the image ``href-counter`` somewhere in the swarm, which returns one JSON object. Redis is
found by ``JAAS_REDIS_URL``. The exit code is 1 if fewer pages than asked for could be counted.
"""

import argparse
import os
import sys

from rich.console import Console
from rich.table import Table

from jaas_submit import Batch, Client, JobResult, JobSpec, JobState


def crawl(
    client: Client, urls: list[str], image: str, networks: list[str], max_parallel: int | None, min_success: float
) -> Batch:
    """Submit one job for each page."""
    spec = JobSpec(image=image, env={"url": "{item}"}, networks=networks, output="json")
    return client.map(spec, urls, name="crawl", max_parallel=max_parallel, min_success=min_success)


def table_of(results: dict[str, JobResult]) -> Table:
    """Lay the results out for people; what all addresses begin with is said once, above."""
    common = os.path.commonprefix(list(results))  # noqa: RUF071 - by characters is right here: these are no paths
    site = common.rpartition("/")[0] + "/"
    table = Table("page", title=f"pages below {site}", title_justify="left")
    for name in ("internal", "external", "exit code", "seconds"):
        table.add_column(name, justify="right")
    table.add_column("node")
    for url, result in results.items():
        counts = result.output or {}
        table.add_row(
            url.removeprefix(site),
            str(counts.get("internal", "")),
            str(counts.get("external", "")),
            f"none: {result.reason}" if result.exit_code is None else str(result.exit_code),
            "" if result.duration is None else f"{result.duration:.2f}",
            result.node,
        )
    return table


def main() -> int:
    """Read the command line, crawl, print; return the exit code."""
    parser = argparse.ArgumentParser(description="Count the anchors of some pages, one job a page.")
    parser.add_argument("urls", nargs="+", metavar="URL", help="or - for one URL a line on standard input")
    parser.add_argument("--image", default="href-counter")
    parser.add_argument("--network", action="append", default=[], help="overlay network to join (repeatable)")
    parser.add_argument("--timeout", type=float, default=300, help="seconds to wait for all (default %(default)s)")
    parser.add_argument("--max-parallel", type=int, help="pages at once (default: as many as the swarm takes)")
    parser.add_argument("--min-success", type=float, default=1.0, help="part that must be counted (default: all)")
    args = parser.parse_args()
    urls = sys.stdin.read().split() if args.urls == ["-"] else args.urls
    with Client() as client:
        batch = crawl(client, urls, args.image, args.network, args.max_parallel, args.min_success)
        # check=False: a page that cannot be fetched is a result like any other here, no exception.
        status = batch.wait(args.timeout, check=False, progress=True)
        Console().print(table_of(dict(zip(urls, batch.results(ordered=True), strict=True))))
        print(status.sentence(), file=sys.stderr)
        if batch.failed:
            print(batch.reasons(), file=sys.stderr)
    return 0 if status.state is JobState.SUCCEEDED else 1


if __name__ == "__main__":
    sys.exit(main())
