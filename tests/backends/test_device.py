from __future__ import annotations

import pytest

from edgeprune.backends.device import open_device
from edgeprune.errors import UsageError


def test_devices_by_name():
    jetson = open_device("ssh://user@jetson:2222", "tensorrt")
    assert (jetson.name, jetson.host.name) == ("trtexec", "ssh://user@jetson:2222")
    board = open_device("ssh://pi", "onnxruntime", threads=4)
    assert (board.name, board.host.name) == ("onnxruntime", "ssh://pi")
    assert open_device("local", "tensorrt").host.name == "this machine"
    with pytest.raises(UsageError, match="--device 'jetson'"):
        open_device("jetson", "tensorrt")
