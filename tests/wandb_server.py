"""A stand-in for a W&B server on loopback: as much of its GraphQL as `wandb sweep` and `wandb agent` 0.31 ask for.

Grid and random sweeps are drawn here, apart from the package's own drawing.
"""

from __future__ import annotations

import gzip
import itertools
import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

ENTITY, PROJECT = "someone", "disentangle_lightning"


class SweepServer:
    """The sweeps of one project, each dealt run by run to whatever agent asks.

    Args:
        count: how many runs a random sweep has.

    Attributes:
        url: what WANDB_BASE_URL is to be.
        issued: {sweep: the settings of each run that was dealt, by run id}.
    """

    def __init__(self, count: int) -> None:
        self.issued: dict[str, dict[str, dict[str, Any]]] = {}
        self.url = ""
        self._count = count
        self._configs: dict[str, str] = {}
        self._waiting: dict[str, Iterator[dict[str, Any]]] = {}

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The data that a GraphQL request gets."""
        if "upsertSweep" in query:
            return {
                "upsertSweep": {"sweep": self._node(self._add(variables["config"])), "configValidationWarnings": []}
            }
        if "createAgent" in query:
            return {"createAgent": {"agent": {"id": variables["sweep"]}}}
        if "agentHeartbeat" in query:
            commands = [] if json.loads(variables.get("runState") or "{}") else [self._next(variables["id"])]
            return {"agentHeartbeat": {"agent": {"id": variables["id"]}, "commands": json.dumps(commands)}}
        data: dict[str, Any] = {}
        if "viewer" in query:
            user = {"id": "u", "entity": ENTITY, "username": ENTITY, "email": "a@b.c", "flags": "{}"}
            data["viewer"] = user | {"teams": {"edges": []}}
        if "sweep(" in query:
            data["project"] = {"id": "p", "name": PROJECT, "sweep": self._node(variables["sweep"])}
        return data

    def _add(self, config: str) -> str:
        name = f"sweep{len(self._configs)}"
        tree = yaml.safe_load(config)
        self._configs[name], self.issued[name] = config, {}
        self._waiting[name] = (
            _grid(tree["parameters"]) if tree["method"] == "grid" else self._random(tree["parameters"])
        )
        return name

    def _next(self, sweep: str) -> dict[str, Any]:
        settings = next(self._waiting[sweep], None)
        if settings is None:
            return {"type": "exit"}
        run = f"{sweep}run{len(self.issued[sweep])}"
        self.issued[sweep][run] = settings
        arguments = {name: {"value": value} for name, value in settings.items()}
        program = yaml.safe_load(self._configs[sweep]).get("program")
        return {"type": "run", "run_id": run, "args": arguments, "program": program, "logs": []}

    def _random(self, parameters: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for _ in range(self._count):
            yield {name: _drawn(given) for name, given in parameters.items()}

    def _node(self, name: str) -> dict[str, Any]:
        nothing = dict.fromkeys(("description", "heartbeatAt", "updatedAt", "bestLoss", "controller", "scheduler"))
        project = {"id": "p", "name": PROJECT, "entity": {"name": ENTITY, "id": "e"}, "entityName": ENTITY}
        return nothing | {
            "id": f"id:{name}",
            "name": name,
            "displayName": name,
            "method": yaml.safe_load(self._configs[name])["method"],
            "state": "RUNNING",
            "config": self._configs[name],
            "createdAt": "2026-01-01T00:00:00Z",
            "earlyStopJobRunning": False,
            "runs": {"edges": []},
            "project": project,
        }


def _grid(parameters: dict[str, Any]) -> Iterator[dict[str, Any]]:
    choices = [given.get("values", [given.get("value")]) for given in parameters.values()]
    for values in itertools.product(*choices):
        yield dict(zip(parameters, values, strict=True))


def _drawn(given: dict[str, Any]) -> Any:
    if "min" not in given:
        return random.choice(given.get("values", [given.get("value")]))
    if given.get("distribution") == "log_uniform_values":
        return given["min"] * (given["max"] / given["min"]) ** random.random()
    return random.uniform(given["min"], given["max"])


@contextmanager
def sweep_server(count: int) -> Iterator[SweepServer]:
    """A server on a free port of this machine while the block lasts."""
    sweeps = SweepServer(count)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            try:
                asked = json.loads(body)
            except ValueError:
                asked = {}
            data = {"data": sweeps.answer(asked.get("query", ""), asked.get("variables") or {})}
            content = json.dumps(data).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    sweeps.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield sweeps
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
