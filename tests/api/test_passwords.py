"""Passwords as bcrypt hashes."""

from functools import partial

import bcrypt
import pytest

from todos.passwords import MAX_BYTES, hash_password


@pytest.mark.parametrize("password", ["Test123!@#", "ä" * (MAX_BYTES // 2)])
def test_a_hash_matches_its_password_only(password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A real one takes a quarter of a second.
    monkeypatch.setattr(bcrypt, "gensalt", partial(bcrypt.gensalt, rounds=4))
    hashed = hash_password(password).encode()

    assert hashed.startswith(b"$2b$")
    assert password.encode() not in hashed
    assert bcrypt.checkpw(password.encode(), hashed)
    assert not bcrypt.checkpw(password.encode()[:-1] + b"?", hashed)
    # Each hash has a salt of its own.
    assert hash_password(password).encode() != hashed


def test_a_hash_is_as_expensive_as_bcrypt_makes_it_by_default() -> None:
    assert hash_password("Test123!@#").startswith("$2b$12$")


@pytest.mark.parametrize(("password", "size"), [("x" * 73, 73), ("ä" * 37, 74)])
def test_a_password_that_bcrypt_would_cut_short_is_refused_with_its_size(password: str, size: int) -> None:
    with pytest.raises(ValueError, match=f"at most 72 bytes in UTF-8; this one has {size}"):
        hash_password(password)
