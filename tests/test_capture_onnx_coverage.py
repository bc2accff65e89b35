"""Every test that onnx has of an operator that is captured passes, or is refused for a reason."""

import re
from pathlib import Path

import onnx
import pytest

from refimpl.importers.onnx.coverage import outcomes, report

REASONS = {
    "(past_key|nonpad_kv_seqlen) has no": "attention over what was computed before",
    "(softcap|left_window_size)=.* has no": "forms of attention that nothing here says",
    "output 'qk_matmul_output' is not": "of attention, scores beside the result",
    "its mask leaves nothing of a row": "ONNX makes zeros of it; a softmax, NaN",
    "dilations=.* has no": "average pools have no dilation",
    "training_mode": "training",
    "peepholes have no": "an LSTM of its own",
    "an exponent has a counterpart": "powers that are not products and roots",
    "scale that makes .* is read in different ways": "ONNX's text and test contradict one another",
    "mode='cubic' has no": "cubic resampling",
    "='(tf_crop_and_resize|half_pixel_symmetric)' has no": "coordinates of other resamplings",
    "antialias=1 has no": "resampling that blurs",
}
"""Why a test of float32 may be refused, and what that means."""


@pytest.fixture(scope="module")
def found():
    return outcomes()


def test_what_is_refused_is_refused_for_a_known_reason(found):
    refused = [outcome for outcome in found if not outcome.passed]
    unknown = [o for o in refused if not any(re.search(reason, o.reason) for reason in REASONS)]
    assert not unknown
    assert sum(outcome.passed for outcome in found) > 0.8 * len(found)


def test_the_report_is_current(found):
    text = (Path(__file__).parents[1] / "docs" / "operators.md").read_text()
    if f"onnx {onnx.__version__} " not in text:
        pytest.skip("the report is of another version of onnx")
    assert text == report(found), "python -m refimpl.importers.onnx.coverage --write"
