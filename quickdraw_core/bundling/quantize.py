"""Graphs in integers of 8 bits, calibrated on training drawings.

Pictures: weights and activations, by onnxruntime's static quantization, each channel of a weight
with a scale of its own. Points: the weights of matrix products alone, since the activations of a
transformer have outliers that a calibrated range cuts off (Dettmers et al., "LLM.int8()", 2022).
Whether a graph is still good is not decided here, but measured by whoever calls.
"""

import tempfile
import warnings
from pathlib import Path

from quickdraw_core.drawing import UInt8Array
from quickdraw_core.errors import BundleError, first_line
from quickdraw_core.render.encodings import ImageConfig

_BATCH = 64


def quantized_graph(graph: bytes, image: ImageConfig, images_nchw: UInt8Array) -> bytes:
    """An ONNX graph with the same input and output.

    images_nchw: uint8 [N, C, S, S], training drawings that the ranges are taken of. Raises
    `BundleError` where onnxruntime cannot quantize it.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside of the library
        read, prepared, made = (Path(temporary) / f"{name}.onnx" for name in "abc")
        read.write_bytes(graph)
        try:
            quant_pre_process(str(read), str(prepared), skip_symbolic_shape=True)
            if image.holds != "points":
                quantize_static(
                    str(prepared),
                    str(made),
                    _Calibration(images_nchw),
                    per_channel=True,
                    reduce_range=True,  # products of 8 bits each overflow on CPUs without VNNI
                    activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8,
                )
            else:
                quantize_dynamic(
                    str(prepared),
                    str(made),
                    op_types_to_quantize=["MatMul", "Gemm"],
                    per_channel=True,
                    reduce_range=True,
                )
        except Exception as error:
            raise BundleError(
                f"onnxruntime cannot quantize the graph: {first_line(error)}; leave out --quantize"
            ) from error
        return made.read_bytes()


class _Calibration:
    """Batches of images, as onnxruntime asks for them: None after the last."""

    def __init__(self, images_nchw: UInt8Array) -> None:
        starts = range(0, len(images_nchw), _BATCH)
        self._batches = iter([{"images": images_nchw[i : i + _BATCH]} for i in starts])

    def get_next(self) -> dict[str, UInt8Array] | None:
        """The next batch."""
        return next(self._batches, None)
