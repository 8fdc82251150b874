"""The recipes of CONTRIBUTING.md, followed in a copy of the tree: few files are edited by hand, and all checks pass."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent, indent

import pytest

from tests.docs.pages import section
from tests.support.processes import clean_environment
from tests.support.servers import LEFT_OUT, ROOT

pytestmark = pytest.mark.slow

MOST_FILES = 6
"""Files that a recipe may ask an author to edit by hand."""
PAGES_WITH_TASKS = ("README.md", "docs/api.md", "docs/sync.md", "docs/export-import.md")
GENERATED = {"docs/openapi.json", *PAGES_WITH_TASKS}
MYPY_CACHE = ".mypy_cache"


class Copy:
    """A copy of the tree, and the files in it that were edited by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = shutil.copytree(ROOT, folder, ignore=LEFT_OUT)
        if (ROOT / MYPY_CACHE).exists():
            shutil.copytree(ROOT / MYPY_CACHE, folder / MYPY_CACHE)
        self.edited: set[str] = set()
        inherited = ("PYTEST_", "COV_", "COVERAGE_")
        environment = {name: value for name, value in clean_environment().items() if not name.startswith(inherited)}
        # No command of a recipe opens the database.
        environment |= {"ENVIRONMENT": "development", "DATABASE_URL": "embedded://.postgres"}
        path = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
        self._environment = environment | {"PATH": path}

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-20_000:]}"
        return done.stdout

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, encoding="utf-8")
        self.edited.add(name)

    def replace(self, name: str, anchor: str, text: str) -> None:
        """Puts `text` in the place of `anchor`, which stands in the file once."""
        before = (self.folder / name).read_text(encoding="utf-8")
        found = before.count(anchor)
        assert found == 1, f"{name} has {found} times the place where this test edits it, so change the test:\n{anchor}"
        self.write(name, before.replace(anchor, text))

    def insert(self, name: str, before: str, text: str) -> None:
        """Puts `text`, indented like `before`, in front of the line that begins with `before`."""
        space = re.match(" *", before)
        assert space
        self.replace(name, f"\n{before}", f"\n{indent(dedent(text).lstrip('\n'), space[0])}{before}")

    def new_revision(self, description: str, why: str, upgrade: str, downgrade: str) -> None:
        """Writes a revision as an author does: the rules in the docstring of the template make room for the reason."""
        wrote = self.run("python", "manage.py", "migrate_sql", "--new", description)
        name = wrote.removeprefix("Wrote ").partition(";")[0]
        rules = (self.folder / name).read_text(encoding="utf-8").split('"""')[1].partition("\n")[2]
        self.replace(name, rules, f"\n{why}\n")
        self.replace(name, 'op.execute("write the migration")', upgrade)
        self.replace(name, 'op.execute("write the way back")', downgrade)

    def generate(self) -> None:
        self.run("python", "manage.py", "export_openapi")
        # `make record-docs` takes minutes for all pages.
        self.run("python", "-m", "tests.support.record_docs", *PAGES_WITH_TASKS)

    def check(self, *tests: str) -> None:
        self.run("ruff", "check")
        self.run("ruff", "format", "--check")
        self.run("lint-imports")
        self.run("mypy")
        self.run("pytest", "-q", "-n", "2", "tests/api", "tests/docs", "tests/commands/test_export_openapi.py", *tests)

    def changed(self) -> set[str]:
        """The files that differ from those of the tree, or are new."""
        files = (file for file in self.folder.rglob("*") if file.suffix in (".py", ".md", ".json", ".example"))
        names = (file.relative_to(self.folder).as_posix() for file in files)
        return {name for name in names if "_cache/" not in name and not self._is_the_same(name)}

    def _is_the_same(self, name: str) -> bool:
        return (ROOT / name).exists() and (ROOT / name).read_bytes() == (self.folder / name).read_bytes()

    def assert_follows(self, recipe: str) -> None:
        """The recipe names the files that were edited, or their folders, and these and generated ones are all."""
        steps = section(ROOT / "CONTRIBUTING.md", recipe)
        assert [name for name in self.edited if name not in steps and str(Path(name).parent) not in steps] == []
        assert self.changed() <= self.edited | GENERATED
        assert len(self.edited) <= MOST_FILES, self.edited


TEST_OF_URL = '''
"""The `url` of a task."""

from uuid import UUID

import pytest

from persistence.postgres.database import Database
from persistence.postgres.errors import ConstraintViolated
from tests.support.helpers import Client, Json, address, assert_problem, get_task, insert_task, make_task

LONGEST = "https://example.com/" + "x" * 1980


async def test_a_url_is_stored_and_null_clears_it(client: Client, alice: UUID) -> None:
    task = await make_task(client, alice, url=LONGEST)
    assert (await get_task(client, task))["url"] == LONGEST

    changed = await client.patch(address(task), json={"priority": "high"})
    cleared = await client.patch(address(task), json={"url": None})

    assert changed.json()["url"] == LONGEST
    assert cleared.status_code == 200
    assert (await get_task(client, task))["url"] is None


@pytest.mark.parametrize("url", [LONGEST + "x", "", "ftp://example.com", "https://exämple.com", "https://a b", 7])
async def test_it_refuses_what_is_not_a_url(client: Client, task: Json, url: object) -> None:
    assert_problem(await client.patch(address(task), json={"url": url}), 400, "invalid-input", "url")


@pytest.mark.parametrize("url", [LONGEST + "x", "ftp://example.com"])
async def test_the_database_refuses_it_too(database: Database, alice: UUID, url: str) -> None:
    with pytest.raises(ConstraintViolated, match="ck_tasks_url"):
        await insert_task(database, alice, "Buy milk", url=url)
'''.lstrip()


@pytest.fixture
def project(tmp_path: Path) -> Copy:
    return Copy(tmp_path / "project")


def test_a_nullable_field_is_added_by_its_recipe(project: Copy) -> None:
    models = "persistence/models.py"
    project.insert(models, "TAGS_MAX_COUNT = ", "URL_MAX_LENGTH = 2000\n")
    project.insert(models, "TAGS_MAX_COUNT = ", 'URL_FORM = "^https?://[!-~]+$"\n')
    project.insert(models, "    tags: list[str] = ", "url: str | None = Field(default=None, sa_type=Text)\n")
    rule = """CheckConstraint(f"char_length(url) <= {URL_MAX_LENGTH} AND url ~ '{URL_FORM}'", name="url_valid"),\n"""
    project.insert(models, '        CheckConstraint(f"cardinality(tags) <= {TAGS_MAX_COUNT}"', rule)
    add_rule = (
        'op.execute(\n        "ALTER TABLE tasks ADD CONSTRAINT ck_tasks_url_valid"\n'
        """        " CHECK (char_length(url) <= 2000 AND url ~ '^https?://[!-~]+$') NOT VALID"\n    )"""
    )
    project.new_revision(
        "Add tasks.url",
        "The next revision validates its rule.",
        f'op.execute("ALTER TABLE tasks ADD COLUMN url text")\n    {add_rule}',
        'op.execute("ALTER TABLE tasks DROP COLUMN url")',
    )
    project.new_revision(
        "Validate the rule of tasks.url",
        "It reads the whole table and blocks nobody.",
        'op.execute("ALTER TABLE tasks VALIDATE CONSTRAINT ck_tasks_url_valid")',
        f'op.execute("ALTER TABLE tasks DROP CONSTRAINT ck_tasks_url_valid")\n    {add_rule}',
    )
    project.insert("todos/schemas.py", "    Priority,\n    Status,\n", "URL_FORM,\nURL_MAX_LENGTH,\n")
    project.insert(
        "todos/schemas.py",
        "    tags: Annotated[\n        Tags,\n",
        """
        url: Annotated[
            Annotated[str, Field(max_length=URL_MAX_LENGTH, pattern=URL_FORM)] | None,
            Field(
                description=f"A page about it: http or https, in ASCII, at most {URL_MAX_LENGTH} characters, or null.",
                examples=["https://example.com/milk"],
            ),
        ] = None
        """,
    )
    project.insert(
        "docs/api.md",
        "| `tags` | yes |",
        "| `url` | yes | an `http` or `https` URL in ASCII, up to 2000 characters, or `null` | `null` |\n",
    )
    project.write("tests/api/test_url.py", TEST_OF_URL)
    project.generate()

    databases = (f"tests/database/test_{name}.py" for name in ("schema", "migrations", "migration_files", "states"))
    project.check(*databases, "tests/commands/test_migrate_sql.py")
    project.assert_follows("Add a field to a task")


TEST_OF_COUNT = '''
"""Counting tasks only: GET /api/{user_id}/tasks/count."""

from uuid import UUID

from tests.support.helpers import Client, make_task


async def test_it_counts_the_tasks_of_this_user(client: Client, alice: UUID, bob: UUID) -> None:
    for user in (alice, alice, bob):
        await make_task(client, user)

    assert (await client.get(f"{alice}/tasks/count")).json() == {"count": 2}
'''.lstrip()


def test_an_endpoint_is_added_by_its_recipe(project: Copy) -> None:
    project.insert(
        "persistence/task_lists.py",
        "async def summary(",
        '''
        COUNT = Statement("count", sa.select(sa.func.count().label("count")).select_from(TABLE).where(MINE))


        async def count(database: Database, user_id: UUID) -> dict[str, Any]:
            """The number of the user's tasks. One round trip."""
            row = await database.row(COUNT, {"user_id": user_id})
            assert row
            return row


        ''',
    )
    project.insert(
        "todos/schemas.py",
        "class TaskSummary(",
        '''
        class TaskCount(BaseModel):
            """The number of tasks of a user."""

            count: _Count


        ''',
    )
    project.insert(
        "todos/contract.py",
        "GET_TASK = ",
        'COUNT_TASKS = operation("count_tasks", "Count tasks only", {200: answer("The number.", {"count": 3})})\n',
    )
    project.replace("todos/api.py", " TaskChanges, TaskOut,", " TaskChanges, TaskCount, TaskOut,")
    project.insert(
        "todos/api.py",
        "@router.get(_TASK, ",
        '''
        @router.get(_TASKS + "/count", response={200: TaskCount}, **contract.COUNT_TASKS)
        async def count_tasks(request: Request, user_id: UserId) -> HttpResponse:
            """The number of the user's tasks. An unknown user has none."""
            return json_response(await task_lists.count(request.database, user_id))


        ''',
    )
    project.insert(
        "docs/api.md",
        "| `GET /api/{user_id}/tasks/{task_id}` |",
        "| `GET /api/{user_id}/tasks/count` | the number of the user's tasks | 200 |\n",
    )
    project.write("tests/api/test_count.py", TEST_OF_COUNT)
    project.generate()

    project.check("tests/database/test_statement.py")
    project.assert_follows("Add an endpoint")
