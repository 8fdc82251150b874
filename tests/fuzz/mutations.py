"""Ways to bend a request: its values, its body, and the bytes that hold all of it together."""

from collections.abc import Callable
from random import Random

from tests.fuzz.headers import HEADERS
from tests.fuzz.messages import Message, encoded, to_json, token
from tests.fuzz.samples import IDS, NOT_TIMESTAMPS, TEXTS, TIMESTAMPS, TOKENS
from tests.support.contract import FIELDS, OPERATIONS, READ_ONLY, SCHEMAS

_PARAMETERS = (*{name.encode(): None for each in OPERATIONS.values() for name in each.parameters}, b"x", b"")
_FIELDS = (*FIELDS, *READ_ONLY, *SCHEMAS["BatchPatch"]["properties"], "items", "x", "")
_ENDS = (b"%ff", b"%C0%AF", b"%00", b"%", b"%ED%A0%80", b";a=b", b"+")
_ENCODINGS = ("utf-16", "utf-16-le", "utf-32", "utf-7", "cp037", "utf-8-sig")


def bend_values(message: Message, random: Random) -> None:
    """Replaces, drops or doubles one to three values; it stays one request."""
    for _ in range(random.randint(1, 3)):
        random.choice(_VALUES)(message, random)


def _bend_path(message: Message, random: Random) -> None:
    place = random.randrange(len(message.path))
    text = random.choice((random.choice(TEXTS), random.choice(IDS)))
    match random.randrange(6):
        case 0:
            message.path.insert(place, encoded(text))
        case 1 if len(message.path) > 1:
            del message.path[place]
        case 2:
            message.path[place] = message.path[place].upper()
        case 3:
            message.path[place] = b"".join(b"%%%02x" % byte for byte in message.path[place])
        case _:
            message.path[place] = encoded(text)


def _bend_query(message: Message, random: Random) -> None:
    text = encoded(random.choice((random.choice(TEXTS), random.choice(NOT_TIMESTAMPS), random.choice(TIMESTAMPS))))
    draw = random.randrange(6)
    if not message.query or draw == 0:
        message.query.append((random.choice(_PARAMETERS), text))
        return
    place = random.randrange(len(message.query))
    name, value = message.query[place]
    match draw:
        case 1:
            message.query += [message.query[place]] * random.choice((1, 2, 30))
        case 2:
            message.query[place] = text, value
        case 3:
            message.query[place] = name, value + random.choice((*_ENDS, text))
        case _:
            message.query[place] = name, text


def _bend_header(message: Message, random: Random) -> None:
    place = random.randrange(len(message.headers)) if message.headers else 0
    match random.randrange(6):
        case 0 if len(message.headers) > 1:
            # Without Host it is not a request.
            dropped = message.headers[place]
            message.headers = [each for each in message.headers if each != dropped or each[0] == b"Host"]
        case 1 if message.headers and message.headers[place][0] not in (b"Host", b"Content-Type"):
            message.headers.append(message.headers[place])
        case 2 if message.headers:
            name, value = message.headers[place]
            message.headers[place] = random.choice((name.lower(), name.upper(), name.swapcase())), value
        case _:
            name, values = random.choice(tuple(HEADERS.items()))
            message.headers = [header for header in message.headers if header[0] != name]
            message.headers.append((name, random.choice(values)))


def _bend_document(message: Message, random: Random) -> None:
    document = message.document
    if not isinstance(document, dict):
        return
    items = document.get("items")
    if isinstance(items, list) and items and isinstance(items[-1], dict) and random.random() < 0.7:
        document = items[-1]
    name = random.choice((*document, *_FIELDS))
    match random.randrange(7):
        case 0:
            document.pop(name, None)
        case 1:
            document[random.choice(TEXTS)] = document.get(name)
        case 2:
            document[name] = [document.get(name)] * random.choice((1, 2, 21, 500))
        case 3:
            document[name] = random.choice(
                (random.choice(TIMESTAMPS), random.choice(NOT_TIMESTAMPS), random.choice(IDS))
            )
        case 4:
            document[name] = random.choice(TEXTS)
        case _:
            document[name] = token(random.choice(TOKENS))
    message.body = to_json(message.document)


_VALUES: tuple[Callable[[Message, Random], None], ...] = (
    _bend_path, _bend_query, _bend_header, _bend_document, _bend_document,
)  # fmt: skip


def bend_body(message: Message, random: Random) -> None:
    """Bends the bytes of the body, which keeps a true length, or is cut in chunks as it should be."""
    body = message.body or b""
    match random.randrange(8):
        case 0:
            body = random.choice(TOKENS)
        case 1:
            body = body.decode("utf-8", "replace").encode(random.choice(_ENCODINGS), "replace")
        case 2:
            body = random.choice((b" " * 70_000, b"[" * 65_000, b'{"title":"' + b"x" * 66_000 + b'"}', b"\0" * 65_536))
        case 3:
            body = body.replace(b'"', random.choice((b"'", b"", b'\\"')), random.randint(1, 4))
        case 4:
            body = body[:-1] + b"," + body[1:]
        case _:
            body = bend_bytes(body, random)
    message.body = body
    if random.random() < 0.3:
        message.chunks = chunks_of(body, random)


def chunks_of(body: bytes, random: Random) -> list[bytes]:
    chunks: list[bytes] = []
    while body:
        size = random.choice((1, 7, 100, 5000, len(body))) if len(chunks) < 50 else len(body)
        part, body = body[:size], body[size:]
        form = random.choice((b"%x", b"%X", b"%04x"))
        chunks.append(form % len(part) + random.choice((b"", b"", b"", b";a=b", b';a="b"')) + b"\r\n" + part + b"\r\n")
    return [*chunks, b"0\r\n" + random.choice((b"", b"", b"X-Trailer: x\r\n")) + b"\r\n"]


def bend_bytes(data: bytes, random: Random, pieces: tuple[bytes, ...] = TOKENS) -> bytes:
    """Flips, drops, doubles or moves some bytes, or brings some from elsewhere."""
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        start = random.randrange(len(data) + 1)
        end = min(len(data), start + random.choice((1, 1, 2, 4, 16, 64)))
        match random.randrange(7):
            case 0:
                flipped = bytes(byte ^ (1 << random.randrange(8)) for byte in data[start : start + 1])
                data = data[:start] + flipped + data[start + 1 :]
            case 1:
                data = data[:start] + data[end:]
            case 2:
                data = data[:end] + data[start:end] * random.choice((1, 1, 50)) + data[end:]
            case 3:
                data = data[:start] + bytes([random.randrange(256)]) + data[start:]
            case 4:
                data = data[:start]
            case 5:
                to = random.randrange(len(data) + 1)
                moved, rest = data[start:end], data[:start] + data[end:]
                data = rest[:to] + moved + rest[to:]
            case _:
                data = data[:start] + random.choice(pieces) + data[end if random.random() < 0.5 else start :]
    return data
