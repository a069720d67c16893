"""A model over HTTP that takes 100 ms a request, whatever it is asked; a process of its own.

It speaks OpenAI's protocol and answers as many requests at a time as it gets. A vector is one of
a few, known before: what it costs the machine is next to nothing.
"""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

DIMENSIONS = 256
SECONDS = 0.1
_CHOOSE = np.random.default_rng(1)
_VECTORS = [
    json.dumps([round(float(one), 6) for one in _CHOOSE.normal(size=DIMENSIONS)]) for _ in range(64)
]


class Model(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        began = time.monotonic()
        texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["input"]
        data = ",".join(
            f'{{"object":"embedding","index":{index},"embedding":{_VECTORS[len(text) % 64]}}}'
            for index, text in enumerate(texts)
        )
        answer = f'{{"object":"list","data":[{data}]}}'.encode()
        time.sleep(max(0.0, SECONDS - (time.monotonic() - began)))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024
    disable_nagle_algorithm = True


def main() -> None:
    """Serve until stdin ends."""
    server = Server(("127.0.0.1", 0), Model)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_address[1]}/v1", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
