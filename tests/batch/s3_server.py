"""The part of S3 that a place uses, in memory: objects with tags, conditional writes, and listing. No signatures."""

import hashlib
import re
import threading
import time
import urllib.parse
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.sax.saxutils import escape, unescape


class Store(BaseHTTPRequestHandler):
    """One request. Objects and their lock belong to the server."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format, *arguments):
        """Say nothing."""

    @property
    def key(self):
        return urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).lstrip("/")

    def answer(self, code, body=b"", **headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_PUT(self):
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        if self.server.refuses:
            self.answer(403)
            return
        with self.server.lock:
            known = self.server.objects.get(self.key)
            if self.headers.get("If-None-Match") == "*" and known is not None:
                self.answer(412)
                return
            if "If-Match" in self.headers and (known is None or known[1] != self.headers["If-Match"]):
                self.answer(412)
                return
            self.server.objects[self.key] = (content, tag, time.time())
        self.answer(200, ETag=tag)

    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        if "list-type" in query:
            self.list(query)
            return
        with self.server.lock:
            known = self.server.objects.get(self.key)
        if known is None:
            self.answer(404)
            return
        content, tag, moment = known
        self.answer(200, content, ETag=tag, Last_Modified=formatdate(moment, usegmt=True))

    do_HEAD = do_GET

    def do_POST(self):
        """Delete the named objects; there or not, as S3 does."""
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        names = [unescape(name) for name in re.findall(r"<Key>(.*?)</Key>", body)]
        with self.server.lock:
            for name in names:
                self.server.objects.pop(f"{self.key.rstrip('/')}/{name}", None)
        deleted = "".join(f"<Deleted><Key>{escape(name)}</Key></Deleted>" for name in names)
        self.answer(200, f"<DeleteResult>{deleted}</DeleteResult>".encode())

    def list(self, query):
        bucket, prefix = self.key.rstrip("/"), query.get("prefix", [""])[0]
        entries = []
        with self.server.lock:
            for name, (content, tag, moment) in sorted(self.server.objects.items()):
                if name.startswith(f"{bucket}/{prefix}"):
                    stamp = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(moment))
                    entries.append(
                        f"<Contents><Key>{escape(name[len(bucket) + 1 :])}</Key><ETag>{escape(tag)}</ETag>"
                        f"<Size>{len(content)}</Size><LastModified>{stamp}</LastModified></Contents>"
                    )
        found = "".join(entries)
        self.answer(200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>".encode())


def start_server():
    """A running server on a free port of this machine; `shutdown` ends it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Store)
    server.objects, server.lock, server.refuses = {}, threading.Lock(), False
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
