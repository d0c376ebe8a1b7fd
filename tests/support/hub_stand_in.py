"""A local stand-in for the Hugging Face hub: repositories, commits, and files by revision."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

TOKEN = "hf_of_the_test"


class Hub(ThreadingHTTPServer):
    """Holds what was pushed: repository to commits, each with all of its files."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Requests)
        self.repositories: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        self.private: dict[str, bool] = {}
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Requests(BaseHTTPRequestHandler):
    """Answers as the hub's documentation says."""

    server: Hub  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, format: str, *args: object) -> None:
        self.server.asked.append(format % args)

    def answer(self, code: int, content: object, headers: dict[str, str] | None = None) -> None:
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(code)
        for name, value in {"Content-Length": str(len(text)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(401, {"error": "Invalid username or password."})
        path = self.path.split("?")[0]
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            if name in self.server.repositories:
                return self.answer(409, {"error": "exists", "url": f"{self.server.address}/{name}"})
            self.server.repositories[name] = []
            self.server.private[name] = asked.get("visibility", "public") == "private"
            return self.answer(200, {"url": f"{self.server.address}/{name}"})
        if path == "/api/validate-yaml":  # the head of a card
            assert "content" in json.loads(body)
            return self.answer(200, {"warnings": [], "errors": []})
        user, name, kind = path.removeprefix("/api/models/").split("/")[:3]
        if kind == "preupload":
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return self.answer(200, {"files": files})
        assert kind == "commit", path
        commits = self.server.repositories[f"{user}/{name}"]
        files = dict(commits[-1][1]) if commits else {}
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                assert line["value"]["encoding"] == "base64"
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        commit = hashlib.sha1(body + bytes(len(commits))).hexdigest()
        commits.append((commit, files))
        url = f"{self.server.address}/{user}/{name}/commit/{commit}"
        return self.answer(200, {"success": True, "commitOid": commit, "commitUrl": url})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = self.path.split("?")[0].lstrip("/").split("/", 4)
        if len(parts) < 5:
            return self.answer(404, {"error": "unknown"})
        user, name, resolve, revision, file = parts
        commits = self.server.repositories.get(f"{user}/{name}", [])
        found = [c for c in commits if c[0] == revision] or (commits if revision == "main" else [])
        if resolve != "resolve" or not found or file not in found[-1][1]:
            missing = "EntryNotFound" if found else "RepoNotFound"
            return self.answer(404, {}, {"X-Error-Code": missing})
        commit, files = found[-1]
        etag = hashlib.sha1(files[file]).hexdigest()
        return self.answer(200, files[file], {"X-Repo-Commit": commit, "ETag": f'"{etag}"'})


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Run a hub while the context lasts."""
    hub = Hub()
    thread = Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
