import subprocess
import sys

from tests.helpers.command_line import environment

ROUNDS, MEGABYTES = 10, 64
CODE = f"""
import resource, sys
import torch
from ablations.allocator import keep_freed_memory
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def work():
    torch.ones({MEGABYTES} * 2**20, dtype=torch.uint8)
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(3):
    work()
before = faults()
for _ in range({ROUNDS}):
    work()
print(faults() - before)
"""


def page_faults(mode):
    command = [sys.executable, "-c", CODE, mode]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment())
    return int(done.stdout)


def test_memory_that_a_step_frees_is_there_for_the_next_one():
    assert page_faults("default") > ROUNDS  # at least a page a round, however large the system's pages are
    assert page_faults("keep") <= ROUNDS / 2
