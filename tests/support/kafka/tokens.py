"""An OpenID provider in small: signed tokens for one client, over HTTPS on `localhost`."""

import base64
import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.support.kafka import ports

ISSUER = "https://login.example.com"
AUDIENCE = "kafka"
SCOPE = "kafka:write"
CLIENT_ID = "payments-service"
CLIENT_SECRET = "an-example-client-secret"
_KEY_ID = "1"


class TokenServer:
    """A token endpoint for the grant `client_credentials`.

    Attributes:
        url: The endpoint.
        jwks: The file with the public key that its tokens can be checked by.
        client_secrets: The secrets that it accepts; a test may change them.
        lifetime_s: Of the tokens from now on.
        issued: Number of tokens so far.
        refused: Number of requests without a token for an answer.
    """

    def __init__(self, directory: Path, server_pem: Path) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.jwks = directory / "jwks.json"
        self.jwks.write_text(json.dumps({"keys": [self._public_key()]}))
        self.client_secrets = {CLIENT_SECRET}
        self.lifetime_s = 300
        self.issued = 0
        self.refused = 0
        [port] = ports.free(1, for_good=True)
        self.url = f"https://localhost:{port}/token"
        self._server = ThreadingHTTPServer((ports.HOST, port), self._handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(server_pem)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, name="tokens", daemon=True).start()

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()

    def token(self) -> tuple[str, float]:
        """Return a token, and when it expires as Unix time in seconds."""
        now_s = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": CLIENT_ID,
            "scope": SCOPE,
            "iat": now_s,
            "exp": now_s + self.lifetime_s,
        }
        signed = f"{_part({'alg': 'RS256', 'kid': _KEY_ID, 'typ': 'JWT'})}.{_part(claims)}"
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_base64(signature)}", float(now_s + self.lifetime_s)

    def answer(self, authorization: str, body: str) -> tuple[int, dict[str, object]]:
        """Return status and content of the answer to one request."""
        form = parse_qs(body)
        known = {_basic(CLIENT_ID, secret) for secret in self.client_secrets}
        if authorization not in known:
            self.refused += 1
            return 401, {"error": "invalid_client"}
        if form.get("grant_type") != ["client_credentials"] or form.get("scope") != [SCOPE]:
            self.refused += 1
            return 400, {"error": "invalid_request"}
        self.issued += 1
        token = {"access_token": self.token()[0], "token_type": "Bearer"}
        return 200, {**token, "expires_in": self.lifetime_s}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        answer = self.answer

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", "0"))
                body = self.rfile.read(length).decode()
                status, content = answer(self.headers.get("Authorization", ""), body)
                text = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def _public_key(self) -> dict[str, str]:
        numbers = self._key.public_key().public_numbers()
        modulus = numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8)
        public = {"n": _base64(modulus), "e": _base64(numbers.e.to_bytes(3))}
        return {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": _KEY_ID, **public}


def _part(content: dict[str, object]) -> str:
    return _base64(json.dumps(content).encode())


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
