"""One round of Schemathesis against a server. The requests follow from the seed, but for what the server makes up."""

import gc
from collections import Counter
from collections.abc import Collection, Sequence
from tempfile import TemporaryDirectory

import hypothesis.configuration
import schemathesis
from schemathesis import HookContext, Response
from schemathesis.config import CacheConfig, OutputConfig, SanitizationConfig, SchemathesisConfig
from schemathesis.config._operations import OperationConfig
from schemathesis.engine import Status, events, from_schema
from schemathesis.engine.recorder import ScenarioRecorder
from schemathesis.engine.run import PhaseName
from schemathesis.specs.openapi.schemas import OpenApiSchema

from persistence.postgres.dsn import Dsn
from tests.fuzz.answers import Report
from tests.fuzz.world import Case, World
from tests.support import contract

PHASES = ("examples", "coverage", "fuzzing", "stateful")


def fuzz(
    url: str,
    dsn: Dsn,
    seed: int,
    examples: int,
    phases: Sequence[str] = PHASES,
    operations: Collection[str] = contract.OPERATIONS,
) -> Report:
    """Makes `examples` requests for each operation, and as many stories of several, at the server at `url`.

    The phases `examples` and `coverage` have a number of their own. The server's database gets users for it.
    """
    with TemporaryDirectory() as folder:
        # Hypothesis would leave a folder in the current one.
        hypothesis.configuration.set_hypothesis_home_dir(folder)
        try:
            return _fuzz(
                _schema(url, seed, examples, phases, operations), World(dsn, f"{seed} {phases}"), examples, phases
            )
        finally:
            hypothesis.configuration.set_hypothesis_home_dir(None)
            # Schemathesis leaves its connections to the garbage collector.
            gc.collect()


def _schema(url: str, seed: int, examples: int, phases: Sequence[str], operations: Collection[str]) -> OpenApiSchema:
    output = OutputConfig(sanitization=SanitizationConfig(enabled=False))
    config = SchemathesisConfig(seed=seed, cache=CacheConfig(enabled=False), output=output)
    # Clients must put up with new members, but nothing may leak.
    document = contract.closed(operations)
    # The server asks for no tokens here; tests/api/test_sign_in.py walks the contract with tokens of all kinds.
    for methods in document["paths"].values():
        for operation in methods.values():
            operation["security"] = []
    schema = schemathesis.openapi.from_dict(document, config=config)
    schema.config.update(base_url=url, request_timeout=30)
    schema.config.generation.update(max_examples=examples, database="none")
    schema.config.phases.update(phases=list(phases))
    schema.config.phases.coverage.generate_duplicate_query_parameters = True
    # Stories follow the links of the contract only.
    schema.config.phases.stateful.inference.algorithms = []
    schema.config.phases.stateful.max_steps = 10
    # Learning from refusals what to send would hide that the contract does not say it.
    schema.config.phases.fuzzing.error_feedback.is_enabled = False
    # `World` brings real ids instead, because these would make what is drawn depend on what was answered.
    schema.analysis._extra_data_source = None
    # Every check is on but that of the time an answer takes, which says more about the machine. Whether an entity tag
    # is current depends on what is stored, as 404 does, which is expected of valid requests anyway; and what is invalid
    # may be too large as well.
    checks = schema.config.checks
    accepted, refused = (checks.positive_data_acceptance, checks.negative_data_rejection)
    accepted.expected_statuses = [*accepted.expected_statuses, "412"]
    refused.expected_statuses = [*refused.expected_statuses, "413"]
    # A deleted task can be restored; tests/api/test_model.py knows where it is.
    checks.use_after_free.enabled = False
    # What is wrong with an item of a batch is a result of its own, and no schema says what a file has to be.
    schema.config.operations.operations = [
        OperationConfig.from_dict(
            {
                "include-operation-id": name,
                "checks": {
                    "positive_data_acceptance": {"expected-statuses": [*accepted.expected_statuses, *also_refused]},
                    "negative_data_rejection": {"expected-statuses": [*refused.expected_statuses, "200"]},
                },
            }
        )
        for name, also_refused in (("write_batch", []), ("import_tasks", ["400"]))
    ]
    return schema


def _fuzz(schema: OpenApiSchema, world: World, examples: int, phases: Sequence[str]) -> Report:
    @schema.hook
    def map_case(_context: HookContext, case: Case) -> Case:
        return world.fit(case)

    @schema.hook
    def after_call(_context: HookContext, case: Case, response: Response) -> None:
        world.learn(case, response)

    report = Report()
    drawn = Counter[str]()
    for event in from_schema(schema).execute():
        match event:
            case events.ScenarioFinished():
                _add(report, event.recorder)
                if event.phase is PhaseName.STATEFUL_TESTING:
                    drawn["stories"] += 1
                elif event.phase is PhaseName.FUZZING and "{" in str(event.label):
                    drawn[str(event.label)] += len(event.recorder.cases)
            case events.PhaseFinished() if event.phase.name.value in phases and event.status is Status.SKIP:
                report.failures.append(f"Nothing was done in the phase {event.phase.name.value}")
            case events.NonFatalError():
                report.failures.append(f"{event.label}: {event.info}")
            case events.FatalError():
                raise event.exception
    if not report.failures:
        # Hypothesis says nothing when it gives up.
        report.failures += [
            f"Only {number} of {examples}: {name}" for name, number in drawn.items() if number < examples
        ]
    return report


def _add(report: Report, recorder: ScenarioRecorder) -> None:
    for case_id, node in recorder.cases.items():
        response = recorder.find_response(case_id=case_id)
        if response:
            report.answers[node.value.operation.label, response.status_code] += 1
        for check in recorder.checks.get(case_id, ()):
            if info := check.failure_info:
                steps = "\n".join(step.curl for step in info.steps) or info.code_sample
                answer = f"{response.status_code} {response.text[:1000]}" if response else "no answer"
                report.failures.append(f"{node.value.operation.label}: {check.name}: {info.failure}\n{steps}\n{answer}")
