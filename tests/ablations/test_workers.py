import subprocess
import sys

import pytest

from ablations import cli, workers
from tests.helpers.command_line import environment, hear_ctrl_c
from tests.helpers.recipes import write_study

INTERRUPTED = """
import multiprocessing.popen_forkserver as popen
import os, signal, sys
from multiprocessing import forkserver
from pathlib import Path
from ablations import workers

if __name__ == "__main__":
    workers.call(os.getpid)
    connect = forkserver.connect_to_new_process

    def connect_and_press_ctrl_c(handles):
        made = connect(handles)
        os.kill(os.getpid(), signal.SIGINT)
        return made

    popen.forkserver.connect_to_new_process = connect_and_press_ctrl_c
    try:
        workers.start(print, "hello", log=Path(sys.argv[1]), environment={})
    except KeyboardInterrupt:
        print("interrupted")
"""


def test_ctrl_c_in_the_middle_of_a_start_leaves_no_traceback(tmp_path):
    script = tmp_path / "interrupted.py"
    script.write_text(INTERRUPTED)
    command = [sys.executable, script, tmp_path / "log.txt"]
    settings = {"env": environment(), "preexec_fn": hear_ctrl_c}
    done = subprocess.run(command, capture_output=True, text=True, check=False, **settings)
    assert done.stdout == "interrupted\n"
    assert "Traceback" not in done.stderr


ABANDONED = """
import os, socket
from multiprocessing import forkserver
from ablations import workers

if __name__ == "__main__":
    workers.call(os.getpid)
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(forkserver._forkserver._forkserver_address)
    server = forkserver._forkserver._forkserver_pid
    print(workers.call(os.getppid) == server)
"""


def test_a_client_that_is_killed_in_the_middle_of_a_start_leaves_the_server_alive(tmp_path):
    script = tmp_path / "abandoned.py"
    script.write_text(ABANDONED)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, env=environment())
    assert (done.stdout, done.returncode) == ("True\n", 0), done.stderr


IMPORTED = """
import os, sys
from ablations import workers

def imported():
    return [name for name in ("torch", "wandb.sdk.launch.inputs.internal") if name in sys.modules]

if __name__ == "__main__":
    workers.start_server(tracked=sys.argv[1] == "tracked")
    print(workers.call(imported))
"""


@pytest.mark.parametrize(
    ("kind", "imported"), [("plain", ["torch"]), ("tracked", ["torch", "wandb.sdk.launch.inputs.internal"])]
)
def test_workers_have_the_client_of_wandb_where_they_need_it(tmp_path, kind, imported):
    script = tmp_path / "imported.py"
    script.write_text(IMPORTED)
    command = [sys.executable, script, kind]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    assert done.stdout == f"{imported}\n", done.stderr


@pytest.mark.parametrize(
    ("arguments", "tracked"),
    [
        (["run", "plain"], False),
        (["run", "plain", "--wandb", "project"], True),
        (["run", "tracked"], True),
        (["plan", "tracked"], False),
        (["run", "missing"], False),
    ],
)
def test_a_run_says_beforehand_whether_its_workers_need_that(tmp_path, monkeypatch, arguments, tracked):
    verb, name, *more = arguments
    path = tmp_path / name / "study.yaml"
    if name != "missing":
        path.parent.mkdir()
        write_study(path.parent, wandb={"project": "project"} if name == "tracked" else None)
    started = []
    monkeypatch.setattr(workers, "start_server", started.append)
    monkeypatch.setattr(f"ablations.commands.{verb}_command", lambda options: 0)
    assert cli.main([verb, str(path), *more]) == 0
    assert started == [tracked]
