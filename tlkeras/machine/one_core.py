"""TensorFlow's operations on one core: that of the thread that asks for them.

Where several threads are at work anyway, each on images of its own, it costs
more to share an operation among cores than the operation takes: to resize one
image took 0.6 ms of two cores in place of 0.3. Neither `tf.function` nor
`tf.data` can be told not to (TensorFlow 2.21; `max_intra_op_parallelism` leaves
several operations out), so that graphs run here in sessions of TensorFlow 1.
"""

import functools
import os
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

# Has each session own its threads. Else one set serves the whole process, of
# the size that was asked for first. TensorFlow reads it at its first operation
# and never again; later, or in a version that does not know it, the results are
# the same and take longer.
os.environ.setdefault("TF_OVERRIDE_GLOBAL_THREADPOOL", "1")


def compiled(
    run: Callable[..., Any], signature: Sequence[tf.TensorSpec]
) -> Callable[..., list[np.ndarray]]:
    """Returns what calls `run` in a graph: arrays -> its results, flat.

    Several threads may call it at once. It raises `tf.errors.OpError` where an
    operation fails.
    """
    function = tf.function(
        run, autograph=False, input_signature=signature
    ).get_concrete_function()
    graph = tf.Graph()
    with graph.as_default():
        tf.graph_util.import_graph_def(function.graph.as_graph_def(), name="")
    session = tf.compat.v1.Session(
        graph=graph,
        config=tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=1,
            # In the caller's own thread.
            inter_op_parallelism_threads=-1,
            device_count={"GPU": 0},
        ),
    )
    call = session.make_callable(
        [tensor.name for tensor in function.outputs],
        [tensor.name for tensor in function.inputs],
    )
    # What Python functions there are in the graph live as long as it does.
    return functools.partial(_called, call, function.graph)


def _called(
    call: Callable[..., list[np.ndarray]], graph: tf.Graph, *arrays: Any
) -> list[np.ndarray]:
    del graph
    return call(*arrays)
