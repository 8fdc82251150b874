"""The development PostgreSQL: any number of processes share it, the last one out stops it, and no crash confuses it."""

import contextlib
import importlib.util
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path

import psutil
import psycopg
import pytest

from persistence.development import embedded_postgres
from persistence.development.embedded_postgres import EmbeddedPostgresError
from persistence.postgres.dsn import Dsn
from tests.support.servers import ROOT

FAST = ["fsync=off"]
HOLD = """
import sys
from pathlib import Path
from persistence.development import embedded_postgres
with embedded_postgres.running(Path(sys.argv[1]), ["fsync=off"]):
    print("running", flush=True)
    sys.stdin.read()
print("left", flush=True)
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database in it, stopped, because making one takes a second."""
    folder = tmp_path_factory.mktemp("template") / "pg"
    with embedded_postgres.running(folder, FAST) as dsn:
        execute(dsn, "CREATE TABLE notes (text text); INSERT INTO notes VALUES ('kept')")
    return folder


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it; whatever a failed test leaves running is stopped."""
    folder = tmp_path / "pg"
    subprocess.run(["cp", "-a", str(template), str(folder)], check=True)
    yield folder
    for process in postgres_of(folder):
        process.kill()
    for holder in psutil.process_iter(["cmdline"]):
        if str(folder) in (holder.info["cmdline"] or ()):
            holder.kill()


def execute(dsn: Dsn, query: str) -> None:
    with psycopg.connect(dsn.conninfo) as connection:
        connection.execute(query.encode())


def notes(dsn: Dsn) -> list[str]:
    with psycopg.connect(dsn.conninfo) as connection:
        return [text for (text,) in connection.execute("SELECT text FROM notes")]


def postmaster(folder: Path) -> int | None:
    try:
        return int((folder / "data" / "postmaster.pid").read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def postgres_of(folder: Path) -> list[psutil.Process]:
    """Its processes, the postmaster first."""
    try:
        parent = psutil.Process(postmaster(folder) or 0)
        return [parent, *parent.children(recursive=True)] if parent.name() == "postgres" else []
    except psutil.NoSuchProcess:
        return []


class Holder:
    """Another process that uses the folder's server until it is told to leave."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def says(self, word: str) -> None:
        assert self.process.stdout
        line = self.process.stdout.readline().strip()
        assert line == word, line + self.process.stdout.read()

    def leave(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.says("left")
        assert self.process.wait(30) == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)


@contextmanager
def holding(*folders: Path) -> Iterator[list[Holder]]:
    """One holder for each folder named, started at the same time."""
    holders = [Holder(folder) for folder in folders]
    try:
        for holder in holders:
            holder.says("running")
        yield holders
    finally:
        for holder in holders:
            with holder.process:
                holder.kill()


def test_its_data_survives_a_restart(folder: Path) -> None:
    with embedded_postgres.running(folder, FAST) as dsn:
        execute(dsn, "INSERT INTO notes VALUES ('new')")
        first = postmaster(folder)
    assert postmaster(folder) is None

    with embedded_postgres.running(folder, FAST) as dsn:
        assert notes(dsn) == ["kept", "new"]
        assert postmaster(folder) != first
    assert postgres_of(folder) == []


def test_it_makes_a_database_that_nobody_else_can_reach(template: Path) -> None:
    assert stat.S_IMODE(template.stat().st_mode) == 0o700
    assert stat.S_IMODE((template / "data").stat().st_mode) == 0o700


def test_it_listens_on_a_socket_in_its_folder_only(folder: Path) -> None:
    with embedded_postgres.running(folder, FAST) as dsn, psycopg.connect(dsn.conninfo) as connection:
        assert dsn.is_socket
        assert Path(dsn.host) == folder
        assert dsn.database == embedded_postgres.DATABASE
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
        assert connection.execute("SELECT current_setting('server_encoding')").fetchone() == ("UTF8",)
        processes = postgres_of(folder)
        assert not [link for process in processes for link in process.net_connections("inet")]


def test_it_does_not_run_as_root(folder: Path) -> None:
    with embedded_postgres.running(folder, FAST):
        assert all(process.uids().effective != 0 for process in postgres_of(folder))


def test_settings_count_for_the_server(folder: Path) -> None:
    with (
        embedded_postgres.running(folder, [*FAST, "max_connections=17"]) as dsn,
        psycopg.connect(dsn.conninfo) as connection,
    ):
        assert connection.execute("SHOW max_connections").fetchone() == ("17",)


def test_users_at_the_same_time_share_one_server_and_the_last_one_out_stops_it(folder: Path) -> None:
    with holding(folder, folder) as (first, second):
        pid = postmaster(folder)
        assert pid
        first.leave()
        assert postmaster(folder) == pid
        with embedded_postgres.running(folder, FAST) as dsn:
            assert notes(dsn) == ["kept"]
            assert postmaster(folder) == pid
            second.leave()
            assert notes(dsn) == ["kept"]
            assert postmaster(folder) == pid
        assert postmaster(folder) is None


def test_two_users_in_one_process_share_it_too(folder: Path) -> None:
    with embedded_postgres.running(folder, FAST) as dsn:
        with embedded_postgres.running(folder, FAST):
            pass
        assert notes(dsn) == ["kept"]
    assert postmaster(folder) is None


def test_the_first_start_by_several_at_once_makes_one_database(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    with holding(folder, folder) as holders:
        for holder in holders:
            holder.leave()
    assert postmaster(folder) is None


def test_a_killed_user_leaves_a_server_that_the_next_one_uses_and_stops(folder: Path) -> None:
    with holding(folder) as (holder,):
        pid = postmaster(folder)
        holder.kill()

        with embedded_postgres.running(folder, FAST) as dsn:
            assert postmaster(folder) == pid
            assert notes(dsn) == ["kept"]
        assert postmaster(folder) is None


@pytest.mark.parametrize("only_postmaster", [False, True])
def test_a_killed_server_starts_again_with_its_data(folder: Path, only_postmaster: bool) -> None:
    with embedded_postgres.running(folder, FAST):
        processes = postgres_of(folder)
        killed = processes[:1] if only_postmaster else processes
        for process in killed:
            # The others may see at once that the first one is gone, and leave by themselves.
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(killed, timeout=10)
        assert postmaster(folder)

        with embedded_postgres.running(folder, FAST) as dsn:
            assert notes(dsn) == ["kept"]
    assert postmaster(folder) is None


def test_a_killed_server_that_nobody_buries_does_not_pass_for_a_living_one(folder: Path, tmp_path: Path) -> None:
    # In a container without an init process nobody collects the exit status of a killed server, whose id stays taken.
    program = tmp_path / "postgres"
    shutil.copy("/bin/true", program)
    with subprocess.Popen([program]) as zombie:
        while psutil.Process(zombie.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        (folder / "data" / "postmaster.pid").write_text(f"{zombie.pid}\n")

        with embedded_postgres.running(folder, FAST) as dsn:
            assert notes(dsn) == ["kept"]


def test_a_process_id_that_another_program_has_by_now_does_not_keep_it_from_starting(folder: Path) -> None:
    # As after a container's restart, where process ids begin again from 1.
    stale = folder / "data" / "postmaster.pid"
    stale.write_text(f"{os.getpid()}\n{folder / 'data'}\n1700000000\n5432\n{folder}\n\n  1 2\nready\n")

    with embedded_postgres.running(folder, FAST) as dsn:
        assert notes(dsn) == ["kept"]


@pytest.mark.parametrize("content", ["", "nonsense\n", "999999999\n"])
def test_a_damaged_process_id_does_not_keep_it_from_starting(folder: Path, content: str) -> None:
    (folder / "data" / "postmaster.pid").write_text(content)

    with embedded_postgres.running(folder, FAST) as dsn:
        assert notes(dsn) == ["kept"]


def test_a_database_that_was_killed_while_being_made_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "half"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "half-written").write_text("by initdb")

    with embedded_postgres.running(folder, FAST) as dsn:
        execute(dsn, "SELECT 1")
    assert not (folder / "data" / "half-written").exists()


def test_an_error_inside_stops_it_all_the_same(folder: Path) -> None:
    with pytest.raises(RuntimeError), embedded_postgres.running(folder, FAST):
        raise RuntimeError

    assert postmaster(folder) is None


def test_a_folder_with_a_long_path_gets_a_socket_with_a_short_one(folder: Path, tmp_path: Path) -> None:
    # The kernel allows 107 bytes for the address of a socket.
    long = tmp_path / ("x" * 60) / ("y" * 60)
    long.mkdir(parents=True)
    folder = folder.rename(long / "pg")
    with embedded_postgres.running(folder, FAST) as dsn:
        short = Path(dsn.host)
        assert short == Path(tempfile.gettempdir()) / f"todo-postgres-{sha256(os.fsencode(folder)).hexdigest()[:16]}"
        assert stat.S_IMODE(short.stat().st_mode) == 0o700
        assert notes(dsn) == ["kept"]
    assert not short.exists()


def test_a_short_socket_folder_of_somebody_else_is_not_used(folder: Path, tmp_path: Path) -> None:
    # Whoever makes it first could stand between us and the server.
    if os.geteuid() != 0:
        pytest.skip("only root can make a folder of somebody else")
    long = tmp_path / ("x" * 100)
    short = Path(tempfile.gettempdir()) / f"todo-postgres-{sha256(os.fsencode(long)).hexdigest()[:16]}"
    short.mkdir()
    try:
        os.chown(short, 12345, 12345)
        with (
            pytest.raises(EmbeddedPostgresError, match="belongs to somebody else"),
            embedded_postgres.running(long, FAST),
        ):
            pytest.fail("it started")
    finally:
        short.rmdir()


def test_without_the_wheel_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)

    with (
        pytest.raises(EmbeddedPostgresError, match=r"make setup.*DATABASE_URL"),
        embedded_postgres.running(tmp_path / "pg"),
    ):
        pytest.fail("it started")


def test_a_server_that_cannot_start_says_why_and_where_its_log_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_postgres, "START_ATTEMPTS", 1)

    with pytest.raises(EmbeddedPostgresError) as failure, embedded_postgres.running(folder, ["no_such_setting=1"]):
        pytest.fail("it started")

    assert str(folder / "log") in str(failure.value)
    assert "no_such_setting" in (folder / "log").read_text()


def test_a_folder_that_cannot_be_used_is_told_plainly(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")

    with pytest.raises(EmbeddedPostgresError, match="folder cannot be used"), embedded_postgres.running(file / "pg"):
        pytest.fail("it started")


def test_several_at_once_have_a_server_each(folder: Path, template: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    subprocess.run(["cp", "-a", str(template), str(other)], check=True)
    with ExitStack() as stack:
        first = stack.enter_context(embedded_postgres.running(folder, FAST))
        second = stack.enter_context(embedded_postgres.running(other, FAST))
        execute(first, "INSERT INTO notes VALUES ('mine')")
        assert notes(second) == ["kept"]
        assert postmaster(folder) != postmaster(other)
