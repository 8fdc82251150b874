"""The database that `DATABASE_URL` names: one that runs anywhere, or the embedded one of development."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from persistence.postgres.dsn import BadDatabaseUrl, Dsn
from persistence.postgres.libpq import own_environment

EMBEDDED = "embedded://"

_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class DatabaseLocation:
    """`DATABASE_URL` with the settings that say how to read it."""

    url: str = field(repr=False)
    private_hosts: Collection[str] = ()
    behind_pooler: bool = False

    def check(self) -> None:
        """Raises `BadDatabaseUrl` for a URL that cannot be used. Opens no connection."""
        if not self._is_embedded:
            Dsn.parse(self.url, self.private_hosts)
        elif not self._folder:
            raise BadDatabaseUrl("it names no folder for the data")

    @contextmanager
    def running(self) -> Iterator[Dsn]:
        """The address of the database; an embedded one runs at least until the end of the block.

        Raises `EmbeddedPostgresError`.
        """
        own_environment()
        if self._is_embedded:
            # Only here, so that a bad environment is reported before anything large is loaded.
            from persistence.development import embedded_postgres

            with embedded_postgres.running(_ROOT / self._folder) as dsn:
                yield dsn
        else:
            yield Dsn.parse(self.url, self.private_hosts, behind_pooler=self.behind_pooler)

    @property
    def _is_embedded(self) -> bool:
        return self.url.startswith(EMBEDDED)

    @property
    def _folder(self) -> str:
        return self.url.removeprefix(EMBEDDED).rstrip("/")
