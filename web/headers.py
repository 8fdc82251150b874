"""Headers that answers have, in the form of ASGI, and what a browser may do with an answer by them.

HTTPS is for the proxy in front, and so is Strict-Transport-Security.
"""

from django.http import HttpResponse

ALWAYS = (
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Referrer-Policy", b"no-referrer"),
    # No page of another origin may load it as a script or an image, and so bring it into its process. Scripts that ask
    # by the rules of CORS are not concerned.
    (b"Cross-Origin-Resource-Policy", b"same-origin"),
)
_POLICY = b"Content-Security-Policy"
POLICY = (_POLICY, b"default-src 'none'; frame-ancestors 'none'")
POLICY_OF_PAGES = (
    _POLICY,
    (
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
)
NO_STORE = (b"Cache-Control", b"no-store")
"""For every answer that does not say otherwise."""


class Page(HttpResponse):
    """A page whose scripts and styles come from here, and ask nothing but this server."""
