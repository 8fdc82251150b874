"""The API once more, as a plain program without HTTP and without a database: each answer that it must give.

It is written from the documentation and the contract, and imports nothing of the application, so that a mistake in one
is not a mistake in the other; `tests/api/test_model.py` compares them. Each operation of `Model` takes a request and
returns the `Answer` to it.
"""
