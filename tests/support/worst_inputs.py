"""The requests that cost a server most to read and refuse for their size: within the limits, at one, or beyond.

`TASKS` stands for the path of a user's tasks. An import is not among them: other requests have their turn between its
lines (`todos/imports.py`).
"""

from server.limits import CHUNKS_MAX, HEADER_MAX, HEADERS_MAX, LINE_MAX
from todos.batches import ITEMS_MAX
from web.strict_json import MARKS_MAX, MEMBERS_MAX

PLAIN = (
    b"POST TASKS HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Type: application/json\r\n"
    b'Content-Length: 21\r\n\r\n{"title": "Buy milk"}'
)
"""A create, by which all others are measured."""

_JSON = b"Content-Type: application/json\r\n"
_TASK = b" TASKS/6a1c9fb6-9e1b-4d5b-8d5e-0a7d0b1f6c11"
_LINE = LINE_MAX - 100
_VALUE = HEADER_MAX - 100
_MANY = HEADERS_MAX - 5


def heads() -> dict[str, bytes]:
    """Requests whose first line or headers are large."""
    return {
        **{f"query of {name}": _request(b"GET TASKS?" + query) for name, query in _QUERIES.items()},
        **{f"path of {name}": _request(b"GET " + path) for name, path in _PATHS.items()},
        **{f"header {name}": _request(b"GET /api/v1/live", header + b"\r\n") for name, header in _HEADERS.items()},
        **{
            f"If-Match of {name}": _request(b"DELETE" + _TASK, b"If-Match: %s\r\n" % tags)
            for name, tags in _TAGS.items()
        },
        **{
            f"If-None-Match of {name}": _request(b"GET" + _TASK, b"If-None-Match: %s\r\n" % tags)
            for name, tags in _TAGS.items()
        },
        **{f"many headers: {name}": _request(b"GET" + _TASK, lines) for name, lines in _MANY_HEADERS.items()},
        "header Idempotency-Key": _post(b'{"title": "x"}', b"Idempotency-Key: %s\r\n" % _fill(b"a", _VALUE)),
        "header Content-Encoding": _post(b'{"title": "x"}', b"Content-Encoding: %s\r\n" % _fill(b"gzip", _VALUE, b",")),
    }  # fmt: skip


def bodies(size: int) -> dict[str, bytes]:
    """Requests with a body of almost so many bytes."""
    room = size - 200
    numbers = range(100_000, 100_000 + room // 11)
    items: dict[str, bytes] = {}
    for value in (b"1", b"1e9", b"null", b'""', b'"a"', b"[]", b"{}", b'{"a":1}', b"[[[[[[[[]]]]]]]]"):
        shown = value.decode()
        items[f"many {shown}"] = _fill(value, room, b",")
        items[f"as many {shown} as are read"] = b",".join([value] * ((MARKS_MAX - 10) // (1 + value.count(b"["))))
    items |= {
        "different ones": b",".join(b'"%x"' % number for number in numbers),
        "as many as may be": b",".join([b"1"] * 100),
        "long ones": _fill(b'"%s"' % (b"a" * 100), room, b","),
        "long numbers": _fill(b"9" * 4_000, room, b","),
        "long floats": _fill(b"1" * 4_000 + b".0", room, b","),
        "one long number": _fill(b"9", room),
        "one long float": _fill(b"9", room) + b".0",
        "lists in lists": _fill(b"[", 4_500) + _fill(b"]", 4_500),
        "one of capitals that grow": b'"%s"' % _fill("\u0130".encode(), room),
        "one of combining marks": b'"a%s"' % _fill("\u0315\u0300".encode(), room),
    }
    texts = {
        "text": _fill(b"a", room),
        "commas": _fill(b",", room),
        "spaces": _fill(b" ", room),
        "digits": _fill(b"0", room),
        "escapes": _fill(b"\\u0041", room),
        "surrogates": _fill(b"\\ud83d\\ude00", room),
        "lone surrogates": _fill(b"\\ud83d", room),
        "capitals that grow": _fill("\u0130".encode(), room),
        "combining marks": b"a" + _fill("\u0315\u0300".encode(), room),
        "a wrong date": b"2030-12-31T17:00:00." + _fill(b"0", room) + b"Z",
    }
    fields = ("title", "description", "status", "due_date", "id")
    odd = {
        "unknown names": b'{"title": "x",%s}' % b",".join(b'"%x":1' % number for number in numbers),
        "as many unknown names as may be": b"{%s}" % b",".join(b'"%x":1' % number for number in range(MEMBERS_MAX)),
        "names twice": b"{%s}" % b",".join(b'"%x":1' % (number - number % 2) for number in numbers),
        "names twice, as many as are read": b"{%s}" % b",".join(
            b'"%x":1' % (number - number % 2) for number in range(MARKS_MAX - 10)
        ),
        "one name": b"{%s}" % _fill(b'"title":"x"', room, b","),
        "a long name": b'{"%s": 1}' % _fill(b"a", room),
        "a long name twice": b'{"%s": 1, "%s": 1}' % ((_fill(b"a", room // 2),) * 2),
        "objects in objects": _fill(b'{"a":', room),
        "lists in lists": _fill(b"[", room),
        "a list": b"[%s]" % _fill(b"1", room, b","),
        "space": _fill(b" ", room) + b'{"title": "x"}',
        "lines": _fill(b"\n", room) + b"x",
        "no JSON": _fill(b"a", room),
        "an open string": b'"' + _fill(b"a", room),
        "backslashes": b'"' + _fill(b"\\\\", room),
        "no UTF-8 at the end": _fill(b" ", room) + b"\xff",
        "zeros": _fill(b"\0", room),
    }  # fmt: skip
    # A chunk of one byte is six on the wire.
    chunks = {
        "of one byte": _fill(b"1\r\n \r\n", 6 * room),
        "of one byte, as many as may be": b"1\r\n \r\n" * (CHUNKS_MAX - 5),
        "of one byte, with extensions": _fill(b"1;a\r\n \r\n", 8 * room),
        "with sizes of zeros": _fill(b"0" * _VALUE + b"1\r\n \r\n", 8 * room),
        "with long extensions": _fill(b"1" + _fill(b";a=1", _VALUE) + b"\r\n \r\n", 8 * room),
        "with many trailers": b"0\r\n" + (b"x: " + b"a" * _VALUE + b"\r\n") * _MANY,
    }
    ids = [b"6a1c9fb6-9e1b-4d5b-8d5e-0a7d0b1f6c%02x" % number for number in range(100)]
    batches = {
        "empty items": _fill(b"{}", room, b","),
        "as many empty items as may be": b",".join([b"{}"] * 100),
        "numbers": _fill(b"1", room, b","),
        "unknown operations": b",".join([b'{"op":"%b"}' % _fill(b"a", room // 100 - 20)] * 100),
        "the same id": b",".join([b'{"op":"delete","id":"6a1c9fb6-9e1b-4d5b-8d5e-0a7d0b1f6c11"}'] * 100),
        "new tasks": b",".join(b'{"op":"create","id":"%b","title":"x"}' % each for each in ids),
        "tasks that are not there": b",".join(b'{"op":"delete","id":"%b","if_version":1}' % each for each in ids),
        "long titles": b",".join([b'{"op":"patch","title":"%b"}' % _fill(b"a", room // 100 - 40)] * 100),
        "many wrong tags": b",".join([b'{"op":"patch","tags":[%b]}' % _fill(b"1", 400, b",")] * 60),
        "unknown names": b",".join([b'{"op":"patch",%b}' % b",".join(b'"%x":1' % each for each in range(50))] * 40),
    }  # fmt: skip
    part = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
    return {
        **{f"tags: {name}": _post(b'{"title": "x", "tags": [%s]}' % tags) for name, tags in items.items()},
        **{
            f"{field}: {name}": _post(b'{"title": "x", "%s": "%s"}' % (field.encode(), text))
            for field in fields
            for name, text in texts.items()
        },
        **{f"body: {name}": _post(body) for name, body in odd.items()},
        **{f"chunks {name}": _request(b"POST TASKS", _JSON + b"Transfer-Encoding: chunked\r\n") + sent + b"0\r\n\r\n"
           for name, sent in chunks.items()},
        **{f"batch of {name}": _request(b"POST TASKS/batch", _JSON, b'{"items":[%b]}' % sent)
           for name, sent in batches.items()},
        "a form": _request(
            b"POST TASKS", b"Content-Type: application/x-www-form-urlencoded\r\n", _fill(b"a=1", room, b"&")
        ),
        "a form in parts": _request(
            b"POST TASKS", b"Content-Type: multipart/form-data; boundary=x\r\n", _fill(part, room)
        ),
        "the body of a GET": _request(b"GET TASKS?limit=1", _JSON, _fill(b"a", room)),
    }  # fmt: skip


def batches() -> dict[str, bytes]:
    """Batches as large as may be, with as many items."""
    # Only here, as it needs Django's settings, which `python -m tests.faults` has none of.
    from web.body_limits import BATCH

    size, room = BATCH.size - 200, BATCH.size // ITEMS_MAX - 200
    emoji = "\U0001f600".encode()
    tags = b",".join(b'"%02d%s"' % (number, emoji * 8) for number in range(20))
    largest = b'"title": "%s", "description": "%s", "tags": [%s]' % (emoji * 200, emoji * 1_000, tags)
    items = {
        "the largest tasks": b'"op": "create", "id": "00000000-0000-4000-8000-0000000000NN", ' + largest,
        "restored": b'"op": "restore", "id": "00000000-0000-4000-8000-0000000001NN"',
        "empty tags": b'"op": "patch", "tags": [%s]' % b",".join([b'""'] * 100),
        "unknown names": b'"op": "delete", %s' % b",".join(b'"%x": 1' % number for number in range(MEMBERS_MAX - 1)),
        "an unknown kind": b'"op": "%s"' % _fill(b"a", room),
        "titles that grow": b'"op": "create", "title": "%s"' % _fill("\u0130".encode(), room),
        "combining marks": b'"op": "create", "title": "a%s"' % _fill("\u0315\u0300".encode(), room),
        "a long name": b'"%s": 1' % _fill(b"a", room),
    }
    values = {
        **{name: b",".join(b"{%s}" % item.replace(b"NN", b"%02d" % number) for number in range(ITEMS_MAX))
           for name, item in items.items()},
        "many objects": b",".join([b"{}"] * (BATCH.marks // 2 - 10)),
        "many numbers": b",".join([b"1"] * (BATCH.marks - 10)),
        "space": _fill(b" ", size),
        "one text": b'"%s"' % _fill(b"a", size),
        "surrogates": b'{"op": "create", "title": "%s"}' % _fill(b"\\ud83d\\ude00", size),
    }  # fmt: skip
    return {name: _request(b"POST TASKS/batch", _JSON, b'{"items": [%s]}' % sent) for name, sent in values.items()}


def _fill(unit: bytes, size: int, joint: bytes = b"") -> bytes:
    """The unit repeated, with the joint between, in at most so many bytes."""
    return joint.join([unit] * ((size + len(joint)) // len(unit + joint)))


def _request(line: bytes, headers: bytes = b"", body: bytes | None = None) -> bytes:
    length = b"" if body is None else b"Content-Length: %d\r\n" % len(body)
    return line + b" HTTP/1.1\r\nHost: test\r\nConnection: close\r\n" + headers + length + b"\r\n" + (body or b"")


def _post(body: bytes, headers: bytes = b"") -> bytes:
    return _request(b"POST TASKS", _JSON + headers, body)


_QUERIES = {
    "one unknown name": _fill(b"a", _LINE, b"&"),
    "many unknown names": b"&".join(b"%x" % number for number in range(1_500)),
    "as many unknown names as are read": b"&".join(b"%x" % number for number in range(199)),
    "one parameter again and again": _fill(b"q=", _LINE, b"&"),
    "wrong priorities": b"&".join([b"priority=" + b"a" * 30] * 199),
    "empty tags": b"&".join([b"tag="] * 199),
    "different tags": b"&".join(b"tag=%x" % number for number in range(100)),
    "separators": _fill(b"&", _LINE),
    "escapes": b"q=" + _fill(b"%41", _LINE),
    "escapes of no UTF-8": b"q=" + _fill(b"%FF", _LINE),
    "percent signs": b"q=" + _fill(b"%", _LINE),
    "words": b"q=" + _fill(b"a", _LINE, b"+"),
    "different words": b"q=" + b"+".join(b"%x" % number for number in range(1_900)),
    "spaces in a timestamp": b"due_before=" + _fill(b"+", _LINE),
    "digits in a timestamp": b"due_before=2030-12-31T17:00:00." + _fill(b"0", _LINE),
    "a long cursor": b"cursor=" + _fill(b"A", _LINE),
    "digits": b"limit=" + _fill(b"9", _LINE),
}
_PATHS = {
    "one segment": b"/api/" + _fill(b"a", _LINE),
    "slashes": _fill(b"/", _LINE),
    "escapes": b"/api/" + _fill(b"%41", _LINE) + b"/tasks",
    "escapes of no UTF-8": b"/api/" + _fill(b"%ff", _LINE) + b"/tasks",
    "a long id": b"TASKS/" + _fill(b"a", _LINE),
}
_HEADERS = {
    "Content-Type: semicolons": b"Content-Type: a" + _fill(b";", _VALUE),
    "Content-Type: parameters": b"Content-Type: application/json" + _fill(b";a=1", _VALUE),
    "Content-Type: quotes": b"Content-Type: application/json;a=" + _fill(b'"', _VALUE),
    "Content-Type: continuations": b"Content-Type: a" + _fill(b";a*1*=utf-8''%41", _VALUE),
    "Accept": b"Accept: " + _fill(b"a/b;q=0.1", _VALUE, b","),
    "Accept-Encoding": b"Accept-Encoding: " + _fill(b"a;q=0.1", _VALUE, b","),
    "Authorization": b"Authorization: Bearer " + _fill(b"a.", _VALUE),
    "Connection": b"Connection: " + _fill(b"a", _VALUE, b","),
    "Cookie": b"Cookie: " + _fill(b"a=1", _VALUE, b";"),
    "Cookie: quotes": b"Cookie: a=" + _fill(b'"\\', _VALUE),
    "Expect": b"Expect: " + _fill(b"a", _VALUE),
    "Forwarded": b"Forwarded: " + _fill(b"for=1", _VALUE, b","),
    "Origin": b"Origin: http://" + _fill(b"a.", _VALUE),
    "Origin: brackets": b"Origin: http://[" + _fill(b":", _VALUE),
    "Range": b"Range: bytes=" + _fill(b"0-1", _VALUE, b","),
    "Upgrade": b"Upgrade: websocket\r\nSec-WebSocket-Key: " + _fill(b"a", _VALUE),
    "X-Forwarded-For": b"X-Forwarded-For: " + _fill(b"1.1.1.1", _VALUE, b","),
    "X-Request-ID": b"X-Request-ID: " + _fill(b"a", _VALUE),
    "with a long name": _fill(b"x", _VALUE) + b": 1",
}
_TAGS = {
    "commas": _fill(b",", _VALUE),
    "empty tags": _fill(b'""', _VALUE, b","),
    "weak tags": _fill(b'W/"1"', _VALUE, b","),
    "different tags": b",".join(b'"%d"' % number for number in range(1_100)),
    "as many tags as are read": b",".join(b'"%d"' % number for number in range(100)),
    "one long tag": b'"%s"' % _fill(b"1", _VALUE),
    "space": _fill(b" ", _VALUE) + b"x",
}
_MANY_HEADERS = {
    "long values": (b"x: " + b"a" * _VALUE + b"\r\n") * _MANY,
    "long names": (b"x" * _VALUE + b": 1\r\n") * _MANY,
    "If-None-Match": (b"If-None-Match: " + b"," * _VALUE + b"\r\n") * _MANY,
    "Cookie": (b"Cookie: " + _fill(b"a=1", _VALUE, b";") + b"\r\n") * _MANY,
    "as long values as may be": (b"x: " + b"a" * 300 + b"\r\n") * _MANY,
    "as long names as may be": (b"x" * 300 + b": 1\r\n") * _MANY,
    "short": b"".join(b"x-%d: 1\r\n" % number for number in range(_MANY)),
}
