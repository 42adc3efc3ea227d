"""How each format is opened where only its own runtime is.

These functions also stand in the example that travels with a file, as they are
here: what is proved is what is handed over. Each returns what answers images
[n, size, size, 3], uint8, with arrays by name: `probabilities` [n, k] and, of a
model that tells pictures that are none of its classes, `similarity` [n] to
training images and whether that is `known` [n]; threads: 0 is all.
"""

import os

import numpy as np


def litert(path, threads=0, signature=""):
    """Opens model.tflite with ai-edge-litert.

    signature: which of the file's is run; '' is the one that tells most.
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=threads or os.cpu_count())
    most = sorted(interpreter.get_signature_list())[-1]
    run = interpreter.get_signature_runner(signature or most)
    dtype = run.get_input_details()["images"]["dtype"]

    def answer(images):
        rows = [run(images=image[None].astype(dtype)) for image in images]
        return {
            name: np.concatenate([row[name] for row in rows])
            for name in rows[0]
        }

    return answer


def onnx(path, threads=0):
    """Opens model.onnx with onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"]
    )
    names = [each.name for each in session.get_outputs()]

    def answer(images):
        found = session.run(None, {"images": images.astype(np.float32)})
        return dict(zip(names, found, strict=True))

    return answer


def openvino(path, threads=0, precision="f32"):
    """Opens model.xml and model.bin with openvino."""
    import openvino

    settings = {}
    if precision:
        # By itself it computes in bfloat16 where the processor can.
        settings["INFERENCE_PRECISION_HINT"] = precision
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    model = openvino.Core().compile_model(str(path), "CPU", settings)
    names = [each.get_any_name() for each in model.outputs]

    def answer(images):
        found = model(images.astype(np.float32))
        return {name: found[name] for name in names}

    return answer


def saved_model(path, threads=0):
    """Opens a SavedModel with tensorflow, whose threads are its own affair."""
    import tensorflow as tf

    served = tf.saved_model.load(str(path)).signatures["images"]

    def answer(images):
        found = served(images=tf.constant(images))
        return {name: values.numpy() for name, values in found.items()}

    return answer
