"""Small ONNX models for tests, written down as text, and modules that PyTorch exports."""

import warnings

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper, parser


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def parsed(signature, body, arrays=None, opset=23, dtype=np.float32, ir_version=10):
    """A model from `signature` (`float[N, 4] x) => (float[N, 3] y`) and the text of its nodes; `arrays` are its
    initializers."""
    text = f'<ir_version: {ir_version}, opset_import: ["" : {opset}, "com.microsoft" : 1]> g ({signature}) {{ {body} }}'
    model = parser.parse_model(text)
    for name, array in (arrays or {}).items():
        array = np.asarray(array)
        typed = array.astype(dtype) if array.dtype == np.float64 else array
        model.graph.initializer.append(numpy_helper.from_array(typed, name))
    return model


def external(model, location, offset=None, length=None):
    """`model`, saying that its initializers are in the file `location`: the bytes that belong there."""
    content = b""
    for tensor in model.graph.initializer:
        raw = numpy_helper.to_array(tensor).tobytes()
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        where = {"location": location, "offset": offset or len(content), "length": length or len(raw)}
        for key, value in where.items():
            tensor.external_data.add(key=key, value=str(value))
        content += raw
    return content


def exported(module, *example, path, opset=17, **options):
    """What PyTorch's exporter makes of `module`: the model, from its file."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this exporter is the older one; the newer one needs another package
        torch.onnx.export(module.eval(), example, path, opset_version=opset, dynamo=False, **options)
    with open(path, "rb") as stream:
        return ModelProto.FromString(stream.read())


def node(operation, inputs, outputs, name=None, domain="", **attributes):
    return helper.make_node(operation, inputs, outputs, name=name, domain=domain, **attributes)
