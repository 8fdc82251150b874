"""Values of headers that leave a request the same request."""

HEADERS = {
    b"Content-Type": (
        b"text/plain", b"application/xml", b"application/json; charset=utf-16", b"multipart/form-data",
        b"multipart/form-data; boundary=x", b"application/x-www-form-urlencoded", b";", b"", b"\xff/\xff",
        b"application/json; charset=\"utf-8\"; x*=utf-8''%ff", b"application/json, text/plain",
    ),
    b"Accept": (b"text/html", b"*/*;q=0", b"", b"application/xml;q=2"),
    b"Host": (
        b"", b"evil.example", b"test:99999", b"[::1]", b"[", b"a" * 300, b"test\xff", b"user@test", b"127.0.0.1:80",
    ),
    b"Origin": (b"null", b"http://evil.example", b"x", b"\xff", b"http://["),
    b"Access-Control-Request-Method": (b"PUT", b"\xff"),
    b"Access-Control-Request-Headers": (b"x", b"*"),
    b"Cookie": (b"csrftoken=x; sessionid=\xff", b"=;=;", b"a" * 5000),
    b"Authorization": (b"Basic !", b"Bearer \xff"),
    b"If-Match": (
        b'"', b'""', b"*, *", b'"1" "2"', b'W/"1"', b'"' + b"9" * 40 + b'"', b'"1",' * 500, b"\xff", b'"-1"', b'"01"',
    ),
    b"If-None-Match": (b"**", b'W/"1", "x"', b'w/"1"', b'"\x80"', b",", b'"' + b"9" * 18 + b'"'),
    b"If-Modified-Since": (b"Thu, 01 Jan 1970 00:00:00 GMT", b"x"),
    b"Range": (b"bytes=0-0", b"bytes=-1,-2,-3"),
    b"Idempotency-Key": (b"", b"a b", b"a,b", b"\xc3\xa9", b"k" * 256, b'"x"', b"a" * 4000),
    b"X-Request-ID": (b"", b"a b", b"\xff", b"x" * 129, b"%0d%0aX-Injected: yes", b"\x80" * 100, b"../.."),
    b"X-Forwarded-For": (b"1.2.3.4, \xff", b""),
    b"X-Forwarded-Proto": (b"https", b"\xff"),
    b"X-HTTP-Method-Override": (b"DELETE",),
    b"Forwarded": (b'for="_x";proto=https',),
    b"Content-Encoding": (b"gzip", b"br, gzip"),
    b"Accept-Encoding": (b"gzip;q=x",),
    b"Accept-Language": (b"xx-" * 200,),
    b"Max-Forwards": (b"-1",),
    b"TE": (b"trailers",),
    b"Connection": (b"close", b"keep-alive", b"X-Request-ID", b"Host"),
}  # fmt: skip
