"""The real Better Auth of examples/better-auth signs users in for a real API, which checks its tokens."""

import base64
import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from persistence.postgres.dsn import Dsn
from tests.docs.test_clients import commands, examples, run
from tests.support.better_auth import (
    MISSING,
    PASSWORD,
    BetterAuth,
    Person,
    SignedInSite,
    new_person,
    signed_in_site,
)
from tests.support.browser import Browser, browser, is_installed
from tests.support.databases import temporary_database
from tests.support.helpers import assert_problem
from tests.support.processes import free_port
from tests.support.servers import PostgresServer, eventually

__all__ = ["examples"]

slow = [pytest.mark.slow, pytest.mark.skipif(bool(MISSING), reason=f"not installed: {MISSING}")]
in_browser = [*slow, pytest.mark.skipif(not is_installed(), reason="not installed: chromium, chromium-driver")]
PATIENCE = 30
"""Seconds in which a page must show what it is to show."""
KEY_CHANGES = 8
CLIENTS = 4


@pytest.fixture(scope="module")
def own_dsn(server: Dsn, template: str) -> Iterator[Dsn]:
    with temporary_database(server, template) as dsn:
        yield dsn


@pytest.fixture(scope="module")
def site(own_dsn: Dsn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignedInSite]:
    with signed_in_site(own_dsn, tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture
def ana(site: SignedInSite) -> Iterator[Person]:
    with new_person(site.auth) as ana:
        yield ana


def parts_of(token: str) -> list[dict[str, object]]:
    """The token's header and claims."""
    return [json.loads(base64.urlsafe_b64decode(f"{part}==")) for part in token.split(".")[:2]]


def titles(site: SignedInSite, token: str) -> list[str]:
    return [task["title"] for task in site.call(token, "GET", "/me/tasks").json()["items"]]


class TestServers:
    pytestmark = slow

    def test_a_token_holds_the_users_id_and_nothing_personal(self, ana: Person) -> None:
        user = ana.sign_up()

        _, claims = parts_of(ana.token())

        assert claims.keys() == {"iss", "aud", "sub", "sid", "iat", "exp"}
        assert claims["sub"] == str(user)

    @pytest.mark.parametrize("heading", ["Python", "curl"])
    def test_a_client_does_a_days_work_with_a_token(
        self, heading: str, examples: Path, site: SignedInSite, ana: Person
    ) -> None:
        ana.sign_up()

        output = run(commands(heading), examples, TODO_URL=site.web.url, TODO_USER="me", TODO_TOKEN=ana.token())

        assert output.endswith("Delete all of it\n")

    def test_no_valid_token_is_refused_while_keys_change_under_load(self, site: SignedInSite) -> None:
        answers, keys = Counter[int](), set[str]()
        is_over = threading.Event()

        def use() -> None:
            with new_person(site.auth) as person:
                person.sign_up()
                old = person.token()
                while not is_over.is_set():
                    new = person.token()
                    keys.add(str(parts_of(new)[0]["kid"]))
                    for token in (new, old):
                        answers[site.call(token, "GET", "/me/tasks/summary").status_code] += 1

        clients = [threading.Thread(target=use) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        for _ in range(KEY_CHANGES):
            known = len(keys)
            eventually(lambda: len(keys) > known)  # noqa: B023 - it is called within this round
            site.auth.replace_key()
        is_over.set()
        for client in clients:
            client.join()

        assert len(keys) >= KEY_CHANGES
        assert answers.keys() == {200}, answers

    def test_a_token_whose_key_was_withdrawn_is_refused(self, site: SignedInSite, ana: Person) -> None:
        ana.sign_up()
        old = ana.token()
        assert site.call(old, "GET", "/me/tasks").status_code == 200

        site.auth.execute("DELETE FROM auth.jwks")

        # The first use of the new key makes a worker look, and there are several.
        new = ana.token()
        eventually(lambda: site.call(new, "GET", "/me/tasks").status_code == 200 and is_refused(site, old))
        assert site.call(new, "GET", "/me/tasks").status_code == 200

    def test_a_token_outlives_the_sign_out(self, site: SignedInSite, ana: Person) -> None:
        ana.sign_up()
        token = ana.token()

        assert ana.ask("sign-out").status_code == 200

        assert ana.get("token").status_code == 401
        assert site.call(token, "GET", "/me/tasks").status_code == 200

    def test_an_account_is_deleted_with_its_tasks_for_good(self, site: SignedInSite, ana: Person) -> None:
        user = ana.sign_up()
        token = ana.token()
        assert site.call(token, "POST", "/me/tasks", json={"title": "Pack"}).status_code == 201

        assert ana.ask("delete-user", password=PASSWORD).status_code == 200

        assert ana.ask("sign-in/email", email=ana.email, password=PASSWORD).status_code == 401
        refused = site.call(token, "POST", "/me/tasks", json={"title": "Unpack"})
        assert_problem(refused, 403, "account-erased")
        assert titles(site, token) == []
        assert ana.sign_up() != user
        assert titles(site, ana.token()) == []

    def test_a_user_whose_tasks_cannot_be_deleted_stays(self, site: SignedInSite, ana: Person) -> None:
        ana.sign_up()
        assert site.call(ana.token(), "POST", "/me/tasks", json={"title": "Pack"}).status_code == 201

        wrong = ana.ask("delete-user", password="another password")
        site.auth.execute("ALTER TABLE public.users RENAME TO hidden")
        try:
            failed = ana.ask("delete-user", password=PASSWORD)
        finally:
            site.auth.execute("ALTER TABLE public.hidden RENAME TO users")

        assert (wrong.status_code, failed.status_code) == (400, 503)
        assert "so your account stays for now" in failed.json()["message"]
        assert titles(site, ana.token()) == ["Pack"]

    def test_a_port_that_is_taken_is_said_in_one_line(self, site: SignedInSite, own_dsn: Dsn, tmp_path: Path) -> None:
        second = BetterAuth(tmp_path, own_dsn, site.auth.url)

        with pytest.raises(AssertionError), second.running(site.web.url):
            pass

        # Node.js would end with its version, after a stack trace.
        assert second.log.splitlines()[-1] == (
            f"Port {site.auth.url.rpartition(':')[2]} is taken. End the program that has it, or set BETTER_AUTH_URL to "
            "another port."
        )


def is_refused(site: SignedInSite, token: str) -> bool:
    return site.call(token, "GET", "/me/tasks").status_code == 401


class TestPage:
    pytestmark = in_browser

    @pytest.fixture
    def page(self, site: SignedInSite, tmp_path: Path) -> Iterator[Browser]:
        with browser(tmp_path, "localhost") as page:
            page.open(site.auth.url)
            yield page

    def test_a_person_signs_up_adds_a_task_and_deletes_the_account(
        self, page: Browser, site: SignedInSite, ana: Person
    ) -> None:
        sign(page, ana.email, "up")
        add(page, "Pack")
        shows(page, "#list", "Pack")
        page.open(site.auth.url)
        shows(page, "#list", "Pack")

        page.click("#sign-out")
        shows(page, "#sign-in button[value=in]", "Sign in")
        sign(page, ana.email, "in")
        shows(page, "#list", "Pack")

        page.fill("#delete-account input", PASSWORD)
        page.click("#delete-account button")
        shows(page, "#sign-in button[value=in]", "Sign in")
        sign(page, ana.email, "in")
        shows(page, "#error", "Invalid email or password")

    def test_a_page_renews_a_token_before_its_end_and_one_that_is_refused(
        self, page: Browser, site: SignedInSite, ana: Person
    ) -> None:
        sign(page, ana.email, "up")
        add(page, "Pack")
        shows(page, "#list", "Pack")
        renewal = f"{site.auth.url}/api/auth/token"
        page.requests()
        page.complaints()

        # At the end of the fifteen minutes.
        page.run("const now = Date.now; Date.now = () => now() + 14.5 * 60 * 1000;")
        add(page, "Tidy up")
        shows(page, "#list", "Tidy up\nPack")
        assert renewal in page.requests()
        assert page.complaints() == []

        page.run("Date.now = () => performance.timeOrigin + performance.now();")
        site.auth.execute("DELETE FROM auth.jwks")
        with new_person(site.auth) as ben:
            ben.sign_up()
            # Each worker looks for the new key.
            for _ in range(20):
                assert site.call(ben.token(), "GET", "/me/tasks").status_code == 200
        add(page, "Unpack")
        shows(page, "#list", "Unpack\nTidy up\nPack")
        assert renewal in page.requests()
        assert any("401" in complaint for complaint in page.complaints())

    def test_a_page_says_so_when_nothing_answers(self, own_dsn: Dsn, tmp_path: Path) -> None:
        nobody = f"http://127.0.0.1:{free_port()}"
        with BetterAuth(tmp_path, own_dsn).running(nobody) as auth, browser(tmp_path, "localhost") as page:
            page.open(auth.url)
            sign(page, f"{uuid4()}@example.com", "up")

            shows(page, "#error", "The server cannot be reached. Please try again.")

    def test_a_page_signs_nobody_out_while_the_api_cannot_answer(
        self, postgres: PostgresServer, own_dsn: Dsn, tmp_path: Path
    ) -> None:
        with (
            signed_in_site(own_dsn, tmp_path, api_dsn=postgres.dsn, REQUEST_TIMEOUT="1") as site,
            browser(tmp_path, "localhost") as page,
        ):
            page.open(site.auth.url)
            sign(page, f"{uuid4()}@example.com", "up")
            add(page, "Pack")
            shows(page, "#list", "Pack")
            postgres.stop()

            add(page, "Unpack")
            eventually(lambda: page.texts("#error") != [""])
            assert page.texts("#list") == ["Pack"]
            postgres.start()

            eventually(lambda: site.web.http.get("/v1/health").status_code == 200)
            page.click("#new-task button")
            shows(page, "#list", "Unpack\nPack")


def sign(page: Browser, email: str, way: str) -> None:
    page.fill("#sign-in input[name=email]", email)
    page.fill("#sign-in input[name=password]", PASSWORD)
    page.click(f"#sign-in button[value={way}]")


def add(page: Browser, title: str) -> None:
    shows(page, "#new-task button", "Add")
    page.fill("#new-task input", title)
    page.click("#new-task button")


def shows(page: Browser, css: str, text: str) -> None:
    try:
        eventually(lambda: page.texts(css) == [text], PATIENCE)
    except AssertionError:
        raise AssertionError((page.texts(css), page.texts("body"), page.complaints(), page.requests())) from None
