"""Commands of the pipeline as real processes: their environment, their end, and that no process is left."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from app.core.settings import ROOT
from app.schemas.pipeline import PipelineCommand, Step, StepOutcome
from app.services.pipeline import process
from app.services.pipeline.errors import BadFolder, CommandFailed, UnknownCommand
from app.services.pipeline.folders import open_folder
from app.services.pipeline.process import GuardLost
from laneway.platform.errors import NotConfigured, PlatformError, TaskCancelled, TaskSnoozed
from tests.fixtures.pipeline import FOLDER, FakeTask, Workshop, descriptors
from tests.fixtures.waiting import wait_until

FAMILY = """
import os, signal, subprocess, sys, time
def note(name): open(name + ".pid", "w").write(str(os.getpid()))
note("main")
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\\n"
child += "open(%r, 'w').write(str(os.getpid()))\\ntime.sleep(600)"
subprocess.Popen([sys.executable, "-c", child % "child.pid"])
subprocess.Popen([sys.executable, "-c", child % "daemon.pid"], start_new_session=True)
while not (os.path.exists("child.pid") and os.path.exists("daemon.pid")): time.sleep(0.01)
"""
"""A command with a child, and a child in its own session; all of them ignore SIGTERM."""


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    """A project below a root folder."""
    return Workshop(tmp_path / "root")


def pickled(error: PlatformError) -> PlatformError:
    """The error after pickling, as a pool process passes it on."""
    return pickle.loads(pickle.dumps(error))  # noqa: S301


# --- the command's environment --------------------------------------------------------------------------------------


def test_a_command_runs_in_its_folder_and_its_output_is_kept(workshop: Workshop) -> None:
    result = workshop.run("import os, sys; print(os.getcwd(), flush=True); print('so it is', file=sys.stderr)")

    assert result.output == f"{workshop.folder}\nso it is\n"
    assert (result.step, result.command, result.outcome, result.exit_code) == (Step.DEV, "it", StepOutcome.OK, 0)
    assert (result.output_bytes, result.truncated) == (len(result.output), False)
    assert 0 < result.seconds < 20


def test_a_command_sees_nothing_of_the_workers_environment(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")

    names = workshop.run("import os; print(' '.join(sorted(os.environ)))", step=Step.DEPLOY).output.split()

    assert set(names) - {"LC_CTYPE"} == {"HOME", "LANG", "PATH", "PIPELINE_STEP", "PIPELINE_TASK_ID", "PWD", "TMPDIR"}
    said = workshop.run("import os; print(os.environ['PIPELINE_STEP'], os.environ['PIPELINE_TASK_ID'])").output
    assert said == "dev task-1\n"


def test_a_command_has_no_input_no_terminal_and_no_files_of_the_workers(workshop: Workshop) -> None:
    code = """
import os, sys
print(repr(sys.stdin.read()))
print(sorted(os.listdir('/proc/self/fd')), os.getsid(0) == os.getpid())
"""

    assert workshop.run(code).output == "''\n['0', '1', '2', '3'] True\n"  # 3: the listing itself


def test_a_fix_gets_the_report_as_a_file(workshop: Workshop) -> None:
    code = "import os; path = os.environ['PIPELINE_QA_REPORT']; print(path); print(open(path).read())"

    assert workshop.run(code, step=Step.FIX, report="2 failed: ü").output == (
        f"{workshop.folder}/.pipeline/qa-report.txt\n2 failed: ü\n"
    )
    assert "3 failed" in workshop.run(code, step=Step.FIX, report="3 failed").output


# --- the command's end ----------------------------------------------------------------------------------------------


def test_defects_that_qa_finds_are_an_outcome(workshop: Workshop) -> None:
    result = workshop.run("print('1 failed'); raise SystemExit(3)", step=Step.QA)

    assert (result.outcome, result.exit_code, result.output) == (StepOutcome.FAILED, 3, "1 failed\n")


@pytest.mark.parametrize("step", [Step.DEV, Step.FIX, Step.DEPLOY])
def test_a_failed_command_of_another_step_is_a_permanent_failure_with_its_last_output(
    workshop: Workshop, step: Step
) -> None:
    with pytest.raises(CommandFailed) as failed:
        workshop.run("print('no rule to make target'); raise SystemExit(2)", step=step)

    assert str(failed.value) == "The command 'it' ended with exit code 2. Its last output:\nno rule to make target"
    assert not failed.value.retryable
    copy = pickled(failed.value)
    assert (str(copy), copy.retryable) == (str(failed.value), False)


def test_a_failed_command_is_retried_if_that_is_configured(workshop: Workshop) -> None:
    with pytest.raises(CommandFailed) as failed:
        workshop.run("raise SystemExit(1)", PIPELINE_RETRY_FAILED=True)

    assert failed.value.retryable
    assert pickled(failed.value).retryable


def test_a_killed_command_is_a_failure_also_for_qa(workshop: Workshop) -> None:
    with pytest.raises(CommandFailed, match="'it' was killed by SIGSEGV"):
        workshop.run("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", step=Step.QA)


def test_a_missing_program_is_reported(workshop: Workshop) -> None:
    pipeline = workshop.pipeline("")
    pipeline._settings.commands[Step.QA]["it"] = ["no-such-program-here"]  # pyright: ignore[reportPrivateUsage]

    with pytest.raises(CommandFailed, match="could not be started: no-such-program-here: No such file or directory"):
        pipeline.run(Step.QA, PipelineCommand(folder=FOLDER, command="it"), FakeTask())


@pytest.mark.parametrize("step", [Step.DEV, Step.QA])
def test_a_hanging_command_is_ended_at_its_limit_with_all_its_descendants(workshop: Workshop, step: Step) -> None:
    with pytest.raises(CommandFailed, match=r"ran longer than PIPELINE_TIMEOUT_SECONDS \(2 s\) and was ended"):
        workshop.run(FAMILY + "time.sleep(600)", step=step, PIPELINE_TIMEOUT_SECONDS=2)

    assert len(workshop.written()) == 3
    assert workshop.alive() == []


def test_processes_that_a_command_leaves_behind_are_ended(workshop: Workshop) -> None:
    assert workshop.run(FAMILY + "print('done')").output == "done\n"

    assert len(workshop.written()) == 3
    assert workshop.alive() == []


def test_a_command_may_clean_up_when_it_is_asked_to_end(workshop: Workshop) -> None:
    code = """
import signal, sys, time
def end(*_): open("cleaned", "w").close(); sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
time.sleep(600)
"""
    with pytest.raises(CommandFailed, match="ran longer"):
        workshop.run(code, PIPELINE_TIMEOUT_SECONDS=1, PIPELINE_GRACE_SECONDS=10)

    assert (workshop.folder / "cleaned").exists()


def test_a_cancelled_task_ends_its_command(workshop: Workshop) -> None:
    class Stopped(FakeTask):
        """The stop comes when all three processes run."""

        def raise_if_cancelled(self) -> None:
            if len(workshop.alive()) == 3:
                raise TaskCancelled

    with pytest.raises(TaskCancelled):
        workshop.run(FAMILY + "time.sleep(600)", task=Stopped())

    assert len(workshop.written()) == 3
    assert workshop.alive() == []


def test_nothing_is_left_open_in_the_worker(workshop: Workshop) -> None:
    workshop.run("pass")
    before, others = descriptors(), psutil.Process().children()
    for code in ("print('x' * 100_000)", "raise SystemExit(1)"):
        workshop.run(code, step=Step.QA)
    with pytest.raises(TaskCancelled):
        workshop.run("import time; time.sleep(600)", task=FakeTask(stop=TaskCancelled))

    assert descriptors() == before
    assert psutil.Process().children() == others


# --- killed and stopped processes -----------------------------------------------------------------------------------


def worker(workshop: Workshop, code: str) -> subprocess.Popen[bytes]:
    """A process that runs a command like a worker."""
    program = textwrap.dedent(f"""
        from pathlib import Path
        from tests.fixtures.pipeline import Workshop
        Workshop(Path({str(workshop.root)!r}), PIPELINE_TIMEOUT_SECONDS=600).run({code!r})
    """)
    return subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.DEVNULL)


def test_a_killed_workers_command_is_ended_with_all_its_descendants(workshop: Workshop) -> None:
    killed = worker(workshop, FAMILY + "time.sleep(600)")
    try:
        wait_until(lambda: len(workshop.alive()) == 3, seconds=30)
        with pytest.raises(TaskSnoozed, match="is in use"), open_folder(workshop.root, FOLDER):
            pass
    finally:
        killed.kill()
        killed.wait(10)

    def free() -> bool:
        try:
            with open_folder(workshop.root, FOLDER):
                assert workshop.alive() == [], "the folder is not free before the last of them is gone"
                return True
        except TaskSnoozed:
            return False

    wait_until(free, seconds=10)
    assert workshop.run("print('mine now')").output == "mine now\n"


def test_a_stopped_workers_command_is_ended(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "WORKER_TIMEOUT", 0.5)

    class Frozen(FakeTask):
        """The first check does not return until the command has ended."""

        def raise_if_cancelled(self) -> None:
            wait_until(lambda: bool(workshop.written()) and not workshop.alive(), seconds=20)

    with pytest.raises(CommandFailed, match="was ended because its worker stopped responding"):
        workshop.run(FAMILY + "time.sleep(600)", task=Frozen())
    assert workshop.alive() == []


def test_a_command_whose_guard_is_killed_dies_and_is_retryable(workshop: Workshop) -> None:
    class Killer(FakeTask):
        """The first check kills the guard."""

        def raise_if_cancelled(self) -> None:
            if (workshop.folder / "group.pid").exists():
                for child in psutil.Process().children():  # The servers of other tests are children as well.
                    if any("guard" in word for word in child.cmdline()):
                        child.kill()

    code = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open("child.pid", "w").write(str(child.pid))
open("main.pid", "w").write(str(os.getpid()))
os.rename("main.pid", "group.pid")
time.sleep(600)
"""
    with pytest.raises(GuardLost) as lost:
        workshop.run(code, task=Killer())

    assert lost.value.retryable
    wait_until(lambda: not workshop.alive(), seconds=5)


def test_a_stopped_command_is_ended_too(workshop: Workshop) -> None:
    code = """
import os, signal
open("main.pid", "w").write(str(os.getpid()))
os.kill(os.getpid(), signal.SIGSTOP)
"""
    with pytest.raises(CommandFailed, match="ran longer"):
        workshop.run(code, PIPELINE_TIMEOUT_SECONDS=1)

    assert len(workshop.written()) == 1
    assert workshop.alive() == []


# --- output ---------------------------------------------------------------------------------------------------------


def test_head_and_tail_of_a_long_output_are_kept(workshop: Workshop) -> None:
    result = workshop.run("print('first'); print('x' * 5_000_000); print('last')", PIPELINE_OUTPUT_BYTES=2000)

    assert result.truncated
    assert result.output_bytes == 5_000_000 + len("first\n\nlast\n")
    assert result.output.startswith("first\nxxx") and result.output.endswith("xxx\nlast\n")
    assert f"[{result.output_bytes - 2000} bytes left out]" in result.output
    assert len(result.output) < 2100


def test_binary_output_becomes_text(workshop: Workshop) -> None:
    result = workshop.run(r"import sys; sys.stdout.buffer.write(b'a\x00b\xff\r\nc')")

    assert result.output == "ab\ufffd\nc"


def test_the_last_line_is_shown_as_progress(workshop: Workshop) -> None:
    task = FakeTask()
    workshop.run("import time; print('compiling', flush=True); time.sleep(0.6)", task=task)

    assert task.messages == ["compiling"]
    assert task.checks >= 2


# --- refused commands -----------------------------------------------------------------------------------------------


def test_a_command_that_is_not_allowed_is_refused_with_the_allowed_names(workshop: Workshop) -> None:
    pipeline = workshop.pipeline("")
    with pytest.raises(UnknownCommand) as refused:
        pipeline.run(Step.QA, PipelineCommand(folder=FOLDER, command="rm"), FakeTask())

    assert str(refused.value) == "The command 'rm' is not allowed for qa; PIPELINE_COMMANDS allows: it."
    assert str(pickled(refused.value)) == str(refused.value)


def test_without_a_root_no_command_runs(workshop: Workshop) -> None:
    with pytest.raises(NotConfigured, match="set PIPELINE_ROOT"):
        workshop.run("pass", PIPELINE_ROOT=None)


@pytest.mark.parametrize("folder", ["gone", "file", "link", "link/below", "project/link", "project/.."])
def test_an_invalid_folder_is_refused(workshop: Workshop, folder: str) -> None:
    outside = workshop.root.parent / "outside"
    (outside / "below").mkdir(parents=True)
    (workshop.root / "file").write_text("")
    (workshop.root / "link").symlink_to(outside)
    (workshop.folder / "link").symlink_to(outside)

    with pytest.raises(BadFolder), open_folder(workshop.root, folder):
        pass


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadFolder, match="PIPELINE_ROOT does not exist"), open_folder(tmp_path / "no", FOLDER):
        pass


def test_a_report_is_not_written_through_a_planted_link(workshop: Workshop, tmp_path: Path) -> None:
    (workshop.folder / ".pipeline").symlink_to(tmp_path)

    with pytest.raises(BadFolder, match="symbolic link"):
        workshop.run("pass", step=Step.FIX, report="found")
    assert not (tmp_path / "qa-report.txt").exists()


def test_commands_share_no_folder_and_other_folders_are_free(workshop: Workshop) -> None:
    (workshop.root / "other").mkdir()
    with open_folder(workshop.root, FOLDER):
        with pytest.raises(TaskSnoozed) as busy:
            workshop.run("pass")
        with open_folder(workshop.root, "other"):
            pass
    assert 0 < busy.value.delay <= 5
    assert workshop.run("pass").exit_code == 0


def test_signals_of_the_worker_do_not_reach_the_command(workshop: Workshop) -> None:
    """Ctrl-C goes to the terminal's whole process group; the command is not in the worker's group."""
    result = workshop.run("import os; print(os.getpgid(0) == os.getpid(), os.getpgid(os.getppid()))")

    own, parents = result.output.split()
    assert own == "True"
    assert int(parents) != os.getpgid(0)
    assert signal.getsignal(signal.SIGINT) is not None
