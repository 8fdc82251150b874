"""The facts that the processes of one server know of each other, in a little memory that they share."""

import ctypes
import mmap


class SharedState(ctypes.Structure):
    """Made before the first worker is forked. Workers are known by their age, which gunicorn counts up from 1.

    Each word is read and written at once, so that no process has to wait for another. To raise one takes both, and a
    write in between may be lost; each worker writes again within a second.
    """

    serving_age: int
    """The age of the newest worker that has served."""
    worn_age: int
    """The age of a worker that has answered as many requests as it may."""
    started_age: int
    """The age of the newest worker that the master has forked."""
    start_time: float
    """The time at which the server started, in seconds since 1970."""
    is_stopping: bool
    """True from the moment when the workers are told to leave."""
    is_stop_announced: bool
    """True from the signal that stops the server, which may be a while before that."""

    _fields_ = (
        ("serving_age", ctypes.c_uint64),
        ("worn_age", ctypes.c_uint64),
        ("started_age", ctypes.c_uint64),
        ("start_time", ctypes.c_double),
        ("is_stopping", ctypes.c_bool),
        ("is_stop_announced", ctypes.c_bool),
    )


SHARED_STATE = SharedState.from_buffer(mmap.mmap(-1, ctypes.sizeof(SharedState)))
