"""What root types on docs/operations.md is rehearsed by `make rehearse`, which takes minutes and needs podman."""

from tests.rehearsal.page import DEPLOY, RESTORE, START, is_like, steps, typed, with_values


def test_everything_that_root_types_is_in_a_section_that_is_rehearsed() -> None:
    rehearsed = [step for section in (START, DEPLOY, RESTORE) for step in steps(section)]

    assert len(rehearsed) == typed()
    assert [step.command for step in rehearsed if step.shown == ""] == []


def test_only_numbers_and_ids_may_differ_from_what_the_page_shows() -> None:
    assert is_like("Took 12.5 ms at 127.0.0.1:8000", "Took 3 ms at  127.0.0.1:9000\n")
    assert is_like("one\ntwo\nthree", "one ... three")
    assert not is_like("failed in 12 ms", "done in 12 ms")
    assert not is_like("one\ntwo", "one")


def test_the_rehearsal_puts_its_values_into_assignments_only() -> None:
    assert (
        with_values("DOMAIN=todo.example.com\ncurl https://$DOMAIN", {"DOMAIN": "x"})
        == "DOMAIN=x\ncurl https://$DOMAIN"
    )
