"""Parts of messages that are not HTTP, or that two servers might read in two ways."""

PIECES = (
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\n\n", b"\0", b" ", b"\t", b":", b"\x0b", b"\x0c", b"\x85", b"\xff",
    b"\xc0\x80", b"Content-Length: 0\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Host: other\r\n", b"\r\nX-Injected: yes\r\n", b"Expect: 100-continue\r\n", b"Connection: close\r\n",
    b"0\r\n\r\n", b"5\r\nhello\r\n", b"GET /api/v1/live HTTP/1.1\r\nHost: test\r\n\r\n", b" HTTP/1.1\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n", b"?", b"#", b"%", b"\\",
)  # fmt: skip
LENGTHS = (
    b"", b"-1", b"+5", b" 5", b"5 ", b"0x5", b"5,5", b"5, 6", b"5;", b"5.0", b"1e1", b"05", b"\xd9\xa5", b"9" * 30,
    b"2147483648", b"9223372036854775808", b"65537", b"1", b"0", b"five", b"\x005", b"_5", b"1_0", b"'5'",
)  # fmt: skip
CODINGS = (
    b"chunked", b"Chunked", b"chunked, chunked", b"gzip, chunked", b"chunked, gzip", b"identity",
    b"identity, chunked", b"gzip", b"xchunked", b"chunked;q=1", b"", b"\x0bchunked", b"chunked\x00",
    b"chunke\xc9\x84", b",chunked", b"'chunked'", b"c hunked",
)  # fmt: skip
CHUNKS = (
    b"0\r\n\r\n", b"0\n\n", b"5\r\nhello\r\n0\r\n\r\n", b"5\nhello\n0\n\n", b"-1\r\nx\r\n0\r\n\r\n",
    b"+5\r\nhello\r\n0\r\n\r\n", b"0x5\r\nhello\r\n0\r\n\r\n", b"5 \r\nhello\r\n0\r\n\r\n",
    b" 5\r\nhello\r\n0\r\n\r\n", b"5\r\nhelloX\r\n0\r\n\r\n", b"\r\n\r\n", b"5\r\nhell\r\n0\r\n\r\n",
    b"g\r\nx\r\n0\r\n\r\n", b"ffffffffffffffff\r\nx\r\n0\r\n\r\n", b"8000000000000000\r\nx",
    b"00000000000005\r\nhello\r\n0\r\n\r\n", b"5;" + b"a" * 5000 + b"\r\nhello\r\n0\r\n\r\n",
    b"5;\n\r\nhello\r\n0\r\n\r\n", b"0\r\nContent-Length: 5\r\n\r\n", b"0\r\nX: " + b"a" * 9000 + b"\r\n\r\n",
    b"0\r\n" + b"X: y\r\n" * 300 + b"\r\n", b"0\r\nbad trailer\r\n\r\n", b"1\r\n{\r\n" * 300, b"5\r\nhello\r\n0\r\n",
    b"5\r\nhello", b"5", b"0\r\n\r\nGET /api/v1/live HTTP/1.1\r\nHost: test\r\n\r\n", b"7fffffff\r\n",
    b"5\r\n\0\0\0\0\0\r\n0\r\n\r\n", b"fffff\r\n" + b"x" * 100_000,
)  # fmt: skip
VERSIONS = (
    b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.2", b"HTTP/1.10", b"HTTP/11", b"http/1.1", b"HTTP/1.1 x", b"",
    b"HTTP/", b"HTTP/1", b"ICY/1.1", b"HTTP/-1.1", b"HTTP/1.\xb9", b"HTTP/01.1",
)  # fmt: skip
UPGRADES = (
    b"Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAA",
    b"Upgrade: websocket\r\nConnection:Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + b"A" * 22 + b"==",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\nSec-WebSocket-Key: x",
    b"Connection: Upgrade\r\nUpgrade: TLS/1.0",
)  # fmt: skip
TARGETS = (
    b"*", b"", b"http://test/api/v1/live", b"http://test", b"//test/api/v1/live", b"test:80", b"api/v1/live",
    b"/api/v1/live#x", b"/api/\xff", b"/\0", b"/api/v1/live x", b"?", b"http://[/api", b"http://test:99999/api",
    b"file:///etc/passwd", b"/" + b"?" * 100, b"/%", b"/api/v1/live?" + b"&" * 2000,
)  # fmt: skip
LINES = (
    b"X", b": x", b" folded", b"\tfolded", b"X : y", b"X\t: y", b"X\0Y: z", b"X: a\0b", b"X: a\rb", b"X: a\nb",
    b"X\xff: y", b"(X): y", b"X: \x01", b"Content_Length: 5", b"Transfer_Encoding: chunked", b"Host: other",
    b"Expect: 100-continue", b"Expect: x", b"Script-Name: /api", b"Path-Info: /",
    b"X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off", b"Connection: close, keep-alive, " + b"x" * 200,
    b"Connection: Transfer-Encoding",
)  # fmt: skip
PREFACES = (
    b"\r\n", b"\r\n" * 20, b"\n", b" ", b"\0", b"\r", b"x\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + b"\1" * 12, b"\x80\x01",
)  # fmt: skip
