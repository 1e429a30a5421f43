"""A learning platform for tests: publishes keys, signs launches (wrong ones too), tells names and roles.

Served by a thread of the test's process on a port of its own.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from edif_courses.lti_token import Platform

CLIENT, DEPLOYMENT = "tool-1", "7"
_LTI = "https://purl.imsglobal.org/spec/lti/claim/"
MEMBERSHIP = "http://purl.imsglobal.org/vocab/lis/v2/membership#"


class LearningPlatform:
    """Its keys, its people, and the launches that it signs."""

    def __init__(self, issuer: str = "https://moodle.example") -> None:
        self.issuer = issuer
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.key_id = "k1"
        self.members: list[list[dict[str, Any]]] = []  #: of its course, in pages
        self.asked: list[str] = []  #: paths, as they were asked for

    @property
    def platform(self) -> Platform:
        """As it is registered."""
        return Platform(
            self.issuer,
            CLIENT,
            f"{DEPLOYMENT} 8",
            f"{self.issuer}/auth",
            f"{self.issuer}/token",
            f"{self.issuer}/keys",
        )

    def keys(self) -> dict[str, Any]:
        """What it publishes."""
        found = jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return {"keys": [{**found, "kid": self.key_id, "alg": "RS256", "use": "sig"}]}

    def claims(
        self, nonce: str, subject: str = "u1", role: str = "Learner", now: float | None = None
    ) -> dict[str, Any]:
        """A right launch."""
        at = time.time() if now is None else now
        return {
            "iss": self.issuer,
            "aud": CLIENT,
            "sub": subject,
            "iat": int(at),
            "exp": int(at) + 300,
            "nonce": nonce,
            "name": f"Person {subject}",
            f"{_LTI}version": "1.3.0",
            f"{_LTI}message_type": "LtiResourceLinkRequest",
            f"{_LTI}deployment_id": DEPLOYMENT,
            f"{_LTI}roles": [f"{MEMBERSHIP}{role}"],
            f"{_LTI}context": {"id": "c1", "title": "Moodle <course>"},
            "https://purl.imsglobal.org/spec/lti-nrps/claim/namesroleservice": {
                "context_memberships_url": f"{self.issuer}/members",
                "service_versions": ["2.0"],
            },
        }

    def sign(self, claims: dict[str, Any]) -> str:
        """The token of these claims."""
        return jwt.encode(claims, self.key, "RS256", {"kid": self.key_id})

    def answer(self, path: str, query: dict[str, list[str]]) -> tuple[Any, dict[str, str]]:
        """JSON and headers of an address."""
        self.asked.append(path)
        if path == "/keys":
            return self.keys(), {}
        if path == "/token":
            return {"access_token": "made-up", "token_type": "bearer", "expires_in": 60}, {}
        number = int(query.get("page", ["0"])[0])
        more = number + 1 < len(self.members)
        links = {"Link": f'<{self.issuer}/members?page={number + 1}>; rel="next"'} if more else {}
        return {"id": "x", "members": self.members[number]}, links


@contextmanager
def served(platform: LearningPlatform) -> Iterator[LearningPlatform]:
    """The platform on a port of 127.0.0.1, which becomes its issuer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            where = urlsplit(self.path)
            content, headers = platform.answer(where.path, parse_qs(where.query))
            body = json.dumps(content).encode()
            self.send_response(200)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        platform.issuer = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield platform
        finally:
            server.shutdown()
            thread.join()
