import pytest

from edgeprune.dependency.solve import analyse
from edgeprune.testing.oracle import verify
from tests.models import single

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


@pytest.mark.parametrize("op", list(GATES))
@pytest.mark.parametrize("directions", [1, 2])
def test_input_and_hidden_width(op: str, directions: int) -> None:
    gates, hidden = GATES[op], 5
    direction = "bidirectional" if directions == 2 else "forward"
    model = single(
        f"""g (float[7,1,8] x) => (float[7,1,3] y) <int64[3] s = {{7, 1, {hidden * directions}}}> {{
            h = MatMul(x, w1)
            a, b = {op}<hidden_size={hidden}, direction="{direction}">(h, w, r, bias)
            t = Transpose<perm=[0,2,1,3]>(a)
            f = Reshape(t, s)
            y = MatMul(f, w2)
        }}""",
        w1=(8, 6),
        w=(directions, gates * hidden, 6),
        r=(directions, gates * hidden, hidden),
        bias=(directions, 2 * gates * hidden),
        w2=(hidden * directions, 3),
    )
    analysis = verify(model)
    assert sorted(g.size for g in analysis.groups) == [5, 6]
    assert analysis.roles["r", 2] == "consumer"


def test_peepholes_and_states_follow() -> None:
    model = single(
        """g (float[7,1,8] x) => (float[7,1,1,3] y) {
            a, b, c = LSTM<hidden_size=5>(x, w, r, bias, , h0, c0, p)
            y = MatMul(a, w2)
        }""",
        w=(1, 20, 8),
        r=(1, 20, 5),
        bias=(1, 40),
        h0=(1, 1, 5),
        c0=(1, 1, 5),
        p=(1, 15),
        w2=(5, 3),
    )
    assert [g.size for g in verify(model).groups] == [5]


def test_the_lengths_of_sequences_hold_the_batch() -> None:
    model = single(
        """g (float[5,3,4] x, int32[6] lengths) => (float[5,1,3,2] y) {
            t = Conv(x, w1) z, h = LSTM<hidden_size=2>(t, w, r, e, lengths) s = Transpose<perm=[0,1,3,2]>(z)
            y = MatMul(s, w2) }""".replace("(t, w, r, e, lengths)", "(t, w, r, , lengths)"),
        w1=(6, 3, 1),
        w=(1, 8, 4),
        r=(1, 8, 2),
        w2=(6, 3),
    )
    assert not any(member.value == "w1" for group in analyse(model).groups for member in group.members)
