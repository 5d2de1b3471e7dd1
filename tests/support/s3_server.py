"""moto's S3 on a free port of loopback, with what moto leaves out: it verifies signatures and checksums, and goes away and
comes back when it is told.

The bucket `chat` is there, and one key with its secret: they are the arguments; two more are the files of a certificate and its
key, for TLS. Prints its port when it listens. Then a line of
standard input each: `close` (nothing listens any more), `open` (at the same port), `fail` (503 to everything), `hang` (no answer to
anything), `work`, `count` (prints how many objects there are). Ends with its input.
"""

import base64
import hashlib
import hmac
import io
import sys
import threading
from urllib.parse import quote, unquote

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import WSGIRequestHandler, make_server

ACCESS_KEY, SECRET_KEY = sys.argv[1], sys.argv[2]
# moto's own user.
ACCOUNT = "123456789012"
fails = False
works = threading.Event()
works.set()


def digest(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def refusal(environ):
    """What is wrong with a request, as S3 says it: a status and a code; None if it is good.

    As in "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)".
    """
    query = dict(part.split("=", 1) if "=" in part else (part, "") for part in environ["QUERY_STRING"].split("&") if part)
    signature = query.pop("X-Amz-Signature", None)
    if signature is None:
        return 403, "AccessDenied"
    key, date, region, service, _ = unquote(query["X-Amz-Credential"]).split("/")
    if key != ACCESS_KEY:
        return 403, "InvalidAccessKeyId"
    if region != "us-east-1":
        return 400, "AuthorizationQueryParametersError"
    signed = unquote(query["X-Amz-SignedHeaders"]).split(";")
    headers = {name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")}
    headers["content-type"] = environ.get("CONTENT_TYPE", "")
    if any(name.startswith("x-amz-") and name not in signed for name in headers):
        return 403, "AccessDenied"
    path = quote(environ["PATH_INFO"].encode("latin-1").decode(), safe="/-_.~")
    canonical = "\n".join(
        [
            environ["REQUEST_METHOD"],
            path,
            "&".join(f"{name}={value}" for name, value in sorted(query.items())),
            "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in signed),
            ";".join(signed),
            "UNSIGNED-PAYLOAD",
        ]
    )
    scope = f"{date}/{region}/{service}/aws4_request"
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", query["X-Amz-Date"], scope, hashed])
    signing = digest(digest(digest(digest(b"AWS4" + SECRET_KEY.encode(), date), region), service), "aws4_request")
    if not hmac.compare_digest(digest(signing, text).hex(), signature):
        return 403, "SignatureDoesNotMatch"
    return None


class Gate:
    def __init__(self, app):
        self.app = app

    def __call__(self, environ, start_response):
        works.wait()
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        wrong = (503, "SlowDown") if fails else refusal(environ)
        said = environ.get("HTTP_X_AMZ_CHECKSUM_SHA256")
        if wrong is None and said and said != base64.b64encode(hashlib.sha256(body).digest()).decode():
            wrong = 400, "BadDigest"
        if wrong is None:
            return self.app(environ, start_response)
        status, code = wrong
        text = f"<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>as the test wants it</Message></Error>".encode()
        start_response(f"{status} {code}", [("Content-Type", "application/xml"), ("Content-Length", str(len(text)))])
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else text]


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_):
        pass


def serve(port):
    # moto looks at the first label of the host for the service, and takes what it does not know for S3.
    app = Gate(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", port, app, threaded=True, request_handler=Quiet, ssl_context=tuple(sys.argv[3:5]) or None)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server


backend = s3_backends[ACCOUNT]["aws"]
backend.create_bucket("chat", "us-east-1")
server = serve(0)
port = server.server_port
print(port, flush=True)
for line in sys.stdin:
    word = line.strip()
    if word == "close":
        server.shutdown()
        server.server_close()
    elif word == "open":
        server = serve(port)
    elif word == "hang":
        works.clear()
    elif word in ("fail", "work"):
        fails = word == "fail"
        works.set()
    elif word == "count":
        print(len(backend.buckets["chat"].keys), flush=True)
        continue
    print("done", flush=True)
