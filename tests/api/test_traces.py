"""W3C Trace Context: a valid `traceparent` is taken and sent back, and any other is as if there were none."""

import pytest

from tests.support.helpers import Client
from web.traces import trace_id_from

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
VALID = [f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00", f"01-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01-and-more"]
INVALID = [
    "", "nonsense", f"ff-{TRACE}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01",
    f"00-{TRACE.upper()}-{SPAN}-01", f"00-{TRACE}-{SPAN}", f"00-{TRACE}-{SPAN}-01-and-more",
    f"00-{TRACE[1:]}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01and-more",
]  # fmt: skip


@pytest.mark.parametrize("sent", VALID)
async def test_a_valid_one_is_sent_back(client: Client, sent: str) -> None:
    answer = await client.get("v1/live", headers={"traceparent": sent})

    assert answer.headers["traceparent"] == sent
    assert trace_id_from(sent.encode()) == TRACE


@pytest.mark.parametrize("sent", INVALID)
async def test_any_other_is_ignored(client: Client, sent: str) -> None:
    answer = await client.get("v1/live", headers={"traceparent": sent})

    assert answer.status_code == 200
    assert "traceparent" not in answer.headers
