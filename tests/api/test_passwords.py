"""Passwords as bcrypt hashes."""

import bcrypt
import pytest

from todos.passwords import MAX_BYTES, hash_password


@pytest.mark.parametrize("password", ["Test123!@#", "ä" * (MAX_BYTES // 2)])
def test_a_hash_matches_its_password_only(password: str) -> None:
    hashed = hash_password(password).encode()

    assert hashed.startswith(b"$2b$")
    assert password.encode() not in hashed
    assert bcrypt.checkpw(password.encode(), hashed)
    assert not bcrypt.checkpw(password.encode()[:-1] + b"?", hashed)
    # Each hash has a salt of its own.
    assert hash_password(password).encode() != hashed


@pytest.mark.parametrize(("password", "size"), [("x" * 73, 73), ("ä" * 37, 74)])
def test_a_password_that_bcrypt_would_cut_short_is_refused_with_its_size(password: str, size: int) -> None:
    with pytest.raises(ValueError, match=f"at most 72 bytes in UTF-8; this one has {size}"):
        hash_password(password)
