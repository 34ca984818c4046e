"""A Hugging Face Hub of our own on loopback, for tests: it speaks what loading a dataset and
uploading a model take.

    GET  /api/datasets/NAME[/revision/REV]          the repository: its commit and its files
    GET  /api/datasets/NAME/tree/REV[/FOLDER]       the files of a folder, with `?recursive=True`
                                                    those below too
    POST /api/datasets/NAME/paths-info/REV          the files among some paths
    GET  /datasets/NAME/resolve/REV/PATH            a file, whole or a range of it; HEAD likewise
    POST /api/repos/create                          a model's repository
    POST /api/models/NAME/preupload/REV             how files are to be sent: in the commit
    POST /api/models/NAME/commit/REV                files to keep, one JSON object a line
    POST /api/validate-yaml                         whether the Hub takes a card

Answers carry the headers the client needs: `ETag`, `X-Repo-Commit`, and `X-Error-Code` where
something is missing.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit

Files = Mapping[str, bytes]


def commit_of(files: Files) -> str:
    digest = hashlib.sha1()
    for path in sorted(files):
        digest.update(path.encode() + b"\0" + hashlib.sha1(files[path]).digest())
    return digest.hexdigest()


class HubStandIn:
    """Serves `repositories` while it is open.

    repositories: {"ORG/NAME": {"main": {"README.md": b"…"}, "v1": {…}}}
    endpoint:     what HF_ENDPOINT has to be
    requests:     "METHOD /path" of every request so far
    models:       {"USER/NAME": {"README.md": b"…"}}, as they were uploaded
    token:        the one that may upload
    """

    def __init__(self, repositories: Mapping[str, Mapping[str, Files]]) -> None:
        self.repositories = repositories
        self.requests: list[str] = []
        self.models: dict[str, dict[str, bytes]] = {}
        self.token = "hf_stand_in"
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                stand_in.requests.append(f"{self.command} {self.path}")
                stand_in.answer(self)

            do_HEAD = do_GET
            do_POST = do_GET

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.02}
        )

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        url = urlsplit(request.path)
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        path = unquote(url.path)
        uploads = ("/api/repos/", "/api/validate-yaml", "/api/models/")
        if request.command == "POST" and path.startswith(uploads):
            return self.answer_upload(request, path, body)
        where = path.removeprefix("/api").removeprefix("/models").removeprefix("/datasets")
        owner, name, *parts = where.removeprefix("/").split("/", 2)
        rest, repository = "".join(parts), self.repositories.get(f"{owner}/{name}")
        if "/datasets/" not in path and f"{owner}/{name}" in self.models:
            repository = {"main": self.models[f"{owner}/{name}"]}
        elif "/datasets/" not in path:
            repository = None
        if repository is None:
            return self.missing(request, "RepoNotFound")
        verb, _, rest = rest.partition("/")
        revision, _, inside = rest.partition("/")
        files = self.at(repository, revision if verb else "main")
        if files is None:
            return self.missing(request, "RevisionNotFound")
        commit = commit_of(files)
        match path.startswith("/api/"), verb:
            case True, "" | "revision":
                siblings = [{"rfilename": file} for file in files]
                info = {
                    "id": f"{owner}/{name}",
                    "sha": commit,
                    "siblings": siblings,
                    "private": False,
                    "tags": [],
                }
                return self.send(request, json.dumps(info).encode(), commit)
            case True, "tree":
                recursive = parse_qs(url.query).get("recursive", ["False"])[0].lower() in (
                    "true",
                    "1",
                )
                tree = self.tree(files, inside, recursive)
                if tree is None:
                    return self.missing(request, "EntryNotFound", commit)
                return self.send(request, json.dumps(tree).encode(), commit)
            case True, "paths-info":
                form = json.loads(body) if body.startswith(b"{") else parse_qs(body.decode())
                found = []
                for wanted in form["paths"]:
                    if wanted in files:
                        found.append(self.entry(wanted, files))
                    elif any(file.startswith(wanted + "/") for file in files):
                        found.append(
                            {"type": "directory", "path": wanted, "oid": "0" * 40, "size": 0}
                        )
                return self.send(request, json.dumps(found).encode(), commit)
            case False, "resolve":
                if inside not in files:
                    return self.missing(request, "EntryNotFound", commit)
                return self.send(request, files[inside], commit, "application/octet-stream")
        return self.missing(request, "EntryNotFound", commit)

    def answer_upload(self, request: BaseHTTPRequestHandler, path: str, body: bytes) -> None:
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return self.missing(request, "RepoNotFound")
        lines = [json.loads(line) for line in body.splitlines()]
        answer: dict[str, object] = {}
        if path == "/api/repos/create":
            name = f"{lines[0]['organization']}/{lines[0]['name']}"
            self.models.setdefault(name, {})
            answer = {"url": f"{self.endpoint}/{name}", "id": name}
        elif path.startswith("/api/models/"):
            owner, name, verb, *_ = f"{path.removeprefix('/api/models/')}/".split("/")
            files = self.models[f"{owner}/{name}"]
            if verb == "preupload":
                modes = [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for file in lines[0]["files"]
                ]
                answer = {"files": modes}
            elif verb == "commit":
                for line in lines:
                    if line["key"] == "file":
                        files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                url = f"{self.endpoint}/{owner}/{name}/commit/{commit_of(files)}"
                answer = {"commitOid": commit_of(files), "commitUrl": url, "success": True}
        return self.send(request, json.dumps(answer).encode(), "0" * 40)

    def at(self, repository: Mapping[str, Files], revision: str) -> Files | None:
        if revision in repository:
            return repository[revision]
        return next((files for files in repository.values() if commit_of(files) == revision), None)

    def entry(self, path: str, files: Files) -> dict[str, object]:
        oid = hashlib.sha1(files[path]).hexdigest()
        return {"type": "file", "path": path, "oid": oid, "size": len(files[path])}

    def tree(self, files: Files, folder: str, recursive: bool) -> list[dict[str, object]] | None:
        prefix = folder.strip("/") + "/" if folder.strip("/") else ""
        below = [path for path in files if path.startswith(prefix)]
        if prefix and not below:
            return None
        folders = {
            prefix + path[len(prefix) :].split("/")[0]
            for path in below
            if "/" in path[len(prefix) :]
        }
        tree = [
            {"type": "directory", "path": path, "oid": "0" * 40, "size": 0}
            for path in sorted(folders)
        ]
        return tree + [
            self.entry(path, files) for path in below if recursive or "/" not in path[len(prefix) :]
        ]

    def send(
        self,
        request: BaseHTTPRequestHandler,
        content: bytes,
        commit: str,
        kind: str = "application/json",
    ) -> None:
        status, start, stop = 200, 0, len(content)
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", "")):
            status, start = 206, int(wanted[1])
            stop = min(stop, int(wanted[2]) + 1) if wanted[2] else stop
        request.send_response(status)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(stop - start))
        request.send_header("Accept-Ranges", "bytes")
        request.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        request.send_header("X-Repo-Commit", commit)
        if status == 206:
            request.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(content[start:stop])

    def missing(
        self, request: BaseHTTPRequestHandler, code: str, commit: str | None = None
    ) -> None:
        content = json.dumps({"error": code}).encode()
        request.send_response(404)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(content)))
        request.send_header("X-Error-Code", code)
        if commit:
            request.send_header("X-Repo-Commit", commit)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(content)
