"""PURE: one signature for many tokens, by a tree of digests (as in RFC 6962, section 2.1).

An Ed25519 signature for each job would make submission in bulk a third slower. The tokens of one call are therefore the
leaves of a tree, whose root is signed once. The last part of each token holds that signature and the digests that lead
from the token to the root.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

__all__ = ["TREE", "proofs", "signed_by", "statement"]

TREE: Final = "EdDSA-jaas-tree"
"""``alg`` in the header of such a token."""

_SIGNATURE: Final = 64
"""Bytes of an Ed25519 signature."""

_DIGEST: Final = 32
_MAX_DEPTH: Final = 16
_PURPOSE: Final = b"jaas descriptions\x00"
"""What is signed begins with this, and a token's own header never does: neither signature passes for the other."""


def _leaf(text: bytes) -> bytes:
    return sha256(b"\x00" + text).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def statement(root: bytes) -> bytes:
    """Return what is signed of a tree.

    Args:
        root: its digest.
    """
    return _PURPOSE + root


def proofs(texts: Sequence[bytes]) -> tuple[bytes, list[bytes]]:
    """Return the root of a tree, and what leads to it from each leaf: its number and the digests beside its way up.

    Args:
        texts: of the leaves, 2**16 at most: header and payload of each token.
    """
    level = [_leaf(text) for text in texts]
    depth = (len(level) - 1).bit_length()
    level += [bytes(_DIGEST)] * (2**depth - len(level))
    ways = [[number.to_bytes(2)] for number in range(len(texts))]
    for height in range(depth):
        for number, way in enumerate(ways):
            way.append(level[(number >> height) ^ 1])
        level = [_node(left, right) for left, right in zip(level[::2], level[1::2], strict=True)]
    return level[0], [b"".join(way) for way in ways]


def signed_by(text: bytes, proof: bytes) -> tuple[bytes, bytes] | None:
    """Return the signature in a token's last part, and the statement that it has to be of; None if it has no such form.

    Args:
        text: header and payload of the token.
        proof: its last part: signature, number of the leaf, digests.
    """
    signature, number, way = proof[:_SIGNATURE], proof[_SIGNATURE : _SIGNATURE + 2], proof[_SIGNATURE + 2 :]
    depth = len(way) // _DIGEST
    place = int.from_bytes(number)
    if len(number) < 2 or len(way) % _DIGEST or depth > _MAX_DEPTH or place >> depth:
        return None
    root = _leaf(text)
    for height in range(depth):
        beside = way[height * _DIGEST : (height + 1) * _DIGEST]
        root = _node(beside, root) if place >> height & 1 else _node(root, beside)
    return signature, statement(root)
