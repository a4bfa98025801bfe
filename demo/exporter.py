"""A tiny exporter, so that a real Prometheus can see the pool."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def exporter(name: str, read: Callable[[], float]) -> Iterator[str]:
    """Serve one gauge on a free port of 127.0.0.1; gives `host:port`.

    Args:
        name: the metric.
        read: its value, asked for at each scrape. An error means no sample.
    """
    lock = threading.Lock()

    class Metrics(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with lock:
                body = f"# TYPE {name} gauge\n{name} {read():.3f}\n".encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Metrics)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
