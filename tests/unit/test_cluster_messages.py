"""Messages of the control channel: every one comes back as it was, and what is none is refused with the reason."""

from __future__ import annotations

import contextlib
import doctest
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rainband.cluster import messages
from rainband.cluster.messages import Message, ProtocolError, decode, encode

TEXT = st.text(max_size=8)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
OF = {
    int: st.integers(),
    str: TEXT,
    bool: st.booleans(),
    float: st.floats(allow_nan=False),
    str | None: TEXT | st.none(),
    int | None: st.integers() | st.none(),
    dict[str, Any]: st.dictionaries(TEXT, JSON, max_size=3),
    dict[str, str]: st.dictionaries(TEXT, TEXT, max_size=3),
    dict[str, dict[str, int]]: st.dictionaries(TEXT, st.dictionaries(TEXT, st.integers(), max_size=2), max_size=2),
    list[Any]: st.lists(JSON, max_size=3),
    list[Any] | None: st.lists(JSON, max_size=3) | st.none(),
    list[int]: st.lists(st.integers(), max_size=3),
    list[str] | None: st.lists(TEXT, max_size=3) | st.none(),
}


def test_examples() -> None:
    assert doctest.testmod(messages).failed == 0


@pytest.mark.parametrize("kind", get_args(Message))
def test_every_message_comes_back(kind: type[Message]) -> None:
    @given(st.builds(kind, **{name: OF[hint] for name, hint in get_type_hints(kind).items()}))
    def comes_back(message: Message) -> None:
        assert decode(encode(message)) == message

    comes_back()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"{", "not JSON: b'{'"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"{}", "no message of this version: b'{}'"),
        (b"[]", "no message of this version"),
        (b'["Exec", "rm"]', "no message of this version"),
        (b'["Hello"]', "Hello: expected 1 fields, got 0"),
        (b'["Hello", true]', "Hello.pid: expected int, got True"),
        (b'["Reply", 1, 2]', r"Reply.error: expected str \| None, got 2"),
        (b'["View", 1, {}, [], ""]', "View.members: expected list, got {}"),
    ],
)
def test_what_is_no_message_is_refused(data: bytes, text: str) -> None:
    with pytest.raises(ProtocolError, match=text):
        decode(data)


@given(st.binary(max_size=50))
def test_nothing_else_is_raised(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        decode(data)
