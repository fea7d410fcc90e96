"""Tuning of the C library's memory allocator."""

import ctypes
import sys

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> bool:
    """Let the process keep the memory of freed tensors for the next ones instead of returning it to the system.

    A network on the CPU frees and asks for tens of megabytes in each layer. glibc maps such pieces again each time,
    and the kernel fills every page with zeros, which takes two fifths of the time of a ResNet-50 in fp32. The price:
    memory, once used, stays with the process until its end. The setting holds for the whole process, so the
    scripts call this function when they compute on the CPU, and a library does not.

    Returns:
        Whether the C library accepted it; False if it is not glibc.
    """
    if sys.platform != "linux":
        return False
    try:
        tune = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    # No mappings, no return of the heap's end, and one heap for all threads, since only the first can grow at will.
    return bool(tune(_MMAP_MAX, 0) and tune(_TRIM_THRESHOLD, -1) and tune(_ARENA_MAX, 1))
