"""What the C library does with memory that a training frees."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Names of `mallopt`, from glibc's malloc.h."""


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, for the next step to use.

    A step on the CPU frees what the one before it took. glibc hands large pieces back to the system each time, which
    then has to find and clear them anew: in the trainings of our studies this takes up to a tenth of the time. Other
    libraries than glibc are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and mallopt(M_MMAP_THRESHOLD, 2**30):  # without it, the other one makes things worse
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
