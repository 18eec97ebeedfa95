"""A local S3 server for the tests, moto's, with what a test does to a store behind the back of those who use it."""

import contextlib
import logging
import threading
from collections.abc import Iterator
from datetime import timedelta

import boto3
from moto.s3.models import s3_backends
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
from werkzeug.wrappers import Response

ADDRESS = "s3://bucket/some/place"
_ACCOUNT, _PARTITION = "123456789012", "aws"


class Server:
    """The server with one bucket.

    Attributes:
        url: its address.
        refuses: whether it answers every request with 403.
    """

    def __init__(self, bucket: str) -> None:
        # moto compares a tag and writes in two steps; S3 does it in one, so requests are taken one after the other.
        self._application, self._lock = DomainDispatcherApplication(create_backend_app), threading.Lock()
        self._http = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self.url, self.refuses = f"http://127.0.0.1:{self._http.server_port}", False
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()
        self._bucket = bucket
        self._client = boto3.client(
            "s3", endpoint_url=self.url, region_name="us-east-1", aws_access_key_id="id", aws_secret_access_key="secret"
        )
        self._client.create_bucket(Bucket=bucket)

    def names(self) -> list[str]:
        """Keys of all objects."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def get(self, key: str) -> bytes:
        """Content of an object."""
        return self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()

    def put(self, key: str, content: bytes) -> None:
        """Make or replace an object."""
        self._client.put_object(Bucket=self._bucket, Key=key, Body=content)

    def delete(self, key: str) -> None:
        """Remove an object."""
        self._client.delete_object(Bucket=self._bucket, Key=key)

    def make_older(self, key: str, seconds: float) -> None:
        """Let an object have been written earlier."""
        s3_backends[_ACCOUNT][_PARTITION].get_object(self._bucket, key).last_modified -= timedelta(seconds=seconds)

    def close(self) -> None:
        """End the server and forget everything."""
        self._client.close()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
        s3_backends.reset()

    def _answer(self, environment, start_response):
        if self.refuses:
            return Response(status=403)(environment, start_response)
        with self._lock:
            return list(self._application(environment, start_response))


@contextlib.contextmanager
def s3_server(bucket: str) -> Iterator[Server]:
    """A running server on a free port of this machine."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = Server(bucket)
    try:
        yield server
    finally:
        server.close()
