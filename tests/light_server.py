"""A user server that is nothing but a web server: what the hub wants to see of one, at the cost of a plain Python.

Started by the hub in tests of many servers; answers everything with its user's name.
"""

from __future__ import annotations

import os
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import urlsplit


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("X-JupyterHub-Version", "6.1.1")
        self.end_headers()
        self.wfile.write(f"server of {os.environ['JUPYTERHUB_USER']}".encode())

    def log_message(self, *said: object) -> None:
        """Nothing."""


if __name__ == "__main__":
    time.sleep(0.5)  # a start that others have to wait for
    HTTPServer(("127.0.0.1", urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"]).port or 0), Answer).serve_forever()
