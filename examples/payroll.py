"""A payroll: one job for each employee, a retry for those that failed, and a total to the cent.

    python examples/payroll.py employees.csv --rates '{"A": "31.50", "B": "24.75"}' --month 2026-11
    python examples/payroll.py --retry BATCH --rates '{"A": "31.50", "B": "24.75", "C": "19.10"}'

The CSV file has the columns ``employee``, ``grade`` and ``hours``. A job fails if its employee's grade has no rate; the
second call runs those once more, with more rates. Running the first one twice pays nobody twice: the month is the
batch's key. Redis is found by ``JAAS_REDIS_URL``. The exit code is 1 as long as somebody's pay is missing.
"""

import argparse
import csv
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

from jaas_submit import Batch, Client, JobSpec

PAY = """
import json, os, sys
from decimal import ROUND_HALF_UP, Decimal
employee, grade, hours = sys.argv[1:]
rates = json.loads(os.environ["RATES"])
if grade not in rates:
    sys.exit(f"{employee}: there is no rate for grade {grade}")
pay = (Decimal(hours) * Decimal(rates[grade])).quantize(Decimal("0.01"), ROUND_HALF_UP)
print(json.dumps({"employee": employee, "pay": str(pay)}))
"""


def employees(path: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of the file."""
    with path.open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def pay(client: Client, path: Path, rates: str, month: str, image: str) -> Batch:
    """Submit one job for each employee; return the batch, which is the same one for the same month."""
    spec = JobSpec(
        image=image,
        command=["python3", "-c", PAY, "{item.employee}", "{item.grade}", "{item.hours}"],
        env={"RATES": rates},
        output="json",
        name="pay",
    )
    return client.map(spec, employees(path), name=f"payroll {month}", key=f"payroll-{month}", max_parallel=8)


def report(batches: list[Batch]) -> bool:
    """Wait for the batches; print everybody's pay and the total, and return whether the last one was complete."""
    total = Decimal(0)
    for batch in batches:
        for result in batch.results(ordered=True):
            if result.ok:  # texts, so that no cent gets lost on the way
                total += Decimal(result.output["pay"])
                print(f"{result.output['employee']:<20}{result.output['pay']:>12}")
    print(f"{'total':<20}{total:>12}")
    last = batches[-1]
    for record in last.failed:
        print(f"failed: {last.job(record.index or 0).logs().stderr.strip()}", file=sys.stderr)
    return not last.failed


def main() -> int:
    """Read the command line, run the jobs, print; return the exit code."""
    parser = argparse.ArgumentParser(description="Work out what everybody earns, in one container for each of them.")
    parser.add_argument("file", nargs="?", type=Path, metavar="CSV")
    parser.add_argument("--rates", required=True, metavar="JSON", help="pay for an hour by grade")
    parser.add_argument("--month", default="2026-11")
    parser.add_argument("--retry", metavar="BATCH", help="run the jobs of this batch that failed once more")
    parser.add_argument("--image", default="jaas-python:bookworm", help="an image with python3 (default %(default)s)")
    args = parser.parse_args()
    with Client() as client:
        if args.retry:
            first = client.batch(args.retry)
            done = report([first, first.retry_failed(env={"RATES": args.rates})])
        elif args.file:
            batch = pay(client, args.file, args.rates, args.month, args.image)
            done = report([batch])
            if not done:
                print(f"payroll: mend it, then: payroll.py --retry {batch.id} --rates ...", file=sys.stderr)
        else:
            parser.error("name a CSV file, or --retry BATCH")
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
