"""The errors of verifying a token. They stand apart from it, as a server that asks for no tokens loads only them."""


class InvalidToken(Exception):
    """The token proves nothing. Its reason is a sentence for people, and tells the client nothing about the set-up."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class KeysUnavailable(Exception):
    """The issuer's keys are not to be had, so the token may be valid."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"The issuer's keys are not available; they are asked for again in {retry_after} s.")
        self.retry_after = retry_after
        """Seconds until keys may be fetched again; 1 at least."""
