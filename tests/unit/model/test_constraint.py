"""Placement constraints are read by the swarm's own grammar, at submission and in `placement` alike."""

from __future__ import annotations

import pytest

from jaas_submit.errors import SpecError
from jaas_submit.model.fields import Constraint
from jaas_submit.model.job_spec import JobSpec

TAKEN = [
    ("node.role==worker", ("node.role", True, "worker")),
    ("  node.labels.a\t!= \n b c  ", ("node.labels.a", False, "b c")),
    ("NODE.Labels.Disk==SSD", ("NODE.Labels.Disk", True, "SSD")),
    ("engine.labels.com.example_x-1==:-_.*()?+[]\\^$|/", ("engine.labels.com.example_x-1", True, ":-_.*()?+[]\\^$|/")),
    ("node.ip!=10.0.0.0/8", ("node.ip", False, "10.0.0.0/8")),
]

REFUSED = [
    ('node.labels.zone=="eu"', "leave the quotes out"),
    ("node.labels.zone=='eu'", "leave the quotes out"),
    ("node.labels.zone==\u201ceu\u201d", "leave the quotes out"),
    ("node.labels.zone==eu,us", "write KEY==VALUE"),
    ("node.labels.zone===eu", "write KEY==VALUE"),
    ("node.labels.zone==a!=b", "write KEY==VALUE"),
    ("node.labels.zone==b\u00fcro", "ASCII letters"),
    ("node.labels.b\u00fcro==x", "ASCII letters"),
    ("node.labels.zone==", "write KEY==VALUE"),
    ("node.labels.zone==  ", "write KEY==VALUE"),
    ("node.labels.a b==x", "write KEY==VALUE"),
    ("node.labels.==x", "write KEY==VALUE"),
    ("node.labels.zone>eu", "write KEY==VALUE"),
    ("node.labels.zone==~eu", "write KEY==VALUE"),
]


@pytest.mark.parametrize(("text", "parts"), TAKEN)
def test_what_the_swarm_takes(text: str, parts: tuple[str, bool, str]) -> None:
    assert Constraint.parse(text) == parts
    assert JobSpec(image="a", constraints=[text]).constraints == (text,)


@pytest.mark.parametrize(("text", "fix"), REFUSED)
def test_what_the_swarm_refuses_is_refused_at_submission(text: str, fix: str) -> None:
    with pytest.raises(SpecError, match=r"^constraints: ") as caught:
        JobSpec(image="a", constraints=[text])
    assert caught.value.field == "constraints"
    assert fix in str(caught.value)
