"""Console sessions in Markdown: run again, and compared but for what differs from run to run."""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

_BLOCK = re.compile(r"^```(sh|console)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)\n", re.MULTILINE)
_ASSIGNMENT = re.compile(r"[A-Z_]+=")
_END = "\x01"
# What the server makes up, each kind told from the others by its form.
_MADE_UP = re.compile(
    r"(?P<id>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
    r"|(?P<moment>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z)"
    r"|(?P<date>\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT)"
    r"|(?P<request>\b[0-9a-f]{32}\b)"
    r"|(?P<version>\b1\d{15}\b)"
    r"|(?P<cursor>(?<![\w-])[\w-]{43,}(?![\w-]))"
)


def replayed(page: str, replacements: Mapping[str, str], folder: Path) -> str:
    """The page with what its curl sessions print now; all run in one shell, after the variables that the page sets.

    `replacements` turn what the page says into what is meant here, such as the address of a server, and back again.
    """
    blocks = [block for block in _BLOCK.finditer(page) if "$ curl" in block[2] or _ASSIGNMENT.match(block[2])]
    commands = [_commands(block) for block in blocks]
    script = "".join(f"{command}\nprintf '{_END}'\n" for group in commands for command in group)
    shell = subprocess.run(
        ["bash"],
        input=_replaced(script, replacements),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "command not found" not in shell.stderr, shell.stderr
    back = {there: here for here, there in replacements.items()}
    outputs = _replaced(shell.stdout.replace("\r\n", "\n"), back).split(_END)
    assert len(outputs) == sum(map(len, commands)) + 1, shell.stderr
    parts, position = [], 0
    for block, group in zip(blocks, commands, strict=True):
        parts.append(page[position : block.start(2)])
        position = block.end(2)
        if block[1] == "sh":
            assert outputs.pop(0) == ""
            parts.append(block[2])
            continue
        for command in group:
            output = outputs.pop(0)
            parts.append(f"$ {command}\n{output}{'' if output.endswith('\n') or not output else '\n'}")
    return "".join(parts) + page[position:]


def comparable(page: str) -> str:
    """The page with a number, counted from the first, for each thing that a server makes up.

    The seconds of a `Date` are not told apart: how many of them a session takes is up to the machine.
    """
    names: dict[str, str] = {}

    def name(match: re.Match[str]) -> str:
        if match.lastgroup == "date":
            return "<date>"
        return names.setdefault(match[0], f"<{match.lastgroup} {len(names)}>")

    return _MADE_UP.sub(name, page)


def _commands(block: re.Match[str]) -> list[str]:
    return [block[2].rstrip("\n")] if block[1] == "sh" else _COMMAND.findall(block[2])


def _replaced(text: str, replacements: Mapping[str, str]) -> str:
    for here, there in replacements.items():
        text = text.replace(here, there)
    return text
