"""`torchrun ... ablate fit` on two local nodes."""

import socket
import subprocess
import sys

from ablations.store import RunFolder
from ablations.training import recipe_text
from tests.helpers.command_line import environment
from tests.helpers.recipes import digits_recipe


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_two_nodes_fit_one_recipe_and_the_first_alone_speaks(tmp_path):
    (tmp_path / "recipe.yaml").write_text(recipe_text(digits_recipe(trainer__num_nodes=2)))
    port = free_port()
    nodes = []
    for number in range(2):
        place = ["--nnodes", "2", "--node-rank", str(number), "--master-addr", "127.0.0.1", "--master-port", str(port)]
        command = [sys.executable, "-m", "torch.distributed.run", *place, "-m", "ablations.cli", "fit", "recipe.yaml"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        nodes.append(subprocess.Popen(command, cwd=tmp_path, env={**environment(), "OMP_NUM_THREADS": "1"}, **pipes))
    (first, said), (second, _) = (node.communicate(timeout=300) for node in nodes)
    assert [node.returncode for node in nodes] == [0, 0], said
    assert second == ""
    (folder,) = (path.parent for path in tmp_path.rglob("result.json"))
    assert RunFolder(folder).result()["nodes"] == 2
    assert f"test/accuracy: {RunFolder(folder).score('last')['test/accuracy']:.4f}" in first
