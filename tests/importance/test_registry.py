import pytest

from edgeprune.dependency.solve import analyse
from edgeprune.errors import UsageError
from edgeprune.importance import CRITERIA, rank
from edgeprune.importance.registry import find_criterion
from tests.small_models import normal, two_convolutions

NEED_DATA = {"wanda", "flap", "vbp", "obs", "output", "taylor", "fisher"}


def test_all_criteria_are_registered_with_their_source() -> None:
    assert set(CRITERIA) >= {"l1", "l2", "fpgm", "lamp", "bn-scale", *NEED_DATA}
    for name, criterion in CRITERIA.items():
        assert criterion.name == name
        assert criterion.source
        assert criterion.needs_data == (name in NEED_DATA)


def test_an_unknown_criterion_is_answered_with_those_there_are() -> None:
    model = two_convolutions(normal(4, 3, 3, 3), normal(5, 4, 3, 3))
    with pytest.raises(UsageError, match=r"no criterion 'magic'; there are .*l1, l2"):
        rank("magic", model, analyse(model))
    assert find_criterion("l1").name == "l1"
