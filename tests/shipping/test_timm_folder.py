import json
import subprocess
import sys

import pytest
import timm
import torch
from timm.data import create_transform, resolve_model_data_config

from hkbench.errors import HkbenchError, UsageError
from hkbench.models.architecture import Architecture
from hkbench.models.build import build
from hkbench.models.in_timm import ARGUMENT, NAME, TimmClassifier
from hkbench.shipping import timm_folder
from hkbench.shipping.timm_folder import REQUIRES, write_timm_folder
from hkbench.store.records import ModelRecord

LABELS = ("чашка", "towel", "1 l kettle", "lamp", "chair")
SIZE = 64

OWN = {
    "mobilenetv4_conv_small_050": "mobilenetv4_conv_small_050",
    "mobilenetv3_small_100": "mobilenetv3_small_100",
    "efficientnet_lite0": "tf_efficientnet_lite0",
    "densenet121": "densenet121",
    "timm/resnet18.a1_in1k": "resnet18",
    "timm/test_vit": "test_vit",
    "timm/test_convnext": "test_convnext",
}
"""Model → what timm calls it, unchanged."""

OTHER = (
    Architecture(model="household_s", image_size=SIZE),
    Architecture(model="household", image_size=SIZE, block="fire", classifier="conv", activation="gelu"),
    Architecture(model="baseline_cnn", image_size=SIZE),
    Architecture(model="efficientnet_lite0_cut2", image_size=SIZE),
    Architecture(model="squeezenet1_1", image_size=SIZE),
    Architecture(model="torchvision/resnet18", image_size=SIZE),
    Architecture(model="timm/resnet18", image_size=SIZE, cut=2),
    Architecture(model="timm/test_vit", image_size=SIZE, cut=1),
    Architecture(model="mobilenetv4_conv_small_050", image_size=SIZE, activation="prelu"),
    Architecture(model="mobilenetv4_conv_small_050", image_size=SIZE, head_layers=1, head_width=32),
)


def record_of(architecture: Architecture, **changes) -> ModelRecord:
    return ModelRecord(
        **{
            "id": "trial-003",
            "role": "student",
            "model": architecture.label,
            "image_size": architecture.image_size,
            "architecture": architecture.resolved().model_dump(exclude_none=True),
            "parameters": 1,
            "sha256": "",
            "size_bytes": 1,
            **changes,
        }
    )


def pictures_of(size: int) -> torch.Tensor:
    return torch.rand(4, 3, size, size, generator=torch.Generator().manual_seed(1))


def trained(architecture: Architecture):
    """Return a network whose batch-norm statistics are no longer those of a new one."""
    network = build(architecture, classes=len(LABELS), seed=0)
    with torch.no_grad():
        for _ in range(3):
            network(pictures_of(architecture.image_size))
    return network.eval()


def written(folder, architecture: Architecture, **changes):
    """Write a network's folder and return the network and its config.json."""
    network = trained(architecture)
    names = write_timm_folder(folder, network, record_of(architecture, **changes), LABELS)
    assert (
        sorted(names)
        == sorted(path.name for path in folder.iterdir())
        == ["config.json", "model.safetensors"]
    )
    return network, json.loads((folder / "config.json").read_text(encoding="utf-8"))


def opened(folder, **arguments):
    return timm.create_model(f"local-dir:{folder}", pretrained=True, **arguments).eval()


def normalised(pictures, model):
    mean, std = (torch.tensor(model.pretrained_cfg[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    return (pictures - mean) / std


def assert_same_logits(model, network, size: int) -> None:
    pictures = pictures_of(size)
    with torch.inference_mode():
        expected = network(pictures)
        found = model(normalised(pictures, model))
    assert expected.std() > 0
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", OWN)
def test_a_network_of_timm_s_goes_by_timm_s_name(name: str, tmp_path):
    network, config = written(tmp_path, Architecture(model=name, image_size=SIZE))
    assert config["architecture"] == OWN[name]
    assert "requires" not in config
    model = opened(tmp_path)
    assert type(model).__module__.startswith("timm.")
    assert model.num_features == config["num_features"]
    assert_same_logits(model, network, SIZE)


@pytest.mark.slow
def test_an_auxiliary_head_is_left_out(tmp_path):
    network, config = written(tmp_path, Architecture(model="inception_v3", image_size=299))
    assert network.auxiliary is not None
    assert config["architecture"] == "inception_v3"
    assert_same_logits(opened(tmp_path), network, 299)


@pytest.mark.parametrize("architecture", OTHER, ids=lambda each: each.label)
def test_any_other_network_goes_by_hkbench_s_name(architecture: Architecture, tmp_path):
    network, config = written(tmp_path, architecture)
    assert config["architecture"] == NAME
    assert config["requires"] == REQUIRES
    assert Architecture(**config["model_args"][ARGUMENT]) == architecture.resolved()
    model = opened(tmp_path)
    assert isinstance(model, TimmClassifier)
    assert model.num_features == config["num_features"]
    assert_same_logits(model, network, SIZE)


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_timm_alone_opens_a_network_of_its_own(tmp_path):
    network, _ = written(tmp_path / "folder", Architecture(model="timm/test_vit", image_size=SIZE))
    code = """
import sys
import timm
import torch

folder, pictures, logits = sys.argv[1:]
model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
with torch.inference_mode():
    torch.save(model(torch.load(pictures)), logits)
assert not any(name.startswith("hkbench") for name in sys.modules)
"""
    pictures = pictures_of(SIZE)
    torch.save(network.normalise(pictures), tmp_path / "pictures.pt")
    paths = [str(tmp_path / name) for name in ("folder", "pictures.pt", "logits.pt")]
    done = run_python(code, *paths)
    assert done.returncode == 0, done.stderr
    with torch.inference_mode():
        torch.testing.assert_close(
            torch.load(tmp_path / "logits.pt"), network(pictures), rtol=1e-4, atol=1e-5
        )


def test_any_other_needs_the_one_import_that_its_config_names(tmp_path):
    _, config = written(tmp_path, Architecture(model="household_s", image_size=SIZE))
    code = "import sys, timm; timm.create_model(f'local-dir:{sys.argv[1]}', pretrained=True)"
    alone = run_python(code, str(tmp_path))
    assert alone.returncode == 1
    assert f"Unknown model ({NAME})" in alone.stderr
    done = run_python(f"{config['requires']}; {code}", str(tmp_path))
    assert done.returncode == 0, done.stderr


def test_config_tells_labels_and_preprocessing(tmp_path):
    licences = {"pictures": "CC-BY-3.0", "code": "Apache-2.0"}
    _, config = written(
        tmp_path, Architecture(model="efficientnet_lite0", image_size=SIZE), licences=licences
    )
    assert config["label_names"] == list(LABELS)
    assert config["num_classes"] == len(LABELS)
    settings = config["pretrained_cfg"]
    assert settings["license"] == "Apache-2.0, CC-BY-3.0"
    assert settings["mean"] == [pytest.approx(127 / 255)] * 3
    data = resolve_model_data_config(opened(tmp_path))
    assert list(data["input_size"]) == [3, SIZE, SIZE]
    assert (data["interpolation"], data["crop_mode"], data["crop_pct"]) == ("bicubic", "center", 1.0)
    assert list(data["std"]) == settings["std"]
    assert opened(tmp_path).pretrained_cfg["label_names"] == list(LABELS)
    assert create_transform(**data, is_training=False) is not None


def test_mean_is_written_as_it_was_published(tmp_path):
    _, config = written(tmp_path, Architecture(model="household_s", image_size=SIZE))
    assert config["pretrained_cfg"]["mean"] == [0.485, 0.456, 0.406]
    assert config["pretrained_cfg"]["license"] is None


def test_the_network_and_torch_s_generator_stay_as_they_are(tmp_path):
    architecture = Architecture(model="mobilenetv4_conv_small_050", image_size=SIZE)
    network = build(architecture, classes=len(LABELS), seed=0)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.random.get_rng_state()
    write_timm_folder(tmp_path, network, record_of(architecture), LABELS)
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("name", ["household_s", "squeezenet1_1", "efficientnet_lite0_cut2"])
def test_it_has_timm_s_manners(name: str, tmp_path):
    written(tmp_path, Architecture(model=name, image_size=SIZE))
    model = opened(tmp_path)
    assert model.default_cfg is model.pretrained_cfg
    pictures = normalised(pictures_of(SIZE), model)
    with torch.inference_mode():
        features = model.forward_features(pictures)
        assert features.shape[:2] == (4, model.num_features)
        assert torch.equal(model.forward_head(features), model(pictures))
        hidden = model.forward_head(features, pre_logits=True)
    assert hidden.shape == (4, model.head_hidden_size)
    assert model.get_classifier() is model.get_submodule(model.classifier_name)
    model.reset_classifier(0)
    with torch.inference_mode():
        assert torch.equal(model(pictures), hidden)
    model.reset_classifier(7)
    assert model.num_classes == 7
    assert model(pictures).shape == (4, 7)
    with pytest.raises(UsageError, match="global_pool"):
        model.reset_classifier(7, "max")


@pytest.mark.parametrize("name", ["household_s", "squeezenet1_1", "mobilenetv4_conv_small_050"])
@pytest.mark.parametrize("classes", [0, 1, 3])
def test_it_opens_for_other_classes(name: str, classes: int, tmp_path):
    written(tmp_path, Architecture(model=name, image_size=SIZE))
    model = opened(tmp_path, num_classes=classes)
    assert model.num_classes == classes
    pictures = pictures_of(SIZE)
    with torch.inference_mode():
        assert len(model(normalised(pictures, model))) == 4
        whole = opened(tmp_path).forward_features(normalised(pictures, model))
        assert torch.equal(model.forward_features(normalised(pictures, model)), whole)


def test_dropout_can_be_asked_for(tmp_path):
    written(tmp_path, Architecture(model="household_s", image_size=SIZE))
    model = opened(tmp_path, drop_rate=0.5)
    assert [module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)] == [0.5]


def test_what_timm_s_model_can_t_do_is_said(tmp_path):
    written(tmp_path, Architecture(model="household_s", image_size=SIZE))
    with pytest.raises(UsageError, match="channels, found in_chans 1"):
        opened(tmp_path, in_chans=1)
    with pytest.raises(UsageError, match="forward_features"):
        opened(tmp_path, features_only=True)
    with pytest.raises(UsageError, match="local-dir:FOLDER"):
        timm.create_model(NAME)
    with pytest.raises(UsageError, match="isn't a network of this hkbench: wings"):
        TimmClassifier(hkbench_architecture={"model": "household_s", "wings": 2}, num_classes=3)


def test_what_can_t_be_written_is_named(tmp_path):
    architecture = Architecture(model="household_s", image_size=SIZE)
    network = trained(architecture)
    record = record_of(architecture)
    with pytest.raises(UsageError, match="5 logits, found 2 labels"):
        write_timm_folder(tmp_path, network, record, LABELS[:2])
    with pytest.raises(UsageError, match="doesn't tell the structure of household_s"):
        write_timm_folder(tmp_path, network, record.model_copy(update={"architecture": {}}), LABELS)
    winged = record.model_copy(update={"architecture": {"model": "household_s", "wings": 2}})
    with pytest.raises(UsageError, match=r"this hkbench can't build(?s:.)*wings"):
        write_timm_folder(tmp_path, network, winged, LABELS)
    other = record_of(Architecture(model="household_m", image_size=SIZE))
    with pytest.raises(UsageError, match=r"tells of household_m .*tensors are others: body\.0"):
        write_timm_folder(tmp_path, network, other, LABELS)
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_isn_t_the_record_s_is_refused(tmp_path):
    """Its tensors have the names and shapes of the record's, but it computes something else."""
    plain = Architecture(model="mobilenetv4_conv_small_050", image_size=SIZE)
    network = trained(plain.model_copy(update={"activation": "tanh"}))
    with pytest.raises(HkbenchError, match=r"trial-003 \(mobilenetv4_conv_small_050\) .* other logits"):
        write_timm_folder(tmp_path, network, record_of(plain), LABELS)
    assert list(tmp_path.iterdir()) == []


def test_timm_s_name_alone_isn_t_believed(tmp_path, monkeypatch):
    """timm's efficientnet_lite0 has the tensors of tf_efficientnet_lite0, but pads otherwise."""
    tried = []
    same = timm_folder._gives_the_same

    def noted(form, *others):
        tried.append((form.name, same(form, *others)))
        return tried[-1][1]

    monkeypatch.setattr(timm_folder, "_gives_the_same", noted)
    written(tmp_path, Architecture(model="efficientnet_lite0", image_size=SIZE))
    assert tried == [("efficientnet_lite0", False), ("tf_efficientnet_lite0", True)]
