"""Every fault of a space file is named with the file and the line, or with the override."""

import re

import pytest

from hkbench.errors import UsageError
from hkbench.spaces.file import load_space

WHOLE = """\
name: lines
about: a test

parameters:
  model: {type: categorical, choices: [household, household_s]}
  loss:
    type: categorical
    choices:
      - kd
      - hard
  temperature:
    type: float
    low: 1
    high: 10
    when: {loss: kd}
  alpha: {type: float, low: 0, high: 1, when: {loss: kd}}

objectives:
  accuracy: maximize
  artifact_bytes: minimize

constraints:
  artifact_bytes:
    at_most: 2000000

start_with:
  - name: first
    source: a test
    params:
      model: household
      loss: hard
  - {name: second, source: a test, each: {loss: [hard, kd]}, params: {model: household}}

schedule:
  trials: 4

teacher:
  model: efficientnet_lite0
  optimizer: sgd

augmentation: {flip: 0.5}

defaults:
  batch_size: 32
  schedule: cosine
"""


def written(tmp_path, *changes):
    text = WHOLE
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = tmp_path / "lines.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_file_without_a_fault_is_a_space(tmp_path):
    assert load_space(written(tmp_path)).name == "lines"


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("about: a test", "abuot: a test", 2, "no key 'abuot'. Did you mean 'about'"),
        ("about: a test\n", "", 1, "at 'about': Field required"),
        ("household_s]}", "household_s, household]}", 5, "the choice 'household' is there twice"),
        ("household_s]}", "household_x]}", 5, "no model 'household_x'. Did you mean 'household_"),
        ("  loss:\n", "  los:\n", 6, "no trial parameter 'los'. Did you mean 'loss'"),
        ("      - hard\n", "      - hard\n      - hardd\n", 11, "no loss 'hardd'. Did you mean 'hard'"),
        ("    type: float", "    type: flaot", 11, "no type 'flaot'. Did you mean 'float'"),
        ("    low: 1\n", "    low: one\n", 13, "valid number.*, found 'one'"),
        ("    low: 1\n", "    low: .nan\n", 13, "finite number"),
        ("    low: 1\n", "    low: 11\n", 11, "low is 11, above high, 10"),
        ("    low: 1\n", "    low: {of: alhpa}\n", 13, "to follow: 'alhpa'. Did you mean 'alpha'"),
        ("    low: 1\n", "    low: {of: alpha, tmes: 2}\n", 13, "no key 'tmes'. Did you mean 'times'"),
        ("    high: 10\n", "    high: 10\n    stepp: 1\n", 15, "no key 'stepp'. Did you mean 'step'"),
        ("    high: 10\n", "    high: 10\n    default: 11\n", 15, "'temperature' for its default: '11'"),
        (
            "    when: {loss: kd}\n",
            "    when:\n      loss:\n      - kd\n      - dk\n",
            18,
            "'dk'. Did you mean 'kd'",
        ),
        ("    when: {loss: kd}\n", "    when:\n      lss: kd\n", 16, "depend on: 'lss'. Did you mean 'loss'"),
        ("accuracy: maximize", "acuracy: maximize", 19, "Did you mean 'accuracy'"),
        ("accuracy: maximize", "accuracy: maximise", 19, "no value 'maximise'. Did you mean 'maximize'"),
        ("    at_most: 2000000", "    at_mots: 2000000", 24, "no key 'at_mots'. Did you mean 'at_most'"),
        (
            "    at_most: 2000000",
            "    at_most: {of: teachr}",
            24,
            "no value 'teachr'. Did you mean 'teacher'",
        ),
        (
            "    at_most: 2000000",
            "    at_most: {of: teacher, plu: 1}",
            24,
            "no key 'plu'. Did you mean 'plus'",
        ),
        ("    at_most: 2000000", "    at_most: 1\n    at_least: 2", 23, "at_least is 2, above at_most, 1"),
        ("  artifact_bytes:\n", "  artifact_byte:\n", 23, "Did you mean 'artifact_bytes'"),
        ("      loss: hard\n", "      loss: hard\n      alpha: 0.5\n", 32, "conditions it doesn't meet"),
        ("      loss: hard\n", "      loss: hadr\n", 31, "Did you mean 'hard'"),
        ("      loss: hard\n", "      lss: hard\n", 31, "Did you mean 'loss'"),
        ("each: {loss: [hard, kd]}", "\n     each: {loss: [hard, hardly]}", 33, "no value of 'loss'"),
        ("  trials: 4", "  trails: 4", 35, "no key 'trails'. Did you mean 'trials'"),
        ("  trials: 4", "  trials: 0", 35, "greater than or equal to 1, found 0"),
        (
            "  model: efficientnet_lite0",
            "  model: efficientnet_lite9",
            38,
            "Did you mean 'efficientnet_lite0'",
        ),
        ("  optimizer: sgd", "  optimizer: sdg", 39, "no optimizer 'sdg'. Did you mean 'sgd'"),
        ("{flip: 0.5}", "{flop: 0.5}", 41, "no key 'flop'. Did you mean 'flip'"),
        ("  batch_size: 32", "  batchsize: 32", 44, "Did you mean 'batch_size'"),
        ("  schedule: cosine", "  schedule: cosin", 45, "no schedule 'cosin'. Did you mean 'cosine'"),
        ("  batch_size: 32", "  batch_size: 1", 44, "batch_size"),
        (
            "schedule:\n  trials: 4",
            "schedule:\n  trials: 4\n  trials: 5",
            36,
            "'trials' is there twice, it is in line 35",
        ),
        ("defaults:\n", "name: again\ndefaults:\n", 43, "'name' is there twice, it is in line 1 already"),
        ("{flip: 0.5}", "{flip: [0.5}", 41, "no YAML that can be read"),
        ("name: lines", "name: li\x07nes", 1, "no YAML that can be read"),
    ],
)
def test_a_fault_is_named_with_its_line(tmp_path, old, new, line, message):
    path = written(tmp_path, (old, new)) if WHOLE.count(old) == 1 else None
    if path is None:  # the first of several
        target = tmp_path / "lines.yaml"
        target.write_text(WHOLE.replace(old, new, 1), encoding="utf-8")
        path = str(target)
    with pytest.raises(UsageError, match=message) as raised:
        load_space(path)
    assert str(raised.value).startswith(f"{path}:{line}"), raised.value
    assert not re.match(r"\d", str(raised.value).removeprefix(f"{path}:{line}"))


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("{model: household_s, loss: kd, depth: 2}", "leave no value of 'model'"),
        ("{depth: 4}", "'seed' is asked for where 'depth' is 4, which it can't be: it lies in \\[1, 3\\]"),
        ("{loss: dkd}", "no value of 'loss' for 'seed' to depend on: 'dkd'. Did you mean 'kd'"),
        ("{loss: []}", "leave no value of 'loss'"),
    ],
)
def test_conditions_that_can_never_hold_are_refused(tmp_path, condition, message):
    nested = (
        "  depth: {type: int, low: 1, high: 3, when: {model: household}}\n"
        f"  seed: {{type: int, low: 0, high: 3, when: {condition}}}\n"
    )
    path = written(tmp_path, ("  alpha: {type", nested + "  alpha: {type"))
    with pytest.raises(UsageError, match=message) as raised:
        load_space(path)
    assert str(raised.value).startswith(f"{path}:17: ")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("schedule.trials", "0", "greater than or equal to 1"),
        ("schedule.trails", "5", "no key 'trails'. Did you mean 'trials'"),
        ("teacher.model", "efficientnet_lite9", "Did you mean 'efficientnet_lite0'"),
        ("parameters.temperature.low", "20", "low is 20, above high, 10"),
        ("parameters.loss.choices", "[kd, hard, hadr]", "no loss 'hadr'"),
        ("objectives", "{acuracy: maximize}", "Did you mean 'accuracy'"),
        ("defaults.optimizer", "adamm", "no optimizer 'adamm'"),
        ("start_with", "[{name: a, source: b, params: {loss: hadr}}]", "Did you mean 'hard'"),
        ("augmentation", "{flip: 0.1, flip: 0.2}", "the key 'flip' is there twice"),
        ("name.first", "x", "'name' is a value, not a group of keys"),
    ],
)
def test_a_fault_of_an_override_names_the_override(tmp_path, key, value, message):
    overrides = {"schedule.max_epochs": "2", key: value, "schedule.grace": "1"}
    with pytest.raises(UsageError, match=message) as raised:
        load_space(written(tmp_path), overrides)
    assert str(raised.value).startswith(f"--set {key}: ")


def test_a_fault_of_the_file_keeps_its_line_under_overrides_of_other_keys(tmp_path):
    path = written(tmp_path, ("  optimizer: sgd", "  optimizer: sdg"))
    with pytest.raises(UsageError, match="no optimizer 'sdg'") as raised:
        load_space(path, {"schedule.trials": "3", "teacher.max_epochs": "1"})
    assert str(raised.value).startswith(f"{path}:39: ")


def test_a_file_that_is_not_utf8_names_the_line(tmp_path):
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"name: a\nabout: caf\xe9\n")
    with pytest.raises(UsageError, match=r"latin\.yaml:2 is no YAML that can be read: it is not UTF-8"):
        load_space(str(path))


@pytest.mark.parametrize(("text", "found"), [("", "NoneType"), ("- a\n", "list"), ("\n\nword\n", "str")])
def test_a_file_without_keys_is_refused(tmp_path, text, found):
    path = tmp_path / "other.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=rf"other\.yaml:\d: a space holds keys .*, found {found}"):
        load_space(str(path))


def test_anchors_that_hold_themselves_are_refused_in_a_line(tmp_path):
    path = tmp_path / "loop.yaml"
    path.write_text("name: x\nabout: y\nparameters: &all\n  loss: *all\nobjectives: {accuracy: maximize}\n")
    with pytest.raises(UsageError, match=r"loop\.yaml:\d"):
        load_space(str(path))


def test_anchors_and_merges_may_be_used(tmp_path):
    shared = ("  temperature:\n    type: float\n", "  temperature:\n    <<: {type: float, log: true}\n")
    space = load_space(written(tmp_path, shared))
    assert space.parameters["temperature"].log
