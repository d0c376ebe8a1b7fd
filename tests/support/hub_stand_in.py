"""A local stand-in for the Hugging Face hub: repositories, commits, and files by revision.

As there, weights and what is large are no part of a commit: they are uploaded to another place
(Git LFS: one piece, or several), and a download is sent on to it.
"""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

TOKEN = "hf_of_the_test"
LARGE = 10 * 2**20  # bytes, from which on a file is an object of LFS whatever it is called
OBJECTS = ".git/info/lfs/objects/batch"


def is_object(path: str, size: int) -> bool:
    """Return whether a file is an object of LFS, by the rule of a new repository."""
    return path.endswith((".safetensors", ".bin", ".onnx")) or size > LARGE


class Hub(ThreadingHTTPServer):
    """Holds what was pushed: repository to commits, each with all of its files."""

    def __init__(self, part: int | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Requests)
        self.part = part  # bytes of a piece of a larger object; None: all in one
        self.objects: dict[str, bytes] = {}
        self.pieces: dict[str, dict[int, bytes]] = {}
        self.repositories: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        self.private: dict[str, bool] = {}
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def storage(self) -> str:
        """Another host, to whoever asks."""
        return f"http://localhost:{self.server_address[1]}"


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
        body = self.body()
        path = self.path.split("?")[0]
        if path.startswith("/complete/"):  # signed by its address
            return self.complete(path.removeprefix("/complete/"), json.loads(body))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(401, {"error": "Invalid username or password."})
        if path.endswith(OBJECTS):
            return self.answer(
                200, {"objects": [*map(self.upload_of, json.loads(body)["objects"])]}
            )
        if path == "/verify":
            asked = json.loads(body)
            whole = len(self.server.objects.get(asked["oid"], b"")) == asked["size"]
            return self.answer(200 if whole else 404, {})
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
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if is_object(file["path"], file["size"]) else "regular",
                    "shouldIgnore": False,
                }
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
            if line["key"] == "lfsFile":
                files[line["value"]["path"]] = self.server.objects[line["value"]["oid"]]
        commit = hashlib.sha1(body + bytes(len(commits))).hexdigest()
        commits.append((commit, files))
        url = f"{self.server.address}/{user}/{name}/commit/{commit}"
        return self.answer(200, {"success": True, "commitOid": commit, "commitUrl": url})

    def body(self) -> bytes:
        if "Content-Length" in self.headers:
            return self.rfile.read(int(self.headers["Content-Length"]))
        parts = []  # chunked
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def upload_of(self, asked: dict) -> dict:
        """Say how an object is uploaded."""
        oid, size = asked["oid"], asked["size"]
        if oid in self.server.objects:
            return {"oid": oid, "size": size}
        verify = {"href": f"{self.server.address}/verify"}
        part = self.server.part
        if part is None or size <= part:
            upload = {"href": f"{self.server.storage}/objects/{oid}"}
        else:
            header = {
                str(number): f"{self.server.storage}/pieces/{oid}/{number}"
                for number in range(1, 1 - (-size // part))
            }
            href = f"{self.server.address}/complete/{oid}"
            upload = {"href": href, "header": {"chunk_size": str(part), **header}}
        return {"oid": oid, "size": size, "actions": {"upload": upload, "verify": verify}}

    def do_PUT(self) -> None:
        kind, oid, *number = self.path.lstrip("/").split("/")
        content = self.body()
        if kind == "objects":
            self.keep(oid, content)
        else:
            self.server.pieces.setdefault(oid, {})[int(number[0])] = content
        self.answer(200, {}, {"ETag": hashlib.md5(content).hexdigest()})

    def complete(self, oid: str, asked: dict) -> None:
        pieces = self.server.pieces.pop(oid)
        for part in asked["parts"]:
            assert hashlib.md5(pieces[part["partNumber"]]).hexdigest() == part["etag"]
        self.keep(oid, b"".join(pieces[number] for number in sorted(pieces)))
        self.answer(200, {})

    def keep(self, oid: str, content: bytes) -> None:
        assert hashlib.sha256(content).hexdigest() == oid
        self.server.objects[oid] = content

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if self.path.startswith("/objects/"):
            return self.answer(200, self.server.objects[self.path.removeprefix("/objects/")])
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
        if is_object(file, len(files[file])):
            oid = hashlib.sha256(files[file]).hexdigest()
            self.server.objects[oid] = files[file]
            linked = {"X-Linked-ETag": f'"{oid}"', "X-Linked-Size": str(len(files[file]))}
            place = {"Location": f"{self.server.storage}/objects/{oid}", "X-Repo-Commit": commit}
            return self.answer(302, b"", {**place, **linked})
        etag = hashlib.sha1(files[file]).hexdigest()
        return self.answer(200, files[file], {"X-Repo-Commit": commit, "ETag": f'"{etag}"'})


@contextmanager
def running_hub(part: int | None = None) -> Iterator[Hub]:
    """Run a hub while the context lasts; objects above ``part`` bytes are uploaded in pieces."""
    hub = Hub(part)
    thread = Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
