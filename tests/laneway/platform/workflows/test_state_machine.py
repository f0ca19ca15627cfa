"""What comes next in a run, case by case."""

from __future__ import annotations

from laneway.platform.schemas.workflow import Outcome
from laneway.platform.schemas.workflow_run import RunState
from tests.laneway.platform.workflows.book import Book, plan

PIPELINE = (
    {"name": "dev"},
    {"name": "qa", "after": ["dev"], "on_failed": {"goto": "fix", "at_most": 2}},
    {"name": "fix", "then": "qa"},
    {"name": "deploy", "after": ["qa"]},
)
FAILED = Outcome.FAILED


def names(book: Book) -> list[str]:
    """The steps that were started, in order."""
    return [name for name, _ in book.started]


def test_a_join_starts_once_when_the_last_of_its_predecessors_is_done() -> None:
    book = Book(plan({"name": "a"}, {"name": "b"}, {"name": "c", "after": ["a", "b"]}))
    assert book.open == [("a", 1), ("b", 1)]

    book.settle("b")
    assert book.open == [("a", 1)]
    book.settle("a")

    assert book.open == [("c", 1)]
    book.settle("c")
    assert book.outcome is RunState.COMPLETED


def test_a_failed_step_skips_what_comes_after_it_and_the_run_fails_when_the_rest_is_done() -> None:
    book = Book(plan({"name": "a"}, {"name": "b"}, {"name": "c", "after": ["a"]}, {"name": "d", "after": ["c"]}))

    book.settle("a", FAILED)
    assert (book.outcome, book.states()) == (None, {"a": "failed", "b": "open", "c": "skipped", "d": "skipped"})
    book.settle("b")

    assert (book.outcome, book.failed) == (RunState.FAILED, ("a",))


def test_a_failure_that_a_step_is_there_for_does_not_fail_the_run() -> None:
    book = Book(
        plan({"name": "a"}, {"name": "rescue", "when": {"a": "failed"}}, {"name": "report", "when": {"rescue": "any"}})
    )

    book.settle("a", FAILED)
    book.settle("rescue")
    book.settle("report")

    assert (book.outcome, book.failed) == (RunState.COMPLETED, ())


def test_a_step_for_a_failure_that_was_skipped_itself_does_not_help() -> None:
    book = Book(plan({"name": "a"}, {"name": "b"}, {"name": "rescue", "after": ["b"], "when": {"a": "failed"}}))

    book.settle("a", FAILED)
    book.settle("b", FAILED)

    assert (book.outcome, book.failed) == (RunState.FAILED, ("a", "b"))


def test_a_failed_qa_leads_to_fix_and_back_until_it_is_ok() -> None:
    book = Book(plan(*PIPELINE))
    book.settle("dev")
    book.settle("qa", FAILED)
    assert book.open == [("fix", 1)]
    book.settle("fix")
    assert book.open == [("qa", 2)]
    book.settle("qa")
    book.settle("deploy")

    assert (names(book), book.outcome) == (["dev", "qa", "fix", "qa", "deploy"], RunState.COMPLETED)


def test_after_so_many_rounds_the_failure_stands() -> None:
    book = Book(plan(*PIPELINE))
    book.settle("dev")
    for _ in range(2):
        book.settle("qa", FAILED)
        book.settle("fix")
    book.settle("qa", FAILED)

    assert names(book) == ["dev", "qa", "fix", "qa", "fix", "qa"]
    assert (book.outcome, book.failed, book.states()["deploy"]) == (RunState.FAILED, ("qa",), "skipped")


def test_a_fix_that_fails_ends_the_loop_and_can_be_gone_on_with() -> None:
    book = Book(plan(*PIPELINE))
    book.settle("dev")
    book.settle("qa", FAILED)
    book.settle("fix", FAILED)
    assert (book.outcome, book.failed, book.states()["deploy"]) == (RunState.FAILED, ("qa",), "skipped")

    book.revive("fix")
    assert book.open == [("fix", 1)]
    book.settle("fix")
    assert book.open == [("qa", 2)]
    book.settle("qa")
    book.settle("deploy")

    assert book.outcome is RunState.COMPLETED


def test_a_loop_may_lead_back_over_several_steps_which_are_all_done_again() -> None:
    book = Book(
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
        book.settle(name)
    book.settle("review", FAILED)
    assert book.open == [("build", 2)]
    book.settle("build")
    assert book.open == [("lint", 2), ("test", 2)]
    for name in ("test", "lint", "review", "ship"):
        book.settle(name)

    assert (book.outcome, names(book).count("plan")) == (RunState.COMPLETED, 1)


def test_what_was_skipped_for_a_failure_is_considered_anew_when_the_step_is_gone_on_with() -> None:
    book = Book(
        plan(
            {"name": "a"},
            {"name": "b", "after": ["a"]},
            {"name": "rescue", "when": {"a": "failed"}},
            {"name": "c", "after": ["b"]},
        )
    )
    book.settle("a", FAILED)
    book.settle("rescue", FAILED)
    assert book.states() == {"a": "failed", "b": "skipped", "c": "skipped", "rescue": "failed"}

    book.revive("a")
    book.settle("a")
    assert book.open == [("b", 2)]
    book.settle("b")
    assert book.open == [("c", 2)]
    book.settle("c")

    assert (book.outcome, book.failed) == (RunState.FAILED, ("rescue",)), "what rescue did, or failed to, stands"


def test_an_end_that_is_told_twice_or_of_an_earlier_visit_changes_nothing() -> None:
    book = Book(plan(*PIPELINE))
    book.settle("dev")
    assert not book.settle("dev").heard
    assert not book.settle("dev", FAILED).heard
    book.settle("qa", FAILED)
    book.settle("fix")

    assert not book.settle("qa", visit=1).heard
    assert not book.revive("fix").heard, "it is done"
    assert book.open == [("qa", 2)]


def test_a_run_that_was_cancelled_amid_a_loop_goes_on_with_the_next_step_of_it() -> None:
    book = Book(
        plan(
            {"name": "qa", "on_failed": {"goto": "find", "at_most": 2}},
            {"name": "find", "then": "fix"},
            {"name": "fix", "then": "qa"},
        )
    )
    book.settle("qa", FAILED)
    book.cancel({"find": Outcome.OK})

    book.go_on()

    assert book.open == [("fix", 1)]
    book.settle("fix")
    assert book.open == [("qa", 2)]
