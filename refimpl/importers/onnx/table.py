"""What each of ONNX's operators is as operators of ours: one rule each, one table."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from refimpl.importers.onnx import (
    attention,
    contractions,
    elementwise,
    indexing,
    normalisation,
    pooling,
    reductions,
    resampling,
    shaping,
)
from refimpl.importers.onnx.call import Call
from refimpl.importers.onnx.operands import Known, Operand
from refimpl.importers.onnx.recurrences import RECURRENCES

Rule = Callable[[Call], Operand | tuple[Operand, ...]]


def _shape(call: Call) -> Operand:
    """Shape: known, since every shape is."""
    sizes = call.operand(0).shape
    start, end = call.attribute("start", 0), call.attribute("end", len(sizes))
    return Known(call.path, np.array(sizes[start:end], np.int64))


def _size(call: Call) -> Operand:
    """Size: how many elements there are."""
    return Known(call.path, np.array(np.prod(call.operand(0).shape, dtype=np.int64)))


RULES: dict[str, Rule] = {
    "Abs": elementwise.unary("abs"),
    "Add": elementwise.binary("add"),
    "Attention": attention.attention,
    "AveragePool": pooling.average_pool,
    "BatchNormalization": normalisation.batch_norm,
    "Cast": shaping.cast,
    "CastLike": shaping.cast_like,
    "Celu": elementwise.scaled("celu", "alpha", "alpha", 1.0),
    "Clip": elementwise.clip,
    "Concat": shaping.concat,
    "Conv": contractions.conv,
    "ConvTranspose": contractions.conv_transpose,
    "DepthToSpace": shaping.depth_to_space,
    "Div": elementwise.binary("div"),
    "Dropout": shaping.dropout,
    "Elu": elementwise.scaled("elu", "alpha", "alpha", 1.0),
    "Erf": elementwise.unary("erf"),
    "Exp": elementwise.unary("exp"),
    "Expand": shaping.expand,
    "Flatten": shaping.flatten,
    "Gather": indexing.gather,
    "Gelu": elementwise.gelu,
    "Gemm": contractions.gemm,
    "GlobalAveragePool": pooling.global_pool("adaptive_avg_pool", "mean"),
    "GlobalMaxPool": pooling.global_pool("adaptive_max_pool", "max"),
    "GroupNormalization": normalisation.group_norm,
    "HardSigmoid": elementwise.hard_sigmoid,
    "HardSwish": elementwise.unary("hardswish"),
    "Identity": shaping.same_value,
    "InstanceNormalization": normalisation.instance_norm,
    "LRN": normalisation.local_response_norm,
    "LayerNormalization": normalisation.layer_norm,
    "LeakyRelu": elementwise.scaled("leaky_relu", "alpha", "slope", 0.01),
    "Log": elementwise.unary("log"),
    "LogSoftmax": reductions.softmax("log_softmax"),
    "MatMul": contractions.matmul,
    "Max": elementwise.variadic("maximum"),
    "MaxPool": pooling.max_pool,
    "Mean": elementwise.mean_of_inputs,
    "MeanVarianceNormalization": normalisation.mean_variance_norm,
    "Min": elementwise.variadic("minimum"),
    "Mish": elementwise.unary("mish"),
    "Mul": elementwise.binary("mul"),
    "Neg": elementwise.unary("neg"),
    "PRelu": elementwise.prelu,
    "Pad": shaping.pad,
    "Pow": elementwise.power,
    "RMSNormalization": normalisation.rms_norm,
    "Reciprocal": elementwise.unary("reciprocal"),
    "ReduceL1": reductions.reduction(reductions.l1),
    "ReduceL2": reductions.reduction(reductions.l2),
    "ReduceLogSum": reductions.reduction(reductions.log_of_sum),
    "ReduceLogSumExp": reductions.reduction(reductions.log_of_sum_of_powers),
    "ReduceMax": reductions.reduction(reductions.plain("max")),
    "ReduceMean": reductions.reduction(reductions.plain("mean")),
    "ReduceMin": reductions.reduction(reductions.plain("min")),
    "ReduceSum": reductions.reduction(reductions.plain("sum"), axes_are_input_since=13),
    "ReduceSumSquare": reductions.reduction(reductions.sum_of_squares),
    "Relu": elementwise.unary("relu"),
    "Reshape": shaping.reshape,
    "Resize": resampling.resize,
    "Selu": elementwise.selu,
    "Shape": _shape,
    "Sigmoid": elementwise.unary("sigmoid"),
    "Size": _size,
    "Slice": indexing.slice_,
    "Softmax": reductions.softmax("softmax"),
    "Softplus": elementwise.plain_softplus,
    "Softsign": elementwise.unary("softsign"),
    "SpaceToDepth": shaping.space_to_depth,
    "Split": indexing.split,
    "Sqrt": elementwise.unary("sqrt"),
    "Squeeze": shaping.squeeze,
    "Sub": elementwise.binary("sub"),
    "Sum": elementwise.variadic("add"),
    "SwiGLU": elementwise.swiglu,
    "Swish": elementwise.swish,
    "Tanh": elementwise.unary("tanh"),
    "Tile": shaping.tile,
    "Transpose": shaping.transpose,
    "Unsqueeze": shaping.unsqueeze,
    "Upsample": resampling.upsample,
    **RECURRENCES,
}
