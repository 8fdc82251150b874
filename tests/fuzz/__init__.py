"""Requests that the contract allows and forbids, by Schemathesis, against a real server: `python -m tests.fuzz`."""
