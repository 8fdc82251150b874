"""Console sessions in Markdown: run again, and compared but for values that differ from run to run.

`tests/docs/test_docs_examples.py` checks them, and `make record-docs` writes them into the pages.
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.processes import clean_environment

API_URL = "http://127.0.0.1:8000"
"""The address of the API in pages."""
NOT_RECORDED = "<!-- not recorded: "
"""Begins the line above a session that a person has written down; the line goes on with the reason."""

_BLOCK = re.compile(rf"^({NOT_RECORDED}[^\n]+\n)?```(sh|console)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_CAN_RUN = re.compile(r"\A[A-Z_]+=|^\$ (?:\w+=\S+ )*(?:curl|python manage\.py) ", re.MULTILINE)
_COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)\n", re.MULTILINE)
# Without a terminal, curl shows its progress, and a command does not know how wide its lines may be.
_PRELUDE = 'exec 2>&1; export COLUMNS=100; curl() { command curl --silent --show-error "$@"; }\n'
_END = "\x01"
# The next command may ask for the status of this one.
_PRINT_END = f"(status=$?; printf '{_END}'; exit $status)"
_MADE_UP = re.compile(
    r"(?P<id>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
    r"|(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z)"
    r"|(?P<date>\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT)"
    r"|(?P<duration>\b\d+(?:\.\d+)? ms\b|(?<=_ms\": )\d+\.\d+)"
    r"|(?P<request>\b[0-9a-f]{32}\b)"
    r"|(?P<version>\b1\d{15}\b)"
    r"|(?P<second>\b1\d{9}\b)"
    r"|(?P<cursor>(?<![\w-])[\w-]{43,}(?![\w-]))"
)
"""The values that a server makes up, each kind told from the others by its form."""


def replacements(page: str, url: str, user_id: str) -> dict[str, str]:
    """The address of a server and the id of its user, by those that the page shows."""
    shown = re.search(r"(?:/api/|USER_ID=)([0-9a-f-]{36})", page)
    return {API_URL: url} | ({shown[1]: user_id} if shown else {})


def replayed(page: str, words: Mapping[str, str], folder: Path, settings: Mapping[str, str]) -> str:
    """The page with the output that its sessions have now; all run in one shell, with the variables of the page.

    `words` are replaced in commands, such as the address of a server, and put back in the output.
    `settings` are all that commands know of a database.
    """
    blocks = _BLOCK.finditer(page)
    script = "".join(f"{command}\n{_PRINT_END}\n" for block in blocks for command in _commands(block))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    shell = subprocess.run(
        ["bash"],
        input=_PRELUDE + _replaced(script, words),
        cwd=folder,
        env={**clean_environment(), "PATH": path, **settings},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert "command not found" not in shell.stdout, shell.stdout
    back = {there: here for here, there in words.items()}
    outputs = _replaced(shell.stdout.replace("\r\n", "\n"), back).split(_END)

    def run(block: re.Match[str]) -> str:
        shown = [(command, outputs.pop(0)) for command in _commands(block)]
        if not shown or block[2] == "sh":
            return block[0]
        lines = (
            f"$ {command}\n{output}{'' if output.endswith('\n') or not output else '\n'}" for command, output in shown
        )
        return f"```console\n{''.join(lines)}```"

    result = _BLOCK.sub(run, page)
    assert outputs == [""], shell.stdout
    return result


def comparable(page: str) -> str:
    """The page with a number, counted from the first, for each value that a server makes up.

    Seconds and durations are not told apart: how many a session takes is up to the machine.
    """
    names: dict[str, str] = {}

    def name(match: re.Match[str]) -> str:
        if match.lastgroup in ("date", "duration", "second"):
            return f"<{match.lastgroup}>"
        return names.setdefault(match[0], f"<{match.lastgroup} {len(names)}>")

    return _MADE_UP.sub(name, page)


def has_sessions(page: str) -> bool:
    return any(_commands(block) for block in _BLOCK.finditer(page))


def _commands(block: re.Match[str]) -> list[str]:
    """The commands of a session that can run here, or of a block that sets variables."""
    by_hand, kind, body = block.groups()
    if by_hand or not _CAN_RUN.search(body):
        return []
    return [body.rstrip("\n")] if kind == "sh" else _COMMAND.findall(body)


def _replaced(text: str, words: Mapping[str, str]) -> str:
    for here, there in words.items():
        text = text.replace(here, there)
    return text
