"""The section [tool.laneway], or laneway.toml: each mistake in it is one sentence with the file and the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from laneway.platform.errors import ConfigError
from laneway.platform.project_file import ProjectFile, read_project_file
from laneway.platform.queues import Lane, WorkerGroup


def write(folder: Path, text: str, *, file: str = "laneway.toml") -> Path:
    (folder / file).write_text(text, "utf-8")
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(ConfigError) as refused:
        read_project_file(folder)
    return str(refused.value).replace(str(folder), "PROJECT")


def read(folder: Path, text: str) -> ProjectFile:
    return read_project_file(write(folder, text))


def test_a_short_section_declares_one_queue_and_leaves_the_worker_to_the_default(tmp_path: Path) -> None:
    found = read(tmp_path, 'tasks = ["shop.tasks"]')

    assert (found.section.tasks, found.section.lanes) == (("shop.tasks",), {"default": Lane.MEDIUM})
    assert found.section.worker_groups == ()
    assert found.name == tmp_path.name


def test_the_name_is_that_of_the_section_or_of_the_project(tmp_path: Path) -> None:
    text = '[project]\nname = "shop-project"\n[tool.laneway]\ntasks = ["shop.tasks"]\n'
    write(tmp_path, text, file="pyproject.toml")
    assert read_project_file(tmp_path).name == "shop-project"

    write(tmp_path, f'{text}name = "shop"\n', file="pyproject.toml")
    assert read_project_file(tmp_path).name == "shop"


def test_queues_and_workers_are_declared(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        'tasks = ["shop.tasks"]\n[queues]\nmail = "high"\nfiles = "low"\n'
        '[workers.fast]\nqueues = ["mail"]\n[workers.slow]\nqueues = ["files", "mail"]\nconcurrency = 3\n',
    )

    assert found.section.lanes == {"mail": Lane.HIGH, "files": Lane.LOW}
    assert found.section.worker_groups == (
        WorkerGroup("fast", ("mail",)),
        WorkerGroup("slow", ("files", "mail"), concurrency=3),
    )


def test_a_project_with_workflows_has_their_queue_and_a_worker_for_it(tmp_path: Path) -> None:
    text = 'tasks = ["shop.tasks"]\nworkflows = "flows"\n[queues]\nmail = "high"\n[workers.fast]\nqueues = ["mail"]\n'
    found = read(tmp_path, text)

    assert found.section.lanes == {"workflows": Lane.MEDIUM, "mail": Lane.HIGH}
    assert found.section.worker_groups == (WorkerGroup("fast", ("mail", "workflows")),)


MISTAKES = {
    'taks = ["shop.tasks"]': "taks: there is no key 'taks' (did you mean 'tasks'?); the keys are name, tasks,",
    "": 'tasks is missing: it must be a list of modules, at least one, such as ["shop.tasks"]',
    "tasks = []": 'tasks must be a list of modules, at least one, such as ["shop.tasks"]',
    'tasks = "shop.tasks"': 'tasks must be a list of modules, at least one, such as ["shop.tasks"]',
    'tasks = ["shop/tasks.py"]': 'tasks must be a list of modules, at least one, such as ["shop.tasks"]',
    "tasks = [3]": 'tasks must be a list of modules, at least one, such as ["shop.tasks"]',
    'tasks = ["t"]\nname = 3': "name must be a text of at most 155 characters",
    'tasks = ["t"]\nschedules = "beat"': 'schedules must be module:name, such as "shop.core:name"',
    'tasks = ["t"]\nqueues = ["a"]': "queues must be a table of at least one queue = lane, such as default =",
    'tasks = ["t"]\nqueues = {}': "queues must be a table of at least one queue = lane, such as default =",
    'tasks = ["t"]\nqueues = {a = "hihg"}': "queues.a: there is no lane 'hihg' (did you mean 'high'?); the lanes are",
    'tasks = ["t"]\nqueues = {"a b" = "high"}': "queues.a b: a name of queues and workers consists of letters,",
    'tasks = ["t"]\nworkers = {w = 3}': "workers.w must be a table with a list of queues, such as {queues",
    'tasks = ["t"]\nworkers = {w = {}}': "workers.w.queues is missing: name the queues that this worker group serves",
    'tasks = ["t"]\nworkers = {w = {queues = []}}': "workers.w.queues must be a list of queues, at least one, such as",
    'tasks = ["t"]\nworkers = {w = {queues = ["default"], concurrency = "2"}}': (
        "workers.w.concurrency must be a whole number from 1 to 256"
    ),
    'tasks = ["t"]\nworkers = {w = {queues = ["default"], quues = []}}': (
        "workers.w.quues: there is no key 'quues' (did you mean 'queues'?); the keys are queues, concurrency"
    ),
    'tasks = ["t"]\nworkers = {w = {queues = ["defualt"]}}': (
        "workers.w.queues: there is no queue 'defualt' (did you mean 'default'?); declare it in the table queues"
    ),
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_one_sentence_with_the_file_and_the_key(tmp_path: Path, text: str) -> None:
    heading, *problems = refusal(write(tmp_path, text)).splitlines()

    assert heading == "PROJECT/laneway.toml is not valid:"
    assert len(problems) == 1
    assert problems[0].startswith(f"  - {MISTAKES[text]}")


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    write(tmp_path, '[tool.laneway]\ntaks = ["t"]\nname = 3\n', file="pyproject.toml")

    heading, *problems = refusal(tmp_path).splitlines()
    assert heading == "[tool.laneway] in PROJECT/pyproject.toml is not valid:"
    assert [problem.split()[1] for problem in problems] == ["name", "taks:"]


def test_a_folder_without_a_file_or_a_section_is_named(tmp_path: Path) -> None:
    sentence = (
        "No Laneway project here: PROJECT/pyproject.toml has no section [tool.laneway]. Start the command in a "
        "project's folder; `laneway new NAME` writes a new project."
    )
    assert refusal(tmp_path) == sentence
    assert refusal(write(tmp_path, "[tool.other]\n", file="pyproject.toml")) == sentence


def test_a_section_that_is_no_table_is_named(tmp_path: Path) -> None:
    write(tmp_path, "[tool]\nlaneway = 3\n", file="pyproject.toml")

    assert refusal(tmp_path) == "[tool.laneway] in PROJECT/pyproject.toml is not valid:\n  - it must be a table"


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    assert refusal(write(tmp_path, "[tool.laneway\n", file="pyproject.toml")).startswith(
        "PROJECT/pyproject.toml cannot be read: "
    )


def test_two_files_are_refused(tmp_path: Path) -> None:
    write(tmp_path, '[tool.laneway]\ntasks = ["t"]\n', file="pyproject.toml")
    write(tmp_path, 'tasks = ["t"]\n')

    assert refusal(tmp_path) == (
        "PROJECT/laneway.toml and [tool.laneway] in PROJECT/pyproject.toml describe the same application: "
        "keep one of them."
    )


def test_laneway_toml_stands_beside_a_pyproject_of_other_tools(tmp_path: Path) -> None:
    write(tmp_path, '[project]\nname = "shop"\n[tool.other]\n', file="pyproject.toml")

    assert read(tmp_path, 'tasks = ["t"]\n').name == "shop"
