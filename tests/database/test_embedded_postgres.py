"""The development PostgreSQL: any number of processes share it, the last one stops it, and no crash confuses it."""

import contextlib
import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import psutil
import psycopg
import pytest

from persistence.development import embedded_postgres, guard
from persistence.development.embedded_postgres import EmbeddedPostgresError
from persistence.postgres.dsn import Dsn
from tests.support.servers import LONG, ROOT, eventually

FAST = ["fsync=off"]
HOLD = """
import os, sys
from pathlib import Path
from persistence.development import embedded_postgres
with embedded_postgres.running(Path(sys.argv[1]), ["fsync=off"]):
    if os.fork() == 0:
        # As a worker of gunicorn that cannot start.
        sys.exit()
    os.wait()
    print("running", flush=True)
    sys.stdin.read()
print("left", flush=True)
"""

LEAVE_LATE = """
import os, sys
from pathlib import Path
from persistence.development import embedded_postgres
# The module is emptied before that of os, which holds the block, as modules are in the order of their import.
os.module, os.block = embedded_postgres, embedded_postgres.running(Path(sys.argv[1]), ["fsync=off"])
os.block.__enter__()
if os.fork() == 0:
    sys.exit()
os.wait()
os.block.__exit__(None, None, None)
"""


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, cluster: Path) -> Path:
    """A folder with a database in it, stopped, because making one takes a second."""
    folder = copied(cluster, tmp_path_factory.mktemp("original") / "pg")
    with embedded_postgres.running(folder, FAST) as dsn:
        execute(dsn, "CREATE TABLE notes (text text); INSERT INTO notes VALUES ('kept')")
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it. Processes that a failed test leaves running are ended."""
    folder = copied(original, tmp_path / "pg")
    yield folder
    for process in postgres_of(folder):
        process.kill()


def copied(original: Path, folder: Path) -> Path:
    subprocess.run(["cp", "-a", str(original), str(folder)], check=True)
    return folder


def execute(dsn: Dsn, query: str) -> None:
    with psycopg.connect(dsn.conninfo) as connection:
        connection.execute(query.encode())


def notes(dsn: Dsn) -> list[str]:
    with psycopg.connect(dsn.conninfo) as connection:
        return [text for (text,) in connection.execute("SELECT text FROM notes")]


def assert_starts(folder: Path) -> None:
    """It has its data, and is stopped again."""
    with embedded_postgres.running(folder, FAST) as dsn:
        assert notes(dsn) == ["kept"]
    assert postmaster(folder) is None


def postmaster(folder: Path) -> int | None:
    try:
        return int((folder / "data" / "postmaster.pid").read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def postgres_of(folder: Path) -> list[psutil.Process]:
    """The server's processes, the postmaster first."""
    try:
        parent = psutil.Process(postmaster(folder) or 0)
        return [parent, *parent.children(recursive=True)] if parent.name() == "postgres" else []
    except psutil.NoSuchProcess:
        return []


class Holder:
    """Another process that uses the folder's server until it is told to leave."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-c", HOLD, str(folder)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def says(self, word: str) -> None:
        assert self.process.stdout
        assert self.process.stdout.readline().strip() == word

    def leave(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.says("left")
        assert self.process.wait(60) == 0


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
                holder.process.kill()


def test_its_data_survives_a_restart_and_an_error(folder: Path) -> None:
    with contextlib.suppress(ZeroDivisionError), embedded_postgres.running(folder, FAST) as dsn:
        execute(dsn, "INSERT INTO notes VALUES ('new')")
        first = postmaster(folder)
        raise ZeroDivisionError
    assert postmaster(folder) is None
    with embedded_postgres.running(folder, FAST) as dsn:
        assert notes(dsn) == ["kept", "new"]
        assert postmaster(folder) != first
    assert postgres_of(folder) == []


def test_only_its_user_can_reach_it_over_a_socket_in_its_folder(folder: Path) -> None:
    settings = [*FAST, "max_connections=17"]
    with embedded_postgres.running(folder, settings) as dsn, psycopg.connect(dsn.conninfo) as connection:
        assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE((folder / "data").stat().st_mode) == 0o700
        # As root, too, although the server runs as `nobody` then.
        assert folder.stat().st_uid == os.geteuid()
        assert (Path(dsn.host), dsn.database) == (folder, embedded_postgres.DATABASE)
        for name, value in (("listen_addresses", ""), ("server_encoding", "UTF8"), ("max_connections", "17")):
            assert connection.execute(f"SHOW {name}".encode()).fetchone() == (value,)
        processes = postgres_of(folder)
        assert not [link for process in processes for link in process.net_connections("inet")]
        # PostgreSQL refuses to run as root.
        assert all(process.uids().effective != 0 for process in processes)


def test_processes_at_the_same_time_share_one_server_and_the_last_one_stops_it(folder: Path) -> None:
    with holding(folder, folder) as (first, second):
        pid = postmaster(folder)
        assert pid
        first.leave()
        assert postmaster(folder) == pid
        with embedded_postgres.running(folder, FAST) as dsn:
            # Callers in one process share the server, too.
            with embedded_postgres.running(folder, FAST):
                pass
            second.leave()
            assert notes(dsn) == ["kept"]
            assert postmaster(folder) == pid
        assert postmaster(folder) is None


def test_a_forked_process_that_ends_does_not_stop_the_server(folder: Path) -> None:
    with holding(folder) as [holder]:
        assert postmaster(folder)
        holder.leave()
    assert postmaster(folder) is None


def test_a_forked_process_says_nothing_when_its_block_ends_after_its_modules(folder: Path) -> None:
    command = [sys.executable, "-c", LEAVE_LATE, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert postmaster(folder) is None


def test_the_first_start_by_several_at_once_makes_one_database(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    with holding(folder, folder) as holders:
        for holder in holders:
            holder.leave()
    assert postmaster(folder) is None


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_the_server_stops_when_all_processes_that_use_it_are_killed(
    folder: Path, original: Path, tmp_path: Path, number: signal.Signals
) -> None:
    with holding(folder, folder) as (first, second):
        server = psutil.Process(postmaster(folder))
        first.process.send_signal(number)
        first.process.wait(60)
        with holding(copied(original, tmp_path / "other")) as [other]:
            assert server.is_running()
            second.process.send_signal(number)
            second.process.wait(60)

            psutil.wait_procs([server], timeout=LONG)

            assert not server.is_running()
            # The server of another folder goes on.
            assert postmaster(tmp_path / "other")
            other.leave()
    assert_starts(folder)


@pytest.mark.slow
def test_the_server_stops_when_the_process_that_starts_it_is_killed(folder: Path) -> None:
    # While the database is made, the guard gets ready. So it wakes before the server has written its process id.
    shutil.rmtree(folder / "data")
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], cwd=ROOT) as starting:
        while starting.poll() is None and "pg_ctl" not in children(starting.pid):
            pass
        starting.kill()

    eventually(lambda: not guards(folder))

    assert postgres_of(folder) == []


def children(pid: int) -> list[str]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return [each.name() for each in psutil.Process(pid).children()]
    return []


def test_a_process_that_comes_after_a_killed_one_finds_a_server_and_keeps_it(folder: Path) -> None:
    with holding(folder) as [holder]:
        eventually(lambda: len(guards(folder)) == 1)
        [old] = guards(folder)
        holder.process.kill()
        with embedded_postgres.running(folder, FAST) as dsn:
            assert notes(dsn) == ["kept"]
            # The old guard has stopped a server, and begins anew after a moment; or it waits as from the beginning.
            with contextlib.suppress(psutil.TimeoutExpired):
                old.wait(1.5)
            assert notes(dsn) == ["kept"]


def test_a_server_has_a_guard_which_ends_with_it(folder: Path) -> None:
    with embedded_postgres.running(folder, FAST), embedded_postgres.running(folder, FAST):
        eventually(lambda: len(guards(folder)) == 1)
    eventually(lambda: not guards(folder))


def guards(folder: Path) -> list[psutil.Process]:
    """The processes that stop the folder's server when its users were killed."""
    found = psutil.process_iter(["cmdline"])
    end = ["-m", guard.__name__, str(folder / "users.lock")]
    return [each for each in found if (each.info["cmdline"] or [])[1:] == end]


@pytest.mark.parametrize(
    ("name", "has_socket"), [(" a;b'c(d)&|<e>#%2C%(f)s=+~*[g]?{h}!^@\\i\\j:k\tl\rünï→中 ", True), ("a,b", False)]
)
def test_a_folder_may_have_any_name(folder: Path, name: str, has_socket: bool) -> None:
    # In a folder with a short path, so that the socket need not be elsewhere.
    with tempfile.TemporaryDirectory() as short:
        folder = Path(shutil.move(folder, Path(short) / name))
        with embedded_postgres.running(folder, FAST) as dsn:
            assert (Path(dsn.host) == folder) is has_socket
            assert not postgres_of(folder)[0].net_connections("inet")
            assert notes(dsn) == ["kept"]
        assert postmaster(folder) is None


@pytest.mark.parametrize("name", ['a"b', "a$b", "a`b", "a\\\\b", "a\nb", os.fsdecode(b"a\xffb")])
def test_a_name_that_postgresql_cannot_use_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(EmbeddedPostgresError, match="PostgreSQL cannot use the path"):
        assert_starts(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take another user id")
def test_a_user_id_without_a_name_is_refused_readably(tmp_path: Path) -> None:
    keep = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override", "--securebits=+no_setuid_fixup"]
    command = ["setpriv", "--reuid=12345", "--clear-groups", *keep, sys.executable, "-c", HOLD, str(tmp_path / "pg")]

    outcome = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)

    assert "EmbeddedPostgresError" in outcome.stderr
    assert "12345: user does not exist; see 'The embedded database' in docs/database.md" in outcome.stderr


@pytest.mark.parametrize("only_postmaster", [False, True])
def test_a_killed_server_starts_again_with_its_data(folder: Path, only_postmaster: bool) -> None:
    with embedded_postgres.running(folder, FAST):
        processes = postgres_of(folder)
        killed = processes[:1] if only_postmaster else processes
        for process in killed:
            # The others may see at once that the first one is gone, and end by themselves.
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(killed, timeout=60)
        assert postmaster(folder)
        with embedded_postgres.running(folder, FAST) as dsn:
            assert notes(dsn) == ["kept"]
    assert postmaster(folder) is None


def test_a_killed_server_whose_exit_status_is_not_collected_does_not_pass_for_a_living_one(
    folder: Path, tmp_path: Path
) -> None:
    # A container without an init process collects no exit status of a killed server, whose id stays taken.
    program = tmp_path / "postgres"
    shutil.copy("/bin/true", program)
    with subprocess.Popen([program]) as zombie:
        while psutil.Process(zombie.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        (folder / "data" / "postmaster.pid").write_text(f"{zombie.pid}\n")
        assert_starts(folder)


def test_a_damaged_or_outdated_process_id_does_not_keep_it_from_starting(folder: Path) -> None:
    data = folder / "data"
    # After a container's restart another program may have the id.
    for content in ("", "nonsense\n", "999999999\n", f"{os.getpid()}\n{data}\n1700000000\n5432\n"):
        (data / "postmaster.pid").write_text(content)
        assert_starts(folder)


def test_a_database_that_was_killed_while_being_made_is_made_again(tmp_path: Path) -> None:
    half = tmp_path / "half" / "data" / "half-written"
    half.parent.mkdir(parents=True)
    half.write_text("by initdb")
    with embedded_postgres.running(tmp_path / "half", FAST) as dsn:
        execute(dsn, "SELECT 1")
    assert not half.exists()


def short_folder_of(folder: Path) -> Path:
    return Path(tempfile.gettempdir()) / f"todo-postgres-{sha256(os.fsencode(folder)).hexdigest()[:16]}"


def test_a_folder_with_a_long_path_gets_a_socket_with_a_short_one(folder: Path, tmp_path: Path) -> None:
    # The kernel allows 107 bytes for the address of a socket.
    long = tmp_path / ("x" * 60) / ("y" * 60)
    long.mkdir(parents=True)
    folder = folder.rename(long / "pg")
    with embedded_postgres.running(folder, FAST) as dsn:
        short = Path(dsn.host)
        assert short == short_folder_of(folder)
        assert (short.stat().st_uid, stat.S_IMODE(short.stat().st_mode)) == (os.geteuid(), 0o700)
        assert notes(dsn) == ["kept"]
    assert not short.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder of another user")
def test_a_short_socket_folder_of_another_user_is_not_used(tmp_path: Path) -> None:
    # A user that makes the folder first could stand between us and the server.
    short = short_folder_of(tmp_path / ("x" * 100))
    short.mkdir()
    try:
        os.chown(short, 12345, 12345)
        with pytest.raises(EmbeddedPostgresError, match="belongs to another user"):
            assert_starts(tmp_path / ("x" * 100))
    finally:
        short.rmdir()


def test_a_server_that_cannot_start_says_why(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_postgres, "START_ATTEMPTS", 1)
    with pytest.raises(EmbeddedPostgresError) as failure, embedded_postgres.running(folder, ["no_such_setting=1"]):
        pytest.fail("it started")
    assert str(folder / "log") in str(failure.value)
    assert "no_such_setting" in (folder / "log").read_text()
    with pytest.raises(EmbeddedPostgresError, match="folder cannot be used"):
        assert_starts(folder / "log" / "pg")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(EmbeddedPostgresError, match=r"make setup.*DATABASE_URL"):
        assert_starts(folder)
