"""The API and its model (`tests/support/model`) never disagree, whatever two users do in whatever order.

MODEL_EXAMPLES in the environment sets the number of runs of the slow test.
"""

import asyncio
import os
from contextlib import AsyncExitStack

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from persistence.postgres.database import open_database
from persistence.postgres.dsn import Dsn
from persistence.postgres.options import DatabaseOptions, PoolLimits
from tests.api.model.client import Api
from tests.api.model.machine import Machine
from tests.conftest import client_of
from tests.support.databases import as_owner

STEPS = 25


def run_machine(dsn: Dsn, examples: int, *phases: Phase) -> None:
    options = DatabaseOptions(limits=PoolLimits(min_size=1, max_size=2))
    stack = AsyncExitStack()
    # The factory keeps the runner away from the event loop of the other tests.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        try:
            database = runner.run(stack.enter_async_context(open_database(dsn, options)))
            owner = runner.run(stack.enter_async_context(open_database(as_owner(dsn), options)))
            client = runner.run(stack.enter_async_context(client_of(database)))
            run_state_machine_as_test(
                lambda: Machine(Api(runner, owner, client)),  # type: ignore[arg-type] # a function will do, it says
                settings=settings(
                    max_examples=examples,
                    stateful_step_count=STEPS,
                    deadline=None,
                    database=None,
                    print_blob=True,
                    phases=phases,
                    # The checks complain of slow and large examples, which these are meant to be.
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(stack.aclose())


def test_a_few_runs_agree_with_the_model(dsn: Dsn, hypothesis_home: None) -> None:
    run_machine(dsn, 4, Phase.generate)


@pytest.mark.slow
def test_the_api_and_its_model_never_disagree(dsn: Dsn, hypothesis_home: None) -> None:
    # The phase that explains takes minutes, and the shortest run says enough.
    run_machine(dsn, int(os.environ.get("MODEL_EXAMPLES", "100")), Phase.generate, Phase.shrink)
