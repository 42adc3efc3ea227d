"""Tests of graphs that run in the thread that asks for them."""

import concurrent.futures
import gc
import threading

import numpy as np
import pytest
import tensorflow as tf

from tlkeras.machine import one_core

NUMBERS = [tf.TensorSpec([None], tf.float32)]


def test_gives_what_the_graph_gives_in_many_threads():
    def run(x):
        return tf.map_fn(tf.square, x), tf.reduce_sum(x)

    call = one_core.compiled(run, NUMBERS)
    arrays = [np.arange(n, dtype=np.float32) for n in range(1, 20)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for array, (squares, total) in zip(
            arrays, pool.map(call, arrays), strict=True
        ):
            np.testing.assert_array_equal(squares, array**2)
            assert total == array.sum()


def test_works_in_the_thread_of_the_caller():
    found = []

    def note(x: np.ndarray) -> np.ndarray:
        found.append(threading.get_ident())
        return x

    def run(x):
        # Two branches, which TensorFlow would give to two threads.
        left = tf.numpy_function(note, [x + 1], tf.float32)
        right = tf.numpy_function(note, [x + 2], tf.float32)
        return left + right

    call = one_core.compiled(run, NUMBERS)
    # The function in the graph must not go with what it was made of.
    gc.collect()
    for _ in range(20):
        call([1.0, 2.0])
    assert found == [threading.get_ident()] * 40


def test_an_operation_that_fails_raises():
    call = one_core.compiled(
        lambda x: tf.debugging.check_numerics(x, "no number"), NUMBERS
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="no number"):
        call([float("nan")])
    assert call([1.0])[0] == 1.0
