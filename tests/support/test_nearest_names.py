from __future__ import annotations

from edgeprune.support.nearest_names import nearest_names, or_nearest

NAMES = ["blocks.0.attn.qkv.weight", "blocks.0.attn.proj.weight", "blocks.1.attn.qkv.weight", "head.bias", "val_44"]


def test_misspelled_names():
    assert nearest_names("blocks.0.attn.kqv.weight", NAMES)[0] == "blocks.0.attn.qkv.weight"
    assert nearest_names("qkv", NAMES) == ["blocks.0.attn.qkv.weight", "blocks.1.attn.qkv.weight"]
    assert nearest_names("HEAD", NAMES) == ["head.bias"]
    assert nearest_names("something else", NAMES) == []
    assert nearest_names("", NAMES) == []


def test_the_end_of_the_sentence():
    assert or_nearest("head.bia", NAMES) == "; the nearest is 'head.bias'"
    assert or_nearest("qkv", NAMES).endswith("are 'blocks.0.attn.qkv.weight' and 'blocks.1.attn.qkv.weight'")
    assert or_nearest("zzz", ["x"]) == "; there is 'x'"
    assert or_nearest("zzz", ["x", "y"]) == "; there are 'x' and 'y'"
    assert or_nearest("zzz", [f"v{i}" for i in range(9)]) == or_nearest("zzz", []) == ""
