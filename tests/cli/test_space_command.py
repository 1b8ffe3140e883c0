"""`nasflow space` as a user meets it, and `nasflow check` on spaces that cannot be: each is refused at once."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import write_config

Call = Callable[..., tuple[int, str, str]]
NB201 = Path(__file__).resolve().parents[2] / "configs" / "spaces" / "nasbench201.yaml"
CIFAR10 = "3x32x32:10"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_config(tmp_path / "tiny.yaml")


def test_the_text_tells_sizes_ranges_and_samples(nasflow: Call) -> None:
    code, out, err = nasflow("space", NB201, "--input", CIFAR10, "--sample", "2")

    assert (code, err) == (0, "")
    assert "nasbench201: a space for 3x32x32 inputs and 10 classes" in out
    assert "structure   125 settings of 3 parameters" in out
    assert "members     15,625 (exact)" in out
    assert "parameters" in out
    assert "FLOPs (2 per multiply-add)" in out
    assert "sample 2  key " in out
    assert "sample 3" not in out


def test_the_document_tells_the_same_for_programs(nasflow: Call) -> None:
    code, out, _ = nasflow("space", NB201, "--input", CIFAR10, "--sample", "5", "--json")

    document = json.loads(out)
    assert code == 0
    assert document["schema_version"] == 1
    assert document["input"] == [3, 32, 32]
    assert document["classes"] == 10
    assert document["structure"] == {"settings": 125, "parameters": 3}
    assert document["members"] == {"count": 15625, "exact": True, "relative_error": 0.0}
    assert len(document["samples"]) == 5
    low, median, high = document["ranges"]["params"]
    fit = [sample["params"] for sample in document["samples"] if not sample["broken"]]
    assert low <= min(fit) <= max(fit) <= high
    assert low <= median <= high
    assert 0 < document["distinct_share"] <= 1


def test_the_same_seed_shows_the_same_samples_and_another_seed_others(nasflow: Call, tiny: Path) -> None:
    one, same = (nasflow("space", tiny, "--json")[1] for _ in range(2))
    other = nasflow("space", tiny, "--json", "--set", "seed=1")[1]

    assert one == same
    assert json.loads(one)["samples"] != json.loads(other)["samples"]


def test_without_an_input_the_data_s_shape_is_taken(nasflow: Call, tiny: Path) -> None:
    code, out, _ = nasflow("space", tiny, "--json")

    assert code == 0
    assert json.loads(out)["input"] == [1, 8, 8]


def test_nothing_is_sampled_into_the_text_where_none_is_asked_for(nasflow: Call, tiny: Path) -> None:
    code, out, _ = nasflow("space", tiny, "--sample", "0")

    assert code == 0
    assert "key" not in out


def test_the_drawing_is_of_the_first_sample_that_may_be_trained(nasflow: Call, tmp_path: Path) -> None:
    code, out, err = nasflow("space", NB201, "--input", CIFAR10, "--json", "--draw", tmp_path / "member.svg")

    assert code == 0
    assert f"drawn: {tmp_path / 'member.svg'}" in err
    picture = (tmp_path / "member.svg").read_text()
    assert ET.fromstring(picture).tag.endswith("svg")
    first = next(sample for sample in json.loads(out)["samples"] if not sample["broken"])
    assert first["key"] in picture


def test_samples_that_may_not_be_trained_say_why(nasflow: Call, tiny: Path) -> None:
    limit = json.loads(nasflow("space", tiny, "--json")[1])["ranges"]["params"][1]

    code, out, _ = nasflow("space", tiny, "--sample", "20", "--set", f"space.constraints.params.max={int(limit)}")

    assert code == 0
    assert "may not be trained: params" in out
    assert f"is above {int(limit):,}" in out


@pytest.mark.parametrize("shape", ["3x32x32", "3x32:10", "0x8x8:10", "3x32x32:1", "axbxc:10", "", "3x32x32:10:2"])
def test_an_input_that_is_no_shape_is_refused(shape: str, nasflow: Call, tiny: Path) -> None:
    code, out, err = nasflow("space", tiny, "--input", shape)

    assert (code, out) == (2, "")
    assert "--input" in err
    assert "3x32x32:10" in err


def test_an_input_of_vectors_does_not_fit_a_space_of_images(nasflow: Call, tiny: Path) -> None:
    code, out, err = nasflow("space", tiny, "--input", "13:3")

    assert (code, out) == (2, "")
    assert "'conv3x3' cannot be applied to vectors" in err


def test_a_folder_for_the_drawing_that_is_not_there_is_named_before_anything_is_done(
    nasflow: Call, tiny: Path, tmp_path: Path
) -> None:
    code, out, err = nasflow("space", tiny, "--draw", tmp_path / "nowhere" / "a.svg")

    assert (code, out) == (2, "")
    assert f"there is no folder {tmp_path / 'nowhere'}" in err
    assert not (tmp_path / "nowhere").exists()


def test_a_drawing_that_cannot_be_written_is_an_error_with_its_place(nasflow: Call, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "taken.svg").mkdir()

    code, _, err = nasflow("space", tiny, "--draw", tmp_path / "taken.svg")

    assert code == 2
    assert f"cannot write {tmp_path / 'taken.svg'}" in err
    assert "Traceback" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken.svg", "tiny.yaml"]


@pytest.mark.parametrize("number", ["-1", "10001", "many"])
def test_a_number_of_samples_out_of_range_is_a_usage_error(number: str, nasflow: Call, tiny: Path) -> None:
    assert nasflow("space", tiny, "--sample", number)[0] == 2


def test_a_file_that_is_not_there_and_data_that_is_not_there_have_their_exit_codes(
    nasflow: Call, tmp_path: Path
) -> None:
    assert nasflow("space", tmp_path / "no.yaml")[0] == 2
    assert nasflow("space", NB201, "--set", f"data.path={tmp_path / 'no'}")[0] == 4


# `nasflow check` on spaces that cannot be

SPACE = """\
name: impossible
data: {{source: digits, train_limit: 240}}
space:
  stem: {{width: 8}}
  cells:
    body:
      nodes: {nodes}
      operations: {operations}
{cell}
  stages:
    - {{cell: body, width: {width}}}
{rest}
search: {{trials: 16, budget: {{min: 1, max: 3, eta: 3}}}}
"""


def written(folder: Path, **parts: str) -> Path:
    """An experiment with these parts of its space."""
    usual = {"nodes": "[1, 2]", "operations": "[conv3x3, skip]", "cell": "", "width": "8", "rest": ""}
    path = folder / "impossible.yaml"
    path.write_text(SPACE.format(**{**usual, **parts}), encoding="utf-8")
    return path


IMPOSSIBLE: dict[str, tuple[dict[str, str], list[str]]] = {
    "a constraint that none satisfies": (
        {"rest": "  constraints: {params: {max: 100}}"},
        ["space.constraints: none of 200 sampled members satisfies them", "the nearest miss: params", "above 100"],
    ),
    "fewer edges than any member has": (
        {"nodes": "3", "operations": "[conv3x3, conv1x1]", "cell": "      max_edges: 1"},
        ["space.constraints: none of 200", "cell 'body' has", "edges, and at most 1 are allowed"],
    ),
    "an operation of vectors on images": (
        {"operations": "[conv3x3, linear]"},
        ["space.cells.body.operations: 'linear' cannot be applied to images"],
    ),
    "an even kernel": (
        {"operations": "[{conv: {kernel: [3, 4]}}, skip]"},
        ["space.cells.body.operations: conv.kernel: a kernel of 4 does not keep the resolution"],
    ),
    "a near operation": (
        {"operations": "[conv3x3, skipp]"},
        [":8:29:", "unknown operation 'skipp'; did you mean 'skip'"],
    ),
    "a near argument": (
        {"operations": "[{conv: {kernal: 3}}, skip]"},
        [":8:28:", "'conv' has no argument 'kernal'; did you mean 'kernel'"],
    ),
    "a near cell": (
        {"rest": "    - {cell: bodi, width: 8}"},
        ["impossible.yaml:12:", "'bodi'; did you mean 'body'"],
    ),
    "a near key": ({"cell": "      max_edge: 3"}, [":9:7:", "unknown key; did you mean 'max_edges'"]),
    "a near activation": (
        {"rest": "  activation: {choices: [relu, gelo]}"},
        [":12:32:", "unknown activation 'gelo'; did you mean 'gelu'"],
    ),
    "a near pattern of a half": (
        {"rest": "  halves: {structure: [body.1.operatio]}"},
        ["space.halves.structure", "did you mean 'body.1.operation'"],
    ),
    "a width that is no number of channels": ({"width": "[0, 8]"}, [":11:20:", "whole numbers of at least 1"]),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_check_refuses_a_space_that_cannot_be_and_says_where_and_what_is_near(
    case: str, nasflow: Call, tmp_path: Path
) -> None:
    parts, words = IMPOSSIBLE[case]

    code, out, err = nasflow("check", written(tmp_path, **parts))

    assert (code, out) == (2, "")
    assert "Traceback" not in err
    for word in words:
        assert word in err, err


def test_an_operation_of_images_on_vectors_is_refused_with_those_that_fit(nasflow: Call, tmp_path: Path) -> None:
    rows = "\n".join(f"{n},{n * n % 7},{'ab'[n % 2]}" for n in range(40))
    (tmp_path / "table.csv").write_text(f"x,y,kind\n{rows}\n")
    path = written(tmp_path)
    text = path.read_text().replace("source: digits, train_limit: 240", "source: csv, path: table.csv, target: kind")
    path.write_text(text)

    code, _, err = nasflow("check", path)

    assert code == 2
    assert "space.stem.operation: 'conv3x3' cannot be applied to vectors" in err
    assert "these can: linear, none, skip" in err


def test_the_space_that_the_others_are_changed_from_is_possible(nasflow: Call, tmp_path: Path) -> None:
    code, out, err = nasflow("check", written(tmp_path))

    assert code == 0, err
    assert "the experiment is valid" in out


def test_every_mistake_of_a_space_is_told_at_once(nasflow: Call, tmp_path: Path) -> None:
    path = written(tmp_path, operations="[conv3x, skipp]", cell="      max_edge: 3", width="0")

    code, _, err = nasflow("check", path)

    assert code == 2
    for word in ("'conv3x3'", "'skip'", "'max_edges'", "at least 1"):
        assert word in err
