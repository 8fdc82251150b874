"""The application, with keys of the issuer that are fetched again every few seconds instead of every few minutes."""

from functools import partial

from config import asgi
from identity.key_store import Pace
from identity.verifier import open_verifier

REFRESH = 2.0

asgi.open_verifier = partial(open_verifier, pace=Pace(refresh=REFRESH))  # type: ignore[attr-defined] # it is imported there
application = asgi.application
