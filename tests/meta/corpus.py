"""The whole corpus: every planted fault and every clean subject, in every framework."""

from __future__ import annotations

import activation_layers
import adaptive_layers
import additive_layers
import bilinear_layers
import channelwise_layers
import clean_attention
import clean_numbers
import clean_weights
import convolution_layers
import dot_product_faults
import flax_clean
import flax_faults
import gru_layers
import jax_clean
import jax_faults
import keras_clean
import keras_faults
import later_faults
import lstm_layers
import many_faults
import mask_faults
import norm_layers
import normalization_layers
import numpy_clean
import numpy_faults
import onnx_clean
import onnx_faults
import other_layers
import pooling_layers
import position_layers
import projection_faults
import resize_layers
import score_faults
import shape_layers
import stacked_layers
import tensorflow_clean
import tensorflow_faults
import transposed_layers
import weight_faults
from clean import Clean
from planted import Planted

FAULTS: list[Planted] = [
    *projection_faults.CORPUS,
    *score_faults.CORPUS,
    *mask_faults.CORPUS,
    *later_faults.CORPUS,
    *many_faults.CORPUS,
    *weight_faults.CORPUS,
    *dot_product_faults.CORPUS,
    *norm_layers.FAULTS,
    *normalization_layers.FAULTS,
    *other_layers.FAULTS,
    *activation_layers.FAULTS,
    *convolution_layers.FAULTS,
    *lstm_layers.FAULTS,
    *channelwise_layers.FAULTS,
    *pooling_layers.FAULTS,
    *adaptive_layers.FAULTS,
    *bilinear_layers.FAULTS,
    *transposed_layers.FAULTS,
    *shape_layers.FAULTS,
    *resize_layers.FAULTS,
    *position_layers.FAULTS,
    *additive_layers.FAULTS,
    *gru_layers.FAULTS,
    *stacked_layers.FAULTS,
    *jax_faults.FAULTS,
    *flax_faults.FAULTS,
    *keras_faults.FAULTS,
    *tensorflow_faults.FAULTS,
    *onnx_faults.FAULTS,
    *numpy_faults.FAULTS,
]
CLEAN: list[Clean] = [
    *clean_attention.CLEAN,
    *clean_weights.CLEAN,
    *clean_numbers.CLEAN,
    *norm_layers.CLEAN,
    *normalization_layers.CLEAN,
    *other_layers.CLEAN,
    *activation_layers.CLEAN,
    *convolution_layers.CLEAN,
    *lstm_layers.CLEAN,
    *channelwise_layers.CLEAN,
    *pooling_layers.CLEAN,
    *adaptive_layers.CLEAN,
    *bilinear_layers.CLEAN,
    *transposed_layers.CLEAN,
    *shape_layers.CLEAN,
    *resize_layers.CLEAN,
    *position_layers.CLEAN,
    *additive_layers.CLEAN,
    *gru_layers.CLEAN,
    *stacked_layers.CLEAN,
    *jax_clean.CLEAN,
    *flax_clean.CLEAN,
    *keras_clean.CLEAN,
    *tensorflow_clean.CLEAN,
    *onnx_clean.CLEAN,
    *numpy_clean.CLEAN,
]
FRAMEWORKS = tuple(dict.fromkeys(fault.framework for fault in FAULTS))
