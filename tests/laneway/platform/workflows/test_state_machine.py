"""The state machine of workflows, case by case."""

from __future__ import annotations

from laneway.schemas.workflow import Outcome
from laneway.schemas.workflow_run import RunState
from tests.laneway.platform.workflows.run_model import RunModel, plan

PIPELINE = (
    {"name": "dev"},
    {"name": "qa", "after": ["dev"], "on_failed": {"goto": "fix", "at_most": 2}},
    {"name": "fix", "then": "qa"},
    {"name": "deploy", "after": ["qa"]},
)
FAILED = Outcome.FAILED


def names(run: RunModel) -> list[str]:
    """The steps that were started, in order."""
    return [name for name, _ in run.started]


def test_a_join_starts_once_when_its_last_predecessor_ends() -> None:
    run = RunModel(plan({"name": "a"}, {"name": "b"}, {"name": "c", "after": ["a", "b"]}))
    assert run.open == [("a", 1), ("b", 1)]

    run.end("b")
    assert run.open == [("a", 1)]
    run.end("a")

    assert run.open == [("c", 1)]
    run.end("c")
    assert run.outcome is RunState.COMPLETED


def test_steps_after_a_failed_step_are_skipped_and_the_run_fails_when_the_rest_has_ended() -> None:
    run = RunModel(plan({"name": "a"}, {"name": "b"}, {"name": "c", "after": ["a"]}, {"name": "d", "after": ["c"]}))

    run.end("a", FAILED)
    assert (run.outcome, run.states()) == (None, {"a": "failed", "b": "open", "c": "skipped", "d": "skipped"})
    run.end("b")

    assert (run.outcome, run.failed) == (RunState.FAILED, ("a",))


def test_a_failure_that_another_step_handles_does_not_fail_the_run() -> None:
    run = RunModel(
        plan({"name": "a"}, {"name": "rescue", "when": {"a": "failed"}}, {"name": "report", "when": {"rescue": "any"}})
    )

    run.end("a", FAILED)
    run.end("rescue")
    run.end("report")

    assert (run.outcome, run.failed) == (RunState.COMPLETED, ())


def test_a_failure_whose_handling_step_was_skipped_fails_the_run() -> None:
    run = RunModel(plan({"name": "a"}, {"name": "b"}, {"name": "rescue", "after": ["b"], "when": {"a": "failed"}}))

    run.end("a", FAILED)
    run.end("b", FAILED)

    assert (run.outcome, run.failed) == (RunState.FAILED, ("a", "b"))


def test_a_failed_qa_leads_to_fix_and_back_until_it_is_ok() -> None:
    run = RunModel(plan(*PIPELINE))
    run.end("dev")
    run.end("qa", FAILED)
    assert run.open == [("fix", 1)]
    run.end("fix")
    assert run.open == [("qa", 2)]
    run.end("qa")
    run.end("deploy")

    assert (names(run), run.outcome) == (["dev", "qa", "fix", "qa", "deploy"], RunState.COMPLETED)


def test_after_the_last_round_the_failure_stands() -> None:
    run = RunModel(plan(*PIPELINE))
    run.end("dev")
    for _ in range(2):
        run.end("qa", FAILED)
        run.end("fix")
    run.end("qa", FAILED)

    assert names(run) == ["dev", "qa", "fix", "qa", "fix", "qa"]
    assert (run.outcome, run.failed, run.states()["deploy"]) == (RunState.FAILED, ("qa",), "skipped")


def test_a_failed_detour_step_ends_the_loop_and_can_be_revived() -> None:
    run = RunModel(plan(*PIPELINE))
    run.end("dev")
    run.end("qa", FAILED)
    run.end("fix", FAILED)
    assert (run.outcome, run.failed, run.states()["deploy"]) == (RunState.FAILED, ("qa",), "skipped")

    run.revive("fix")
    assert run.open == [("fix", 1)]
    run.end("fix")
    assert run.open == [("qa", 2)]
    run.end("qa")
    run.end("deploy")

    assert run.outcome is RunState.COMPLETED


def test_a_loop_runs_all_steps_of_its_body_again() -> None:
    run = RunModel(
        plan(
            {"name": "plan"},
            {"name": "build", "after": ["plan"]},
            {"name": "lint", "after": ["build"]},
            {"name": "test", "after": ["build"]},
            {"name": "review", "after": ["lint", "test"], "on_failed": {"goto": "build", "at_most": 1}},
            {"name": "ship", "after": ["review"]},
        )
    )
    for name in ("plan", "build", "lint", "test"):
        run.end(name)
    run.end("review", FAILED)
    assert run.open == [("build", 2)]
    run.end("build")
    assert run.open == [("lint", 2), ("test", 2)]
    for name in ("test", "lint", "review", "ship"):
        run.end(name)

    assert (run.outcome, names(run).count("plan")) == (RunState.COMPLETED, 1)


def test_steps_skipped_for_a_failure_are_considered_again_when_the_step_is_revived() -> None:
    run = RunModel(
        plan(
            {"name": "a"},
            {"name": "b", "after": ["a"]},
            {"name": "rescue", "when": {"a": "failed"}},
            {"name": "c", "after": ["b"]},
        )
    )
    run.end("a", FAILED)
    run.end("rescue", FAILED)
    assert run.states() == {"a": "failed", "b": "skipped", "c": "skipped", "rescue": "failed"}

    run.revive("a")
    run.end("a")
    assert run.open == [("b", 2)]
    run.end("b")
    assert run.open == [("c", 2)]
    run.end("c")

    assert (run.outcome, run.failed) == (RunState.FAILED, ("rescue",)), "what rescue did, or failed to, stands"


def test_a_repeated_end_and_the_end_of_an_earlier_visit_change_nothing() -> None:
    run = RunModel(plan(*PIPELINE))
    run.end("dev")
    assert not run.end("dev").applies
    assert not run.end("dev", FAILED).applies
    run.end("qa", FAILED)
    run.end("fix")

    assert not run.end("qa", visit=1).applies
    assert not run.revive("fix").applies, "it is done"
    assert run.open == [("qa", 2)]


def test_a_run_cancelled_in_a_detour_continues_with_the_next_detour_step() -> None:
    run = RunModel(
        plan(
            {"name": "qa", "on_failed": {"goto": "find", "at_most": 2}},
            {"name": "find", "then": "fix"},
            {"name": "fix", "then": "qa"},
        )
    )
    run.end("qa", FAILED)
    run.cancel({"find": Outcome.OK})

    run.retry()

    assert run.open == [("fix", 1)]
    run.end("fix")
    assert run.open == [("qa", 2)]
