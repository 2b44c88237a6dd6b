"""The C of an exported header: one function per kind of layer, as docs/numerics.md has it.

`NAME` stands for what all names of the header begin with. Each function reads x and writes y; those
that keep the shape may do so in place; to the others nobody else may point where they write.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tinyfleet.model.spec import PlacedLayer

OPENING = """\
/* Model {model}, a C99 header written by TinyFleet.
 * SHA-256 of its parameters: {sha256}
 *
 * {name}_predict(input, output)
 *   input   {inputs} floats: {shape} (height x width x channels), row by row, channels last
 *   output  {outputs} floats: {said}
 *
 * Constants: {constants} bytes (flash). Scratch: {scratch} bytes, static: one call at a time.
 * No other file, no heap, no library. Outputs are those of TinyFleet's learner to the bit unless
 * the compiler fuses products and sums: -std=c99 or -ffp-contract=off keeps GCC from it. */
#ifndef {upper}_H
#define {upper}_H

#include <stdint.h>

#define {upper}_INPUTS {inputs}
#define {upper}_OUTPUTS {outputs}
#define {upper}_SCRATCH_BYTES {scratch}

#if defined(__clang__)
#define {upper}_NOT_FUSED _Pragma("STDC FP_CONTRACT OFF")
#else
#define {upper}_NOT_FUSED
#endif
"""

_CONV2D = """\
/* A dense layer is one of a single pixel. */
static void NAME_conv2d(const float *restrict x, float *restrict y, const float *restrict w,
                        const float *restrict b, int height, int width, int channels,
                        int out_height, int out_width, int filters, int kernel, int stride,
                        int padding)
{
    UPPER_NOT_FUSED
    for (int pixel = 0; pixel < out_height * out_width; pixel++, y += filters) {
        const int top = pixel / out_width * stride - padding;
        const int left = pixel % out_width * stride - padding;
        for (int f = 0; f < filters; f++) {
            y[f] = 0.0f;
        }
        for (int tap = 0; tap < kernel * kernel; tap++) {
            const int row = top + tap / kernel;
            const int column = left + tap % kernel;
            if (row < 0 || row >= height || column < 0 || column >= width) {
                continue;
            }
            const float *in = x + (row * width + column) * channels;
            const float *weights = w + tap * channels * filters;
            for (int c = 0; c < channels; c++, weights += filters) {
                for (int f = 0; f < filters; f++) {
                    y[f] += in[c] * weights[f];
                }
            }
        }
        for (int f = 0; f < filters; f++) {
            y[f] += b[f];
        }
    }
}
"""

_DEPTHWISE = """\
static void NAME_depthwise_conv2d(const float *restrict x, float *restrict y,
                                  const float *restrict w, const float *restrict b, int height,
                                  int width, int channels, int out_height, int out_width,
                                  int kernel, int stride, int padding)
{
    UPPER_NOT_FUSED
    for (int pixel = 0; pixel < out_height * out_width; pixel++, y += channels) {
        const int top = pixel / out_width * stride - padding;
        const int left = pixel % out_width * stride - padding;
        for (int c = 0; c < channels; c++) {
            y[c] = 0.0f;
        }
        for (int tap = 0; tap < kernel * kernel; tap++) {
            const int row = top + tap / kernel;
            const int column = left + tap % kernel;
            if (row < 0 || row >= height || column < 0 || column >= width) {
                continue;
            }
            const float *in = x + (row * width + column) * channels;
            const float *weights = w + tap * channels;
            for (int c = 0; c < channels; c++) {
                y[c] += in[c] * weights[c];
            }
        }
        for (int c = 0; c < channels; c++) {
            y[c] += b[c];
        }
    }
}
"""

_MAX_POOL = """\
static void NAME_max_pool2d(const float *restrict x, float *restrict y, int width, int channels,
                            int out_height, int out_width, int kernel, int stride)
{
    for (int oy = 0; oy < out_height; oy++) {
        for (int ox = 0; ox < out_width; ox++) {
            const float *window = x + (oy * stride * width + ox * stride) * channels;
            for (int c = 0; c < channels; c++) {
                float largest = window[c];
                for (int ky = 0; ky < kernel; ky++) {
                    for (int kx = 0; kx < kernel; kx++) {
                        const float value = window[(ky * width + kx) * channels + c];
                        largest = value > largest ? value : largest;
                    }
                }
                *y++ = largest;
            }
        }
    }
}
"""

_AVERAGE_POOL = """\
static void NAME_average_pool2d(const float *restrict x, float *restrict y, int width,
                                int channels, int out_height, int out_width, int kernel,
                                int stride)
{
    UPPER_NOT_FUSED
    const float share = 1.0f / (float)(kernel * kernel);
    for (int oy = 0; oy < out_height; oy++) {
        for (int ox = 0; ox < out_width; ox++) {
            const float *window = x + (oy * stride * width + ox * stride) * channels;
            for (int c = 0; c < channels; c++) {
                float sum = 0.0f;
                for (int ky = 0; ky < kernel; ky++) {
                    for (int kx = 0; kx < kernel; kx++) {
                        sum += window[(ky * width + kx) * channels + c];
                    }
                }
                *y++ = sum * share;
            }
        }
    }
}
"""

_GLOBAL_AVERAGE = """\
static void NAME_global_average_pool2d(const float *restrict x, float *restrict y, int pixels,
                                       int channels)
{
    UPPER_NOT_FUSED
    const float share = 1.0f / (float)pixels;
    for (int c = 0; c < channels; c++) {
        y[c] = 0.0f;
    }
    for (int p = 0; p < pixels; p++, x += channels) {
        for (int c = 0; c < channels; c++) {
            y[c] += x[c];
        }
    }
    for (int c = 0; c < channels; c++) {
        y[c] = y[c] * share;
    }
}
"""

_RELU = """\
static void NAME_relu(const float *x, float *y, int values)
{
    for (int i = 0; i < values; i++) {
        y[i] = x[i] > 0.0f ? x[i] : 0.0f;
    }
}
"""

_EXP = """\
static float NAME_power_of_two(int32_t exponent)
{
    union {
        float value;
        uint32_t bits;
    } power;
    power.bits = (uint32_t)(exponent + 127) << 23;
    return power.value;
}

/* x = n ln 2 + r, then e^x = 2^n e^r with a polynomial for e^r. */
static float NAME_exp(float x)
{
    UPPER_NOT_FUSED
    if (x != x) {
        return x;
    }
    if (x < -104.0f) {
        return 0.0f;
    }
    if (x > 89.0f) {
        x = 89.0f;
    }
    const float n = (x * 0x1.715476p+0f + 12582912.0f) - 12582912.0f;
    const float r = (x - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;
    const float high = 0x1.5558f2p-5f + r * (0x1.1239e2p-7f + r * 0x1.6a2434p-10f);
    const float p = 0x1.fffffcp-2f + r * (0x1.555492p-3f + r * high);
    const float e = 1.0f + (r + (r * r) * p);
    const int32_t whole = (int32_t)n;
    const int32_t half = whole / 2;
    return (e * NAME_power_of_two(half)) * NAME_power_of_two(whole - half);
}
"""

_TANH = """\
static void NAME_tanh(const float *x, float *y, int values)
{
    UPPER_NOT_FUSED
    for (int i = 0; i < values; i++) {
        const float v = x[i];
        const float size = v < 0.0f ? -v : v;
        if (size < 0.625f) {
            const float z = v * v;
            const float high = -0x1.b8430ep-5f + z * (0x1.524e66p-6f + z * -0x1.76848ap-8f);
            const float p = -0x1.555534p-2f + z * (0x1.110760p-3f + z * high);
            y[i] = v + (v * z) * p;
        } else if (size != size) {
            y[i] = v;
        } else {
            const float far = size >= 9.1f ? 1.0f : 1.0f - 2.0f / (NAME_exp(size + size) + 1.0f);
            y[i] = v < 0.0f ? -far : far;
        }
    }
}
"""

_SOFTMAX = """\
static void NAME_softmax(const float *x, float *y, int values)
{
    UPPER_NOT_FUSED
    float largest = x[0];
    float sum = 0.0f;
    for (int i = 1; i < values; i++) {
        largest = x[i] > largest ? x[i] : largest;
    }
    for (int i = 0; i < values; i++) {
        y[i] = NAME_exp(x[i] - largest);
        sum += y[i];
    }
    for (int i = 0; i < values; i++) {
        y[i] = y[i] / sum;
    }
}
"""

_FUNCTIONS = {
    "exp": _EXP,
    "conv2d": _CONV2D,
    "depthwise_conv2d": _DEPTHWISE,
    "max_pool2d": _MAX_POOL,
    "average_pool2d": _AVERAGE_POOL,
    "global_average_pool2d": _GLOBAL_AVERAGE,
    "relu": _RELU,
    "tanh": _TANH,
    "softmax": _SOFTMAX,
}
_NEEDS_EXP = {"tanh", "softmax"}


def needed(kinds: Iterable[str]) -> list[str]:
    """The functions that these kinds of layers need, in an order that compiles."""
    wanted = set(map(name_of, kinds))
    if wanted & _NEEDS_EXP:
        wanted.add("exp")
    return [kind for kind in _FUNCTIONS if kind in wanted]


def name_of(kind: str) -> str:
    """The function that computes a kind of layer."""
    return "conv2d" if kind == "dense" else kind


def text_of(kind: str, name: str) -> str:
    """A function of the header whose names begin with `name`."""
    return _FUNCTIONS[kind].replace("NAME", name).replace("UPPER", name.upper())


def arguments_of(placed: PlacedLayer, name: str) -> str:
    """What a layer's function is called with, behind x and y."""
    height, width, channels = placed.input_shape
    out_height, out_width, outputs = placed.output_shape
    layer: Any = placed.layer
    constants = [f"{name}_{placed.name}_{part}" for part in ("weights", "biases")]
    image = (height, width, channels, out_height, out_width)
    numbers: dict[str, tuple[object, ...]] = {
        "dense": (*constants, 1, 1, channels, 1, 1, outputs, 1, 1, 0),
        "global_average_pool2d": (height * width, channels),
        "relu": (height * width * channels,),
        "tanh": (height * width * channels,),
    }
    if placed.layer.kind == "conv2d":
        window = (layer.kernel, layer.stride, layer.padding)
        return _joined(*constants, *image, outputs, *window)
    if placed.layer.kind == "depthwise_conv2d":
        return _joined(*constants, *image, layer.kernel, layer.stride, layer.padding)
    if placed.layer.kind in ("max_pool2d", "average_pool2d"):
        return _joined(width, channels, out_height, out_width, layer.kernel, layer.stride)
    return _joined(*numbers[placed.layer.kind])


def _joined(*arguments: object) -> str:
    return ", ".join(map(str, arguments))
