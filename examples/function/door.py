"""A small HTTP door to jobs: each function is a description, each call a container.

    python examples/function/door.py --port 8000 examples/function/functions.json
    curl -d '["b", "a"]' http://127.0.0.1:8000/sorted

``POST /NAME`` runs a function with the body, a JSON value, as its input, and answers with its output. What takes longer
than ``--wait`` seconds answers 202 with the job's address, ``GET /jobs/ID``. With the header ``Idempotency-Key`` a call
may be repeated.
"""

import argparse
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from jaas_submit import Client, JaasError, JobHandle, JobSpec, SpecError, UnknownJob, WaitTimeout

MOST_BYTES = 256 * 1024
"""Of a body."""


class Door(ThreadingHTTPServer):
    """The server.

    Args:
        port: on this host.
        functions: descriptions by name.
        client: submits the jobs; all threads share it.
        wait: seconds for which a call waits for its output.
    """

    daemon_threads = True

    def __init__(self, port: int, functions: dict[str, JobSpec], client: Client, wait: float) -> None:
        super().__init__(("127.0.0.1", port), Call)
        self.functions, self.client, self.wait = functions, client, wait


class Call(BaseHTTPRequestHandler):
    """One call."""

    timeout = 30

    @property
    def door(self) -> "Door":
        """The server that this call came to."""
        assert isinstance(self.server, Door)
        return self.server

    def do_POST(self) -> None:
        """Run a function."""
        name = self.path.strip("/")
        length = self.headers.get("Content-Length", "")
        if name not in self.door.functions:
            self.answer(404, {"error": f"there are {', '.join(sorted(self.door.functions))}"})
        elif not length.isdecimal() or int(length) > MOST_BYTES:
            self.answer(413, {"error": f"the body must have a length, of {MOST_BYTES} bytes at most"})
        else:
            try:
                value = json.loads(self.rfile.read(int(length)))
                key = self.headers.get("Idempotency-Key")
                spec = self.door.functions[name]
                handle = self.door.client.submit(spec, input=value, key=f"{name}-{key}" if key else None)
            except (ValueError, SpecError) as error:
                self.answer(400, {"error": str(error)})
            except JaasError as error:
                self.answer(503, {"error": str(error)})
            else:
                self.tell(handle, self.door.wait)

    def do_GET(self) -> None:
        """Tell how a job stands."""
        kind, _, job_id = self.path.strip("/").partition("/")
        if kind != "jobs":
            self.answer(404, {"error": "GET /jobs/ID tells of a job"})
            return
        try:
            handle = self.door.client.handle(job_id)
        except UnknownJob as error:
            self.answer(404, {"error": str(error)})
        except JaasError as error:
            self.answer(503, {"error": str(error)})
        else:
            self.tell(handle, 0)

    def tell(self, handle: JobHandle, wait: float) -> None:
        """Answer with a job's output, or where to ask for it."""
        try:
            result = handle.wait(wait, check=False)
        except WaitTimeout:
            self.answer(202, {"job": handle.id}, Location=f"/jobs/{handle.id}")
        except JaasError as error:
            self.answer(503, {"error": str(error), "job": handle.id})
        else:
            failed = {"error": result.sentence(), "job": handle.id}
            self.answer(200 if result.ok else 500, result.output if result.ok else failed)

    def answer(self, status: int, value: Any, **headers: str) -> None:
        """Send JSON."""
        data = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="An HTTP door to jobs.")
    parser.add_argument("functions", type=Path, help="JSON: a description for each name")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--wait", type=float, default=30, help="seconds for which a call waits")
    given = parser.parse_args()
    described = json.loads(given.functions.read_text(encoding="utf-8"))
    functions = {name: JobSpec.parse(fields) for name, fields in described.items()}
    with Client() as client, Door(given.port, functions, client, given.wait) as door:
        print(f"http://127.0.0.1:{door.server_port}", flush=True)
        door.serve_forever()


if __name__ == "__main__":
    main()
