"""Figures of queues can be read by a user of the server who may only read, and from a server without such scripts."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis
from redis.exceptions import ResponseError

from laneway.engine import Engine, Message
from tests.laneway.engine.servers import server


def test_a_user_who_may_only_read_sees_the_figures_and_changes_nothing(tmp_path: Path) -> None:
    with server(tmp_path) as port:
        admin = Engine.from_url(f"redis://127.0.0.1:{port}/0")
        admin.put("work", Message(task_id="t-1"))
        with redis.Redis(port=port) as client:
            client.execute_command("ACL", "SETUSER", "reader", "on", ">pw", "+@all", "%R~laneway:*")
        reader = Engine.from_url(f"redis://reader:pw@127.0.0.1:{port}/0")

        assert reader.stats(["work"])[0].waiting == 1
        with pytest.raises(ResponseError, match="NOPERM"):
            reader.put("work", Message(task_id="t-2"))
        admin.runner.call("SCRIPT", "FLUSH")
        assert reader.stats(["work"])[0].waiting == 1, "the server had forgotten the script"
        reader.close()
        admin.close()


def test_a_server_that_has_no_scripts_which_only_read_answers_too(tmp_path: Path) -> None:
    with server(tmp_path, "--rename-command", "EVALSHA_RO", "", "--rename-command", "EVAL_RO", "") as port:
        engine = Engine.from_url(f"redis://127.0.0.1:{port}/0")
        engine.put("work", Message(task_id="t-1"))

        assert [engine.stats(["work"])[0].waiting for _ in range(2)] == [1, 1]
        engine.close()
