"""A server on this machine that speaks as much of the W&B protocol as a run needs, and records what arrives."""

import contextlib
import json
import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_ENTITY = {"id": "entity", "name": "team"}


@dataclass
class Received:
    """What the server got, by id of a run.

    Args:
        address: of the server, for `WANDB_BASE_URL`.
        runs: the variables of the calls that make or change a run: name, group, tags, config and so on.
        lines: what was streamed into its files, by name of the file.
        exit_codes: with which it was closed, in order.
        operations: the names of all queries.
        files: uploaded files by their path.
        artifacts: name and state of each, by its id.
        views: the variables of the calls that make a workspace.
        without: the names of queries that it should not know.
    """

    address: str = ""
    runs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    lines: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    exit_codes: dict[str, list[int]] = field(default_factory=dict)
    operations: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    artifacts: dict[str, dict[str, Any]] = field(default_factory=dict)
    views: list[dict[str, Any]] = field(default_factory=list)
    without: set[str] = field(default_factory=set)

    def history(self, run: str) -> list[dict[str, Any]]:
        """Return the logged lines of a run."""
        return [json.loads(line) for line in self.lines.get(run, {}).get("wandb-history.jsonl", [])]

    def summary(self, run: str) -> dict[str, Any]:
        """Return the last summary of a run."""
        return json.loads(self.lines[run]["wandb-summary.json"][-1])

    def latest(self, run: str, name: str) -> Any:
        """Return the last value of one variable of a run that was no null."""
        return [call[name] for call in self.runs[run] if call.get(name) is not None][-1]


@contextlib.contextmanager
def wandb_server() -> Iterator[Received]:
    """Answer on a free port of this machine until the block ends."""
    received = Received()
    handler = type("Handler", (_Handler,), {"received": received})
    with _Server(("127.0.0.1", 0), handler) as server:
        received.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield received
        finally:
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client that has ended hangs up in the middle
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    received: Received
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        stream = re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path)
        if self.path == "/graphql":
            self._send({"data": self._graphql(json.loads(body))})
        elif stream:
            self._stream(stream[1], json.loads(body))
            self._send({"limits": {}})
        else:
            self._send({})

    def do_GET(self) -> None:
        self._send({})

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.received.files[self.path.removeprefix("/upload/")] = body
        self._send({})

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""

    def _send(self, answer: dict[str, Any]) -> None:
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _graphql(self, call: dict[str, Any]) -> dict[str, Any]:
        named = re.search(r"(?:query|mutation)\s+(\w+)", call["query"])
        operation, variables = named[1] if named else "", call.get("variables") or {}
        self.received.operations.append(operation)
        answer = None if operation in self.received.without else getattr(self, f"_answer_{operation}", None)
        return answer(variables) if answer else {}

    def _answer_Viewer(self, variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        teams = {"edges": [{"node": {"id": "entity", "name": "team"}}]}
        return {"viewer": {"id": "user", "entity": "team", "username": "user", "flags": "{}", "teams": teams}}

    def _answer_GetDefaultEntity(self, variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"viewer": {"id": "user", "entity": "team"}}

    def _answer_UpsertView2(self, variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        self.received.views.append(variables)
        return {"upsertView": {"view": {"id": "view", "name": variables["name"]}, "inserted": True}}

    def _answer_RunResumeStatus(self, variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        run = variables["name"]
        if run not in self.received.runs:
            return {"model": None}
        history = self.received.history(run)
        summary = self.received.lines.get(run, {}).get("wandb-summary.json", ["{}"])
        bucket = {
            "id": run,
            "name": run,
            "summaryMetrics": summary[-1],
            "displayName": self.received.latest(run, "displayName"),
            "logLineCount": 0,
            "historyLineCount": len(history),
            "eventsLineCount": 0,
            "historyTail": json.dumps([json.dumps(line) for line in history[-1:]]),
            "eventsTail": "[]",
            "config": self.received.latest(run, "config"),
            "tags": self.received.latest(run, "tags"),
            "wandbConfig": json.dumps({"t": 1}),
        }
        return {"model": {"id": "project", "name": variables["project"], "entity": _ENTITY, "bucket": bucket}}

    def _answer_UpsertBucket(self, variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        run = variables["name"]
        calls = self.received.runs.setdefault(run, [])
        calls.append(variables)
        bucket = {
            "id": run,
            "name": run,
            "displayName": self.received.latest(run, "displayName"),
            "project": {"id": "project", "name": variables["project"], "entity": _ENTITY},
            "historyLineCount": len(self.received.history(run)),
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": len(calls) == 1}}

    def _answer_CreateRunFiles(self, variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        address, run = self.received.address, variables["run"]
        files = [{"name": name, "uploadUrl": f"{address}/upload/{run}/{name}"} for name in variables["files"]]
        return {"createRunFiles": {"runID": run, "uploadHeaders": [], "files": files}}

    def _answer_ArtifactType(self, variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"project": {"artifact": None}}  # there is none of that name yet

    def _answer_CreateArtifact(self, variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        wanted = variables["input"]
        artifact = f"artifact-{len(self.received.artifacts)}"
        self.received.artifacts[artifact] = {"name": wanted["artifactCollectionName"], "state": "PENDING"}
        sequence = {"latestArtifact": None}
        return {"createArtifact": {"artifact": {"id": artifact, "state": "PENDING", "artifactSequence": sequence}}}

    def _answer_CreateArtifactManifest(self, variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        address, artifact = self.received.address, variables["artifactID"]
        url = f"{address}/upload/{artifact}/manifest"
        manifest = {"id": f"{artifact}-manifest", "file": {"id": "file", "uploadUrl": url, "uploadHeaders": []}}
        return {"createArtifactManifest": {"artifactManifest": manifest}}

    def _answer_CreateArtifactFiles(self, variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        edges = []
        for wanted in variables["input"]["artifactFiles"]:
            artifact, name = wanted["artifactID"], wanted["name"]
            node = {"id": name, "name": name, "displayName": name, "storagePath": name, "artifact": {"id": artifact}}
            node |= {"uploadUrl": f"{self.received.address}/upload/{artifact}/{name}", "uploadHeaders": []}
            edges.append({"node": {**node, "uploadMultipartUrls": None}})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _answer_CommitArtifact(self, variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        artifact = variables["artifactID"]
        self.received.artifacts[artifact]["state"] = "COMMITTED"
        return {"commitArtifact": {"artifact": {"id": artifact, "digest": ""}}}

    def _stream(self, run: str, body: dict[str, Any]) -> None:
        for name, part in (body.get("files") or {}).items():
            self.received.lines.setdefault(run, {}).setdefault(name, []).extend(part["content"])
        if "exitcode" in body:
            self.received.exit_codes.setdefault(run, []).append(body["exitcode"])
