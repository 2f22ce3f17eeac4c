import subprocess
import sys

from tests.helpers.command_line import environment, hear_ctrl_c

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
