"""Console sessions in Markdown: run again, and compared but for values that differ from run to run."""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

_BLOCK = re.compile(r"^```(sh|console)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)\n", re.MULTILINE)
_END = "\x01"
_MADE_UP = re.compile(
    r"(?P<id>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
    r"|(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z)"
    r"|(?P<date>\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT)"
    r"|(?P<request>\b[0-9a-f]{32}\b)"
    r"|(?P<version>\b1\d{15}\b)"
    r"|(?P<cursor>(?<![\w-])[\w-]{43,}(?![\w-]))"
)
"""The values that a server makes up, each kind told from the others by its form."""


def replayed(page: str, replacements: Mapping[str, str], folder: Path) -> str:
    """The page with the output that its curl sessions have now; all run in one shell, with the variables of the page.

    `replacements` turn words of the page into others, such as the address of a server, and the output back again.
    """
    script = "".join(f"{command}\nprintf '{_END}'\n" for block in _BLOCK.finditer(page) for command in _commands(block))
    shell = subprocess.run(
        ["bash"], input=_replaced(script, replacements), cwd=folder, capture_output=True, text=True, check=False
    )
    assert "command not found" not in shell.stderr, shell.stderr
    back = {there: here for here, there in replacements.items()}
    outputs = _replaced(shell.stdout.replace("\r\n", "\n"), back).split(_END)

    def run(block: re.Match[str]) -> str:
        shown = [(command, outputs.pop(0)) for command in _commands(block)]
        if not shown or block[1] == "sh":
            return block[0]
        lines = (
            f"$ {command}\n{output}{'' if output.endswith('\n') or not output else '\n'}" for command, output in shown
        )
        return f"```console\n{''.join(lines)}```"

    result = _BLOCK.sub(run, page)
    assert outputs == [""], shell.stderr
    return result


def comparable(page: str) -> str:
    """The page with a number, counted from the first, for each value that a server makes up.

    The seconds of a `Date` are not told apart: how many of them a session takes is up to the machine.
    """
    names: dict[str, str] = {}

    def name(match: re.Match[str]) -> str:
        if match.lastgroup == "date":
            return "<date>"
        return names.setdefault(match[0], f"<{match.lastgroup} {len(names)}>")

    return _MADE_UP.sub(name, page)


def _commands(block: re.Match[str]) -> list[str]:
    """The commands of a session with curl, or of a block that sets variables."""
    if block[1] == "sh":
        return [block[2].rstrip("\n")] if re.match(r"[A-Z_]+=", block[2]) else []
    return _COMMAND.findall(block[2]) if "$ curl" in block[2] else []


def _replaced(text: str, replacements: Mapping[str, str]) -> str:
    for here, there in replacements.items():
        text = text.replace(here, there)
    return text
