"""A Hugging Face hub of our own on loopback: repositories, branches, commits, large files, tokens, and its faults."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Who may write, and see what is private.
TOKEN = "hf_fake"
_MAIN, _EMPTY = "main", "0" * 40


class FakeHub:
    """What the server knows, for tests to look at and to change."""

    def __init__(self) -> None:
        self.url = ""
        self.url_of_large = ""  # under another name: the hub's large files lie elsewhere
        self.repositories: dict[str, dict[str, str]] = {}  # repository → branch → commit
        self.private: set[str] = set()
        self.commits: dict[str, dict[str, bytes]] = {_EMPTY: {}}  # commit → file → content
        self.large: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.faults: list[tuple[str, int]] = []  # pattern of a request → status; 0 cuts its answer in the middle

    def files(self, repository: str, revision: str = _MAIN) -> dict[str, bytes]:
        """File → content of a revision."""
        return self.commits[self.repositories[repository].get(revision, revision)]

    def hold(self, repository: str, files: dict[str, bytes]) -> None:
        """Let the main branch of a repository hold these files and no others."""
        self.repositories[repository] = {_MAIN: _EMPTY}
        self.commit(repository, _MAIN, files)

    def commit(self, repository: str, branch: str, files: dict[str, bytes]) -> str:
        """Let a branch hold these files, too; → the commit."""
        whole = {**self.files(repository, branch), **files}
        oid = hashlib.sha1(repr(sorted(whole.items())).encode()).hexdigest()
        self.commits[oid] = whole
        self.repositories[repository][branch] = oid
        return oid


@contextmanager
def serving() -> Iterator[FakeHub]:
    """Serve a hub on a free port of loopback."""
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    hub.url_of_large = f"http://localhost:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Speaks as much of the hub's protocol as huggingface_hub needs for models."""

    hub: FakeHub

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = f"{self.command} {self.path.partition('?')[0]}"
        request = unquote(asked)
        self.hub.requests.append(request)
        status = next((status for pattern, status in self.hub.faults if re.search(pattern, request)), None)
        self.cut = status == 0
        if status:
            self.answer(status, {"error": "as the test wants it"})
            return
        for pattern, answer in _ROUTES:
            match = re.fullmatch(pattern, asked)  # quoted: a branch may have slashes in its name
            if match:
                answer(self, body, *map(unquote, match.groups()))
                return
        self.answer(501, {"error": f"the fake hub does not know {request}"})

    do_GET = do_HEAD = do_POST = do_PUT = handle_any  # noqa: N815 - names of http.server

    def answer(
        self, status: int, record: Any = None, headers: dict[str, str] | None = None, content: bytes = b""
    ) -> None:
        content = content if record is None else json.dumps(record).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if self.cut else content)

    def allowed(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def refused(self) -> bool:
        if not self.allowed():
            self.answer(401, {"error": "Invalid username or password."})
        return not self.allowed()

    def create(self, body: bytes) -> None:
        record = json.loads(body)
        name = f"{record['organization']}/{record['name']}"
        if self.refused():
            return
        if name in self.hub.repositories:
            self.answer(409, {"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"})
            return
        self.hub.repositories[name] = {_MAIN: _EMPTY}
        if record.get("visibility") == "private" or record.get("private"):
            self.hub.private.add(name)
        self.answer(200, {"url": f"{self.hub.url}/{name}"})

    def branch(self, body: bytes, repository: str, branch: str) -> None:
        if self.refused():
            return
        branches = self.hub.repositories[repository]
        status = 409 if branch in branches else 201
        branches.setdefault(branch, branches[_MAIN])
        self.answer(status, {})

    def validate(self, body: bytes) -> None:
        _, front, *_ = json.loads(body)["content"].split("---\n")
        try:
            fine = isinstance(yaml.safe_load(front), dict)
        except yaml.YAMLError:
            fine = False
        self.answer(200 if fine else 400, {"errors": [] if fine else [{"message": "no YAML"}], "warnings": []})

    def preupload(self, body: bytes, repository: str, revision: str) -> None:
        if self.refused():
            return
        modes = [
            {
                "path": f["path"],
                "uploadMode": "lfs" if f["path"].endswith("safetensors") else "regular",
                "shouldIgnore": False,
            }
            for f in json.loads(body)["files"]
        ]
        self.answer(200, {"files": modes})

    def batch(self, body: bytes, repository: str) -> None:
        upload = [
            {**thing, "actions": {"upload": {"href": f"{self.hub.url}/large/{thing['oid']}"}}}
            for thing in json.loads(body)["objects"]
        ]
        self.answer(200, {"transfer": "basic", "objects": upload})

    def put(self, body: bytes, oid: str) -> None:
        fits = hashlib.sha256(body).hexdigest() == oid
        if fits:
            self.hub.large[oid] = body
        self.answer(200 if fits else 400, {})

    def commit(self, body: bytes, repository: str, branch: str) -> None:
        if self.refused():
            return
        entries = [json.loads(line) for line in body.splitlines()]
        files = {e["value"]["path"]: base64.b64decode(e["value"]["content"]) for e in entries if e["key"] == "file"}
        large = {e["value"]["path"]: self.hub.large[e["value"]["oid"]] for e in entries if e["key"] == "lfsFile"}
        oid = self.hub.commit(repository, branch, files | large)
        self.answer(200, {"commitUrl": f"{self.hub.url}/{repository}/commit/{oid}", "commitOid": oid, "success": True})

    def revision(self, body: bytes, repository: str, revision: str) -> None:
        self.answer(200, {"id": repository, "sha": self.hub.repositories[repository].get(revision, revision)})

    def tree(self, body: bytes, repository: str, commit: str) -> None:
        self.answer(200, [_entry(name, content) for name, content in self.hub.commits[commit].items()])

    def resolve(self, body: bytes, repository: str, revision: str, name: str) -> None:
        branches = self.hub.repositories.get(repository)
        if branches is None or (repository in self.hub.private and not self.allowed()):
            self.missing("RepoNotFound", 404 if self.allowed() else 401)
            return
        commit = branches.get(revision, revision)
        if commit not in self.hub.commits:
            self.missing("RevisionNotFound")
        elif name not in self.hub.commits[commit]:
            self.missing("EntryNotFound")
        else:
            self.file(commit, self.hub.commits[commit][name])

    def missing(self, code: str, status: int = 404) -> None:
        self.answer(status, {"error": code}, {"X-Error-Code": code, "X-Error-Message": code})

    def file(self, commit: str, content: bytes) -> None:
        oid = hashlib.sha256(content).hexdigest()
        headers = {"X-Repo-Commit": commit, "ETag": f'"{oid}"'}
        if oid in self.hub.large:
            linked = {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(content))}
            self.answer(302, None, {**headers, **linked, "Location": f"{self.hub.url_of_large}/large/{oid}"})
        else:
            self.answer(200, None, headers, content)

    def get(self, body: bytes, oid: str) -> None:
        self.answer(200, None, {}, self.hub.large[oid])

    def log_message(self, *_: Any) -> None:
        """Tests are quiet."""


def _entry(name: str, content: bytes) -> dict[str, Any]:
    """A file as the hub lists it; graphs are large files, known by their SHA-256."""
    entry = {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
    if name.endswith(".onnx"):
        entry["lfs"] = {"size": len(content), "oid": hashlib.sha256(content).hexdigest(), "pointerSize": 130}
    return entry


_REPOSITORY = r"([\w.-]+/[\w.-]+)"
#: Request → what answers it.
_ROUTES: tuple[tuple[str, Any], ...] = (
    (r"POST /api/repos/create", _Handler.create),
    (r"POST /api/validate-yaml", _Handler.validate),
    (rf"POST /api/models/{_REPOSITORY}/branch/(.+)", _Handler.branch),
    (rf"POST /api/models/{_REPOSITORY}/preupload/(.+)", _Handler.preupload),
    (rf"POST /api/models/{_REPOSITORY}/commit/(.+)", _Handler.commit),
    (rf"POST /{_REPOSITORY}\.git/info/lfs/objects/batch", _Handler.batch),
    (r"PUT /large/(\w+)", _Handler.put),
    (r"(?:GET|HEAD) /large/(\w+)", _Handler.get),
    (rf"GET /api/models/{_REPOSITORY}/revision/(.+)", _Handler.revision),
    (rf"GET /api/models/{_REPOSITORY}/tree/(\w+)", _Handler.tree),
    (rf"(?:GET|HEAD) /{_REPOSITORY}/resolve/([^/]+)/(.+)", _Handler.resolve),
)
