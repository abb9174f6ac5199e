"""Crawl some pages at once: one job a page, a progress bar, and a table at the end.

    python examples/crawl.py --network demo http://pages/library/json.html http://pages/library/re.html

Each job is a container of the image ``href-counter`` somewhere in the swarm, which prints one line of JSON.
Redis is found by ``JAAS_REDIS_URL``. The exit code is 1 if a page could not be counted.
"""

import argparse
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from jaas_submit import Client, JobResult, JobSpec


def crawl(urls: list[str], image: str, networks: list[str], timeout: float) -> dict[str, JobResult]:
    """Run one job for each page and return the results by page, in the order of ``urls``."""
    results: dict[str, JobResult] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Client() as client, ThreadPoolExecutor(len(urls)) as pool, Progress(*columns) as progress:
        bar = progress.add_task("crawling", total=len(urls))
        handles = client.submit_many(JobSpec(image=image, env={"url": url}, networks=networks) for url in urls)
        # check=False: a page that cannot be fetched is a result like any other here, no exception.
        pairs = zip(urls, handles, strict=True)
        waiting = {pool.submit(handle.wait, timeout, check=False): url for url, handle in pairs}
        for future in as_completed(waiting):
            results[waiting[future]] = future.result()
            progress.advance(bar)
    return {url: results[url] for url in urls}


def table_of(results: dict[str, JobResult]) -> Table:
    """Lay the results out for people; what all addresses begin with is said once, above."""
    common = os.path.commonprefix(list(results))  # noqa: RUF071 - by characters is right here: these are no paths
    site = common.rpartition("/")[0] + "/"
    table = Table("page", title=f"pages below {site}", title_justify="left")
    for name in ("internal", "external", "exit code", "seconds"):
        table.add_column(name, justify="right")
    table.add_column("node")
    for url, result in results.items():
        counts = json.loads(result.stdout) if result.exit_code == 0 else {}
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
    parser.add_argument("urls", nargs="+", metavar="URL")
    parser.add_argument("--image", default="href-counter")
    parser.add_argument("--network", action="append", default=[], help="overlay network to join (repeatable)")
    parser.add_argument("--timeout", type=float, default=300, help="seconds to wait for each job (default %(default)s)")
    args = parser.parse_args()
    results = crawl(args.urls, args.image, args.network, args.timeout)
    Console().print(table_of(results))
    return 0 if all(result.exit_code == 0 for result in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
