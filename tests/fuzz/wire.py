"""Ways to bend the bytes of a message, so that a server may no longer see one request in them."""

from collections.abc import Callable
from random import Random

from tests.fuzz.messages import Message
from tests.fuzz.mutations import bend_bytes
from tests.fuzz.noise import CHUNKS, CODINGS, LENGTHS, LINES, PIECES, PREFACES, TARGETS, UPGRADES, VERSIONS

_LENGTH = b"Content-Length: "


def bend_wire(message: Message, random: Random) -> bytes:
    """The bytes of the message, bent once or twice, and seldom left whole."""
    data = message.encode()
    for _ in range(random.choice((1, 1, 2))):
        data = random.choice(_WAYS)(data, random)
    return data


def _bend_head(data: bytes, random: Random) -> bytes:
    head, separator, body = data.partition(b"\r\n\r\n")
    return bend_bytes(head, random, PIECES) + separator + body


def _add_line(line: bytes, data: bytes, random: Random) -> bytes:
    """Puts it anywhere among the headers."""
    lines = data.split(b"\r\n")
    try:
        end = lines.index(b"", 1)
    except ValueError:
        end = len(lines)
    lines.insert(random.randint(min(1, end), end), line)
    return b"\r\n".join(lines)


def _change_length(data: bytes, random: Random) -> bytes:
    start = data.find(_LENGTH)
    if start < 0:
        return _add_line(_LENGTH + random.choice(LENGTHS), data, random)
    start += len(_LENGTH)
    end = data.find(b"\r\n", start)
    said = data[start:end]
    near = b"%d" % (int(said) + random.choice((-5, -1, 1, 2, 60))) if said.isdigit() and len(said) < 9 else b"7"
    return data[:start] + random.choice((near, random.choice(LENGTHS))) + data[end:]


def _add_coding(data: bytes, random: Random) -> bytes:
    name = b"Transfer-Encoding" + random.choice((b": ", b":", b" : ", b":\t"))
    return _add_line(name + random.choice(CODINGS), data, random)


def _send_chunks(data: bytes, random: Random) -> bytes:
    head, _, _ = data.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith((b"Content-Length", b"Transfer-Encoding"))]
    return b"\r\n".join((*lines, b"Transfer-Encoding: chunked", b"", random.choice(CHUNKS)))


def _change_target(data: bytes, random: Random) -> bytes:
    method, _, rest = data.partition(b" ")
    _, _, rest = rest.partition(b" ")
    return b" ".join((method, random.choice(TARGETS), rest))


def _double_line(data: bytes, random: Random) -> bytes:
    return _add_line(random.choice(data.partition(b"\r\n\r\n")[0].split(b"\r\n")), data, random)


def _change_ends(data: bytes, random: Random) -> bytes:
    end = random.choice((b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n "))
    return data.replace(b"\r\n", end, random.choice((1, 2, 3, -1)))


def _grow(data: bytes, random: Random) -> bytes:
    """Beyond the limits of the server, now and then."""
    match random.randrange(4):
        case 0:
            return _add_line(b"X-Long: " + b"x" * random.choice((8000, 8190, 9000, 70_000)), data, random)
        case 1:
            lines = (b"X-%d: y" % number for number in range(random.choice((90, 101, 1000))))
            return _add_line(b"\r\n".join(lines), data, random)
        case 2:
            return data.replace(b"/api", b"/api" + b"/x" * random.choice((3000, 5000, 40_000)), 1)
        case _:
            return data + b"\0" * random.choice((1, 1000, 70_000))


_WAYS: tuple[Callable[[bytes, Random], bytes], ...] = (
    *[lambda data, random: bend_bytes(data, random, PIECES)] * 3,
    *[_bend_head] * 2,
    lambda data, random: _add_line(_LENGTH + random.choice(LENGTHS), data, random),
    _change_length,
    _add_coding,
    _send_chunks,
    lambda data, random: data.replace(b"HTTP/1.1", random.choice(VERSIONS), 1),
    _change_target,
    lambda data, random: _add_line(random.choice(LINES), data, random),
    lambda data, random: _add_line(random.choice(UPGRADES), data, random),
    _double_line,
    _change_ends,
    lambda data, random: random.choice(PREFACES) + data,
    _grow,
    lambda data, random: data[: random.randrange(len(data))] if data else data,
)
