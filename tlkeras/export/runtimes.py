"""How each format is opened where only its own runtime is.

These functions also stand in the example that travels with a file, as they are
here: what is proved is what is handed over. Each returns what answers images
[n, size, size, 3], uint8, with probabilities [n, k]; threads: 0 is all.
"""

import os

import numpy as np


def litert(path, threads=0):
    """Opens model.tflite with ai-edge-litert."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=threads or os.cpu_count())
    interpreter.allocate_tensors()
    taken = interpreter.get_input_details()[0]
    given = interpreter.get_output_details()[0]

    def answer(images):
        rows = []
        for image in images:
            image = image[None].astype(taken["dtype"])
            interpreter.set_tensor(taken["index"], image)
            interpreter.invoke()
            rows.append(interpreter.get_tensor(given["index"])[0])
        return np.stack(rows)

    return answer


def onnx(path, threads=0):
    """Opens model.onnx with onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"]
    )

    def answer(images):
        return session.run(None, {"images": images.astype(np.float32)})[0]

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

    def answer(images):
        return model(images.astype(np.float32))[0]

    return answer


def saved_model(path, threads=0):
    """Opens a SavedModel with tensorflow, whose threads are its own affair."""
    import tensorflow as tf

    served = tf.saved_model.load(str(path)).signatures["images"]

    def answer(images):
        return served(images=tf.constant(images))["probabilities"].numpy()

    return answer
