"""An object store of this machine, and a way to it that loses, cuts and refuses.

`object_store` starts moto's S3 in a process of its own. `Proxy` stands before it and does seeded
harm; it counts what it did.
"""

import http.client
import http.server
import random
import socket
import struct
import subprocess
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve()
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    # Nothing of the machine's own settings.
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_EC2_METADATA_DISABLED": "true",
}
HARM = ("500", "503", "409", "cut", "reset", "lost")


@contextmanager
def object_store():
    """The port of a server that is empty."""
    process = subprocess.Popen(
        [sys.executable, str(HERE)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(timeout=30)


def serve():
    """Run until standard input ends."""
    import logging

    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    app = DomainDispatcherApplication(create_backend_app)
    alone = threading.Lock()

    def one_at_a_time(environ, start_response):
        # An object store decides a conditional put once; moto looks first and writes then.
        with alone:
            return list(app(environ, start_response))

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, one_at_a_time, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.port, flush=True)
    sys.stdin.read()


class Proxy:
    """Passes requests on to a port, some of them badly; for a `with`.

    Attributes:
        harm: probability by kind. `500`, `503`, `409`: refused without being passed on; `cut`:
            half of the answer; `reset`: the connection breaks, nothing is passed on; `lost`: passed
            on, and its success answered with a broken connection or a 500.
        careless: puts go through without their condition, as on servers that know none.
        left: how many requests are harmed yet, None for no end.
        done: how often each was done.
        asked: requests by method.
    """

    def __init__(self, port, seed=0):
        self.target, self.harm, self.left, self.careless = port, {}, None, False
        self.done, self.asked = Counter(), Counter()
        self._chance, self._lock = random.Random(seed), threading.Lock()

    def __enter__(self):
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._server.server_close()

    def choose(self, method):
        """What harm is done to a request, and whether a lost answer is a 500."""
        with self._lock:
            self.asked[method] += 1
            drawn = self._chance.random()
            for kind, likely in self.harm.items():
                if kind == "409" and method != "PUT":
                    continue
                if kind == "lost" and method not in ("PUT", "DELETE", "POST"):
                    continue
                if kind == "cut" and method not in ("GET", "POST"):
                    continue
                if drawn < likely and self.left != 0:
                    self.done[kind] += 1
                    self.left = None if self.left is None else self.left - 1
                    return kind, self._chance.random() < 0.5
                drawn -= likely
            return None, False


_REFUSED = {
    "500": (500, "InternalError"),
    "503": (503, "SlowDown"),
    "409": (409, "ConditionalRequestConflict"),
}


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: Proxy

    def log_message(self, *args):
        pass

    def pass_on(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            raise NotImplementedError("a request in pieces")
        kind, as_error = self.owner.choose(self.command)
        if kind in _REFUSED:
            return self._refuse(*_REFUSED[kind])
        if kind == "reset":
            return self._break()
        target = http.client.HTTPConnection("127.0.0.1", self.owner.target, timeout=60)
        try:
            target.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                condition = name.lower() == "if-none-match" and self.owner.careless
                if name.lower() not in ("connection", "expect") and not condition:
                    target.putheader(name, value)
            target.endheaders(body or None)
            answer = target.getresponse()
            data = answer.read()
        finally:
            target.close()
        if kind == "lost":
            return self._refuse(500, "InternalError") if as_error else self._break()
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "content-length", "transfer-encoding"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else len(data)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if kind == "cut":
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return None
        self.wfile.write(data)
        return None

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on

    def _refuse(self, status, code):
        text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>"
        data = b"" if self.command == "HEAD" else text.encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _break(self):
        self.close_connection = True
        # Closed without lingering: the other side sees a reset.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


if __name__ == "__main__":
    serve()
