"""Bytes that clients should not send, or that few of them send, with the statuses of the answers that each must get.

`TASKS` stands for the path of a user's tasks. A request that is hidden in another would make a task called Smuggled.
"""

from dataclasses import dataclass

from server.limits import CHUNKS_MAX

LIVE = b"GET /api/v1/live HTTP/1.1\r\n"
HOST = b"Host: todo.example.com\r\n"
JSON = b"Content-Type: application/json\r\n"
CLOSE = b"Connection: close\r\n"
BODY = b'{"title": "Decent"}'
POST = b"POST TASKS HTTP/1.1\r\n" + HOST + JSON
HIDDEN = b"POST TASKS HTTP/1.1\r\n" + HOST + JSON + b'Content-Length: 21\r\n\r\n{"title": "Smuggled"}'
GOOD = LIVE + HOST + CLOSE + b"\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
WHOLE = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
"""The body in one chunk."""


@dataclass(frozen=True)
class Row:
    name: str
    sent: bytes
    statuses: tuple[int, ...] | None = None
    """The statuses of the answers, in order; None stands for one answer of 400 or no answer, and the end."""


def _with(header: bytes) -> bytes:
    return LIVE + HOST + header + b"\r\n" + CLOSE + b"\r\n"


def _sized(length: bytes, then: bytes = BODY) -> bytes:
    return POST + b"Content-Length: " + length + b"\r\n" + CLOSE + b"\r\n" + then


def _coded(coding: bytes, then: bytes = WHOLE) -> bytes:
    return POST + b"Transfer-Encoding:" + coding + b"\r\n" + CLOSE + b"\r\n" + then


def _chunks(chunks: bytes) -> bytes:
    return POST + CHUNKED + CLOSE + b"\r\n" + chunks


FIRST_LINES = [
    Row("http 0.9", b"GET /api/v1/live\r\n\r\n"),
    Row("no target", b"GET HTTP/1.1\r\n" + HOST + b"\r\n"),
    Row("no version", b"GET /api/v1/live\r\n" + HOST + b"\r\n"),
    Row("noise", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    Row("text", b"NONSENSE\r\n\r\n"),
    Row("http 2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"),
    Row("http 2.0", b"GET /api/v1/live HTTP/2.0\r\n" + HOST + b"\r\n"),
    Row("http 1.2", b"GET /api/v1/live HTTP/1.2\r\n" + HOST + b"\r\n"),
    Row("http 9.9", b"GET /api/v1/live HTTP/9.9\r\n" + HOST + b"\r\n"),
    Row("http 1", b"GET /api/v1/live HTTP/1\r\n" + HOST + b"\r\n"),
    Row("http 01.1", b"GET /api/v1/live HTTP/01.1\r\n" + HOST + b"\r\n"),
    Row("version in lower case", b"GET /api/v1/live http/1.1\r\n" + HOST + b"\r\n"),
    Row("version with space", b"GET /api/v1/live HTTP/1.1 \r\n" + HOST + b"\r\n"),
    Row("method in lower case", b"get /api/v1/live HTTP/1.1\r\n" + HOST + b"\r\n"),
    Row("method with colon", b"G:T /api/v1/live HTTP/1.1\r\n" + HOST + b"\r\n"),
    Row("method with nul", b"GE\x00T /api/v1/live HTTP/1.1\r\n" + HOST + b"\r\n"),
    Row("long method", b"G" * 100 + b" /api/v1/live HTTP/1.1\r\n" + HOST + b"\r\n"),
    Row("space before method", b" GET /api/v1/live HTTP/1.1\r\n" + HOST + b"\r\n"),
    Row("two spaces", b"GET  /api/v1/live HTTP/1.1\r\n" + HOST + b"\r\n"),
    Row("tab for space", b"GET\t/api/v1/live\tHTTP/1.1\r\n" + HOST + b"\r\n"),
    Row("space in target", b"GET /api/v1/live now HTTP/1.1\r\n" + HOST + b"\r\n"),
    Row("control character in target", b"GET /api/v1/\x01live HTTP/1.1\r\n" + HOST + b"\r\n"),
    Row("nul in target", b"GET /api/v1/live\x00 HTTP/1.1\r\n" + HOST + b"\r\n"),
    Row("latin-1 in target", b"GET /api/v1/l\xedve HTTP/1.1\r\n" + HOST + b"\r\n"),
    Row("utf-8 in target", "GET /api/v1/lívè HTTP/1.1\r\n".encode() + HOST + b"\r\n"),
    Row("absolute target", b"GET http://todo.example.com/api/v1/live HTTP/1.1\r\n" + HOST + b"\r\n"),
    Row("absolute target elsewhere", b"GET http://169.254.169.254/latest/ HTTP/1.1\r\n" + HOST + b"\r\n"),
    Row("target without slash", b"GET api/v1/live HTTP/1.1\r\n" + HOST + b"\r\n"),
    Row("connect", b"CONNECT todo.example.com:443 HTTP/1.1\r\n" + HOST + b"\r\n"),
    Row("connect to a path", b"CONNECT /api/v1/live HTTP/1.1\r\n" + HOST + b"\r\n", (405,)),
    Row("options of all", b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n"),
    Row("get of all", b"GET * HTTP/1.1\r\n" + HOST + b"\r\n"),
    Row("long target", b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", (414,)),
    Row("first line without end", b"GET /" + b"a" * 70_000, (414,)),
    Row("unknown method", b"BREW /api/v1/live HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n", (405,)),
    Row("percent-encoded nul", b"GET /api/v1/%00live HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n", (404,)),
    Row("percent-encoded slash", b"GET /api%2fv1%2flive HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n", (200,)),
    Row("percent-encoded dots", b"GET /api/%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n", (404,)),
    Row("dots", b"GET /api/v1/../../../etc/passwd HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n", (404,)),
    Row("percent-encoded latin-1", b"GET /api/v1/%ed HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n", (404,)),
    Row("bad percent-encoding", b"GET /api/v1/live%zz% HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n", (404,)),
    Row("fragment", b"GET /api/v1/live#top HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n", (404,)),
    Row("two slashes", b"GET //api/v1/live HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n", (404,)),
    Row("line break in query", b"GET /api/v1/live?a=%0d%0aCookie:%20a HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n", (200,)),
]

HEADERS = [
    Row("no host", LIVE + CLOSE + b"\r\n"),
    Row("empty host", LIVE + b"Host:\r\n" + CLOSE + b"\r\n"),
    Row("two hosts", _with(b"Host: todo.example.com")),
    Row("two different hosts", _with(b"Host: other.example.com")),
    Row("host with path", LIVE + b"Host: todo.example.com/evil\r\n" + CLOSE + b"\r\n"),
    Row("host with user", LIVE + b"Host: evil@todo.example.com\r\n" + CLOSE + b"\r\n"),
    Row("host with space", LIVE + b"Host: todo example.com\r\n" + CLOSE + b"\r\n"),
    Row("host with bad port", LIVE + b"Host: todo.example.com:http\r\n" + CLOSE + b"\r\n"),
    Row("host with latin-1", LIVE + b"Host: t\xf6do.example.com\r\n" + CLOSE + b"\r\n"),
    Row("host with list", LIVE + b"Host: a, b\r\n" + CLOSE + b"\r\n"),
    Row("host with half an address", LIVE + b"Host: [::1\r\n" + CLOSE + b"\r\n"),
    Row("bad host in http 1.0", b"GET /api/v1/live HTTP/1.0\r\nHost: a b\r\n\r\n"),
    Row("space before colon", _with(b"X-Odd : 1")),
    Row("tab before colon", _with(b"X-Odd\t: 1")),
    Row("no colon", _with(b"X-Odd")),
    Row("no name", _with(b": 1")),
    Row("space in name", _with(b"X Odd: 1")),
    Row("nul in name", _with(b"X-\x00Odd: 1")),
    Row("latin-1 in name", _with(b"X-\xd6dd: 1")),
    Row("bracket in name", _with(b"X-[Odd]: 1")),
    Row("nul in value", _with(b"X-Odd: a\x00b")),
    Row("control character in value", _with(b"X-Odd: a\x07b")),
    Row("delete in value", _with(b"X-Odd: a\x7fb")),
    Row("bare cr in value", _with(b"X-Odd: a\rX-Other: b")),
    Row("bare lf in value", _with(b"X-Odd: a\nX-Other: b")),
    Row("folded value", _with(b"X-Odd: a\r\n b")),
    Row("folded with tab", _with(b"X-Odd: a\r\n\tb")),
    Row("space before first header", LIVE + b" X-Odd: 1\r\n" + HOST + CLOSE + b"\r\n"),
    Row("bare lf everywhere", GOOD.replace(b"\r\n", b"\n")),
    Row("bare lf at the end", GOOD[:-2] + b"\n"),
    Row("bare cr everywhere", GOOD.replace(b"\r\n", b"\r") + b"\r\n\r\n"),
    Row("cr cr lf", GOOD.replace(b"\r\n", b"\r\r\n")),
    Row("many headers", LIVE + HOST + b"X-Odd: 1\r\n" * 200 + b"\r\n", (431,)),
    Row("large header", _with(b"X-Odd: " + b"a" * 9000), (431,)),
    Row("headers that are large together", _with(b"X-Odd: " + b"a" * 8000 + b"\r\nX-Odd: 1" * 20), (200,)),
    Row("headers that are too large together", _with(b"\r\n".join([b"X-Odd: " + b"a" * 8000] * 5)), (431,)),
    Row("header without end", LIVE + HOST + b"X-Odd: " + b"a" * 200_000, (431,)),
    Row("headers of 20 KB and more", LIVE + HOST + (b"X-Odd: " + b"a" * 5000 + b"\r\n") * 300 + b"\r\n", (431,)),
    Row("two content types", POST + JSON + b"Content-Length: 2\r\n\r\n{}"),
    Row("websocket", _with(b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                           b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), (200,)),
    Row("http 2 upgrade", _with(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
                                b"HTTP2-Settings: AAMAAABkAAQAAP__"), (200,)),
]  # fmt: skip

LENGTHS = [
    Row("two lengths", _sized(b"19\r\nContent-Length: 5")),
    Row("the same length twice", _sized(b"19\r\nContent-Length: 19")),
    Row("length as list", _sized(b"19, 19")),
    Row("length with plus", _sized(b"+19")),
    Row("length with minus", _sized(b"-1")),
    Row("length in hexadecimal", _sized(b"0x13")),
    Row("length with underscore", _sized(b"1_9")),
    Row("length with fraction", _sized(b"19.0")),
    Row("length with space inside", _sized(b"1 9")),
    Row("length in other digits", _sized("١٩".encode())),
    Row("no length", _sized(b"")),
    Row("length in words", _sized(b"nineteen")),
    Row("length of 20 digits", _sized(b"9" * 20), (413,)),
    Row("length of 5,000 digits", _sized(b"9" * 5000)),
    Row("length of 5,000 zeros", _sized(b"0" * 5000)),
    Row("length before colon space", POST + b"Content-Length : 19\r\n" + CLOSE + b"\r\n" + BODY),
    Row("length and chunks", POST + b"Content-Length: 19\r\n" + CHUNKED + CLOSE + b"\r\n" + WHOLE),
    Row("chunks and length", POST + CHUNKED + b"Content-Length: 4\r\n" + CLOSE + b"\r\n" + WHOLE + HIDDEN),
    Row("length too large", _sized(b"70000"), (413,)),
]

CODINGS = [
    Row("coding unknown", _coded(b" cow")),
    Row("coding empty", _coded(b"")),
    Row("coding identity", _coded(b" identity", BODY)),
    Row("coding gzip", _coded(b" gzip")),
    Row("coding gzip and chunked", _coded(b" gzip, chunked")),
    Row("coding identity and chunked", _coded(b" identity, chunked")),
    Row("coding chunked and identity", _coded(b" chunked, identity")),
    Row("coding chunked twice", _coded(b" chunked, chunked")),
    Row("two codings", _coded(b" chunked\r\nTransfer-Encoding: chunked")),
    Row("two codings, one unknown", _coded(b" chunked\r\nTransfer-Encoding: cow")),
    Row("coding in quotes", _coded(b' "chunked"')),
    Row("coding with parameter", _coded(b" chunked;q=1")),
    Row("coding with comma", _coded(b" chunked,")),
    Row("coding with vertical tab", _coded(b"\x0bchunked")),
    Row("coding with nul", _coded(b" chunked\x00")),
    Row("coding folded", _coded(b"\r\n chunked")),
    Row("coding with space before colon", POST + b"Transfer-Encoding : chunked\r\n\r\n" + WHOLE),
    Row("coding in http 1.0", _coded(b" chunked").replace(b"HTTP/1.1", b"HTTP/1.0")),
]

CHUNKS = [
    Row("chunk size no number", _chunks(b"g\r\n")),
    Row("chunk size empty", _chunks(b"\r\n")),
    Row("chunk size negative", _chunks(b"-1\r\n")),
    Row("chunk size with plus", _chunks(b"+13\r\n" + BODY + b"\r\n0\r\n\r\n")),
    Row("chunk size with 0x", _chunks(b"0x13\r\n" + BODY + b"\r\n0\r\n\r\n")),
    Row("chunk size with space before", _chunks(b" 13\r\n" + BODY + b"\r\n0\r\n\r\n")),
    Row("chunk size with space after", _chunks(b"13 \r\n" + BODY + b"\r\n0\r\n\r\n")),
    Row("chunk size with underscore", _chunks(b"1_3\r\n" + BODY + b"\r\n0\r\n\r\n")),
    Row("chunk size with bare lf", _chunks(b"13\n" + BODY + b"\r\n0\r\n\r\n")),
    Row("chunk size without end", _chunks(b"0" * 20_000)),
    Row("chunk extension without end", _chunks(b"13;" + b"a" * 20_000)),
    Row("chunk extension with bare cr", _chunks(b"13;a\rb\r\n" + BODY + b"\r\n0\r\n\r\n")),
    Row("chunk extension with bare lf", _chunks(b"13;a\nb\r\n" + BODY + b"\r\n0\r\n\r\n")),
    Row("chunk extension with nul", _chunks(b"13;a=\x00\r\n" + BODY + b"\r\n0\r\n\r\n")),
    Row("chunk longer than its size", _chunks(b"2\r\n" + BODY + b"\r\n0\r\n\r\n")),
    Row("chunk without line end", _chunks(b"13\r\n" + BODY + b"0\r\n\r\n")),
    Row("chunk with bare lf", _chunks(b"13\r\n" + BODY + b"\n0\r\n\r\n")),
    Row("trailer that frames", _chunks(b"13\r\n" + BODY + b"\r\n0\r\nContent-Length: 5\r\n\r\n")),
    Row("trailer with a coding", _chunks(b"13\r\n" + BODY + b"\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n")),
    Row("trailer with a host", _chunks(b"13\r\n" + BODY + b"\r\n0\r\nHost: evil.example.com\r\n\r\n")),
    Row("trailer with bare lf", _chunks(b"13\r\n" + BODY + b"\r\n0\r\nX-Odd: 1\n\r\n")),
    Row("many trailers", _chunks(b"13\r\n" + BODY + b"\r\n0\r\n" + b"X-Odd: 1\r\n" * 200 + b"\r\n"), (431,)),
    Row("large trailer", _chunks(b"13\r\n" + BODY + b"\r\n0\r\nX-Odd: " + b"a" * 20_000), (431,)),
    Row("one chunk too many", _chunks(b"1\r\n \r\n" * CHUNKS_MAX + WHOLE), (400,)),
    Row("trailers that are too large together", _chunks(b"0\r\n" + (b"X: " + b"a" * 8000 + b"\r\n") * 5), (431,)),
    Row("chunk sizes that are too large together", _chunks((b"0" * 8000 + b"1\r\n \r\n") * 5), (431,)),
    Row("endless chunks", _chunks((b"1000\r\n" + b" " * 4096 + b"\r\n") * 100), (413,)),
    Row("chunk that never ends", _chunks(b"f" * 32 + b"\r\n" + b"a" * 200_000), (413,)),
    Row("chunk that stops", _chunks(b"13\r\n" + BODY[:5]), (408,)),
    Row("body that stops", _sized(b"19", BODY[:5]), (408,)),
]

HIDDEN_REQUESTS = [
    Row("hidden behind a length and chunks", POST + b"Content-Length: 6\r\n" + CHUNKED + b"\r\n0\r\n\r\n" + HIDDEN),
    Row("hidden behind chunks and a length", POST + CHUNKED + b"Content-Length: 4\r\n\r\n0\r\n\r\n" + HIDDEN),
    Row("hidden behind two lengths", POST + b"Content-Length: 0\r\nContent-Length: 200\r\n\r\n" + HIDDEN),
    Row("hidden behind a coding in disguise", POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + HIDDEN),
    Row("hidden behind a folded coding", POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + HIDDEN),
    Row("hidden behind a coding with a tab", POST + b"Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n" + HIDDEN),
    Row("hidden in a chunk extension", _chunks(b"0;\n" + HIDDEN)),
    Row("hidden behind a bare lf", LIVE + HOST + b"X-Odd: 1\n\n" + HIDDEN),
    Row("hidden behind a bare cr", LIVE + HOST + b"X-Odd: 1\r\r" + HIDDEN),
    Row("hidden in a websocket", LIVE + HOST + b"Upgrade: websocket\r\nConnection: Upgrade, close\r\n"
        b"Sec-WebSocket-Version: 777\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        b"Content-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN, (200,)),
    Row("hidden in a body", POST + b"Content-Length: %d\r\n" % len(HIDDEN) + CLOSE + b"\r\n" + HIDDEN, (400,)),
    Row("hidden in a body that is refused", POST + b"Content-Length: 100000\r\n\r\n" + HIDDEN * 20, (413,)),
    Row("hidden behind expect", POST + b"Expect: 100-continue\r\nContent-Length: 100000\r\n\r\n" + HIDDEN, (413,)),
    Row("hidden behind connect", b"CONNECT /api/v1/live HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN, (405,)),
    Row("hidden behind close", LIVE + HOST + CLOSE + b"\r\n" + HIDDEN, (200,)),
]  # fmt: skip

ODD_BUT_VALID = [
    Row("empty line before", b"\r\n" + GOOD, (200,)),
    Row("spaces around value", LIVE + b"Host: \t todo.example.com \t \r\n" + CLOSE + b"\r\n", (200,)),
    Row("no space after colon", LIVE + b"Host:todo.example.com\r\nConnection:close\r\n\r\n", (200,)),
    Row("names in capitals", GOOD.upper().replace(b"/API/V1/LIVE", b"/api/v1/live"), (200,)),
    Row("host with port", LIVE + b"Host: todo.example.com:8000\r\n" + CLOSE + b"\r\n", (200,)),
    Row("host as address", LIVE + b"Host: [2001:db8::1]:8000\r\n" + CLOSE + b"\r\n", (200,)),
    Row("host with empty port", LIVE + b"Host: todo.example.com:\r\n" + CLOSE + b"\r\n", (200,)),
    Row("latin-1 in value", _with(b"X-Odd: \xe4\xf6\xfc"), (200,)),
    Row("empty value", _with(b"X-Odd:"), (200,)),
    Row("http 1.0 without host", b"GET /api/v1/live HTTP/1.0\r\n\r\n", (200,)),
    Row("http 1.0 kept alive", b"GET /api/v1/live HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + GOOD, (200, 200)),
    Row("two at once", LIVE + HOST + b"\r\n" + GOOD, (200, 200)),
    Row("one that is proper and one that is not", LIVE + HOST + b"\r\n" + b"NONSENSE\r\n\r\n", (200, 400)),
    Row("length with zeros", _sized(b"00000019"), (201,)),
    Row("length with spaces around", _sized(b"  19 \t"), (201,)),
    Row("no body with length 0", _with(b"Content-Length: 0"), (200,)),
    Row("body of get", _sized(b"19").replace(b"POST TASKS", b"GET /api/v1/live"), (200,)),
    Row("chunked", _chunks(WHOLE), (201,)),
    Row("coding in capitals", _coded(b" CHUNKED"), (201,)),
    Row("chunk size with zeros", _chunks(b"00000013\r\n" + BODY + b"\r\n000\r\n\r\n"), (201,)),
    Row("chunk size in capitals", _chunks(b"1A\r\n" + BODY + b" " * 7 + b"\r\n0\r\n\r\n"), (201,)),
    Row("chunk extensions", _chunks(b'13;a=1;b="x;y" ;c\r\n' + BODY + b"\r\n0;last\r\n\r\n"), (201,)),
    Row("trailers", _chunks(b"13\r\n" + BODY + b"\r\n0\r\nX-Odd: 1\r\nX-Other: 2\r\n\r\n"), (201,)),
    Row("as many chunks as may be", _chunks(b"1\r\n \r\n" * (CHUNKS_MAX - 1) + WHOLE), (201,)),
    Row("chunks of one byte", _chunks(b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n"), (201,)),
    Row("expect 100", POST + b"Expect: 100-continue\r\n" + _sized(b"19")[len(POST):], (201,)),
    Row("expect 100 in capitals", POST + b"EXPECT: 100-CONTINUE\r\n" + _sized(b"19")[len(POST):], (201,)),
    Row("expect something else", _with(b"Expect: the-unexpected"), (200,)),
    Row("expect 100 in http 1.0", b"GET /api/v1/live HTTP/1.0\r\nExpect: 100-continue\r\n\r\n", (200,)),
    Row("proxy says https", _with(b"X-Forwarded-Proto: https"), (200,)),
    Row("underscore in name", _with(b"Content_Length: 100"), (200,)),
]  # fmt: skip

CORPUS = [*FIRST_LINES, *HEADERS, *LENGTHS, *CODINGS, *CHUNKS, *HIDDEN_REQUESTS, *ODD_BUT_VALID]
