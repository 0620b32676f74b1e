"""`hkbench.search` from Python: the same search, its study, and where else it can be looked at."""

import subprocess
import sys
import threading

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna_dashboard import wsgi
from search_fakes import Heard, draw_pictures, write_space
from tensorboard_events import scalars_of

import hkbench
from hkbench.driver.plan import LOGS
from hkbench.errors import UsageError
from hkbench.runs.planning import planned

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A search from a thread that isn't the main one, as in a notebook or a server, and what it told."""
    folder = tmp_path_factory.mktemp("api")
    heard, found = Heard(), []

    def run():
        found.append(
            hkbench.search(
                str(write_space(folder)),
                draw_pictures(folder / "pictures", each=12),
                out=folder / "run",
                trials=2,
                overrides={"schedule.max_epochs": 1},
                listener=heard,
                logs=["tensorboard"],
                sampler="random",
                max_concurrent=1,
            )
        )

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0], heard


def test_a_search_returns_its_study(made):
    study, heard = made
    trials = study.trials()
    assert len(heard.ended) == len(trials) >= 2
    assert set(trials.loc[trials["on_frontier"]].index) == set(study.frontier().index)
    assert trials["state"].eq("COMPLETE").any()
    assert {"params_model", "accuracy", "artifact_bytes", "latency_ms"} <= set(trials.columns)
    assert study.models()["size_bytes"].gt(0).all()
    assert study.findings() is not None
    assert study.report().read_text().startswith("<!doctype html>")
    assert hkbench.Study.open(study.path) == study


def test_its_optuna_study_holds_the_same_values(made):
    study, _ = made
    trials, found = study.trials(), study.optuna()
    assert found.metric_names == ["accuracy", "artifact_bytes", "latency_ms"]
    for trial in found.get_trials(states=[optuna.trial.TrialState.COMPLETE]):
        row = trials.loc[trial.number]
        assert trial.values == [row[name] for name in study.objectives]


def test_each_trial_is_in_tensorboard(made):
    study, _ = made
    folders = sorted((study.path / LOGS["tensorboard"]).iterdir())
    assert [folder.name for folder in folders[:2]] == ["trial-0000", "trial-0001"]
    assert scalars_of(folders[0])["ray/tune/accuracy"] == pytest.approx([study.trials().loc[0, "accuracy"]])


def test_the_dashboard_opens_it(made):
    study, _ = made
    app = wsgi(JournalStorage(JournalFileBackend(str(study.journal))))
    status, body = [], b""
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/api/studies", "SERVER_NAME": "x", "SERVER_PORT": "1"}
    body = b"".join(app(environ, lambda line, headers, *_: status.append(line)))
    assert status == ["200 OK"]
    assert b'"study_name": "tiny"' in body


def test_flags_that_there_are_not_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"colour.*hkbench search --help"):
        hkbench.search("distill", colour="blue", out=tmp_path / "run")
    with pytest.raises(UsageError, match="wandb"):
        hkbench.search("distill", logs=["wandb"], out=tmp_path / "run")


def test_the_package_is_imported_without_torch_and_ray():
    code = "import hkbench, sys; assert not {'torch', 'ray'} & sys.modules.keys(); hkbench.nothing"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "has no attribute 'nothing'" in done.stderr


def test_arguments_are_taken_as_one_would_write_them_in_python(tmp_path):
    path = write_space(tmp_path)
    costs = tmp_path / "costs.yaml"
    costs.write_text("default: 1")
    plan = planned(path, "goods69", out=tmp_path / "run", costs=str(costs), logs="tensorboard")
    assert (plan.costs, plan.logs) == (costs, ("tensorboard",))
    with pytest.raises(UsageError, match=r"schedule.max_epochs can't be set"):
        planned(plan.space, "goods69", out=tmp_path / "run", epochs=3)
