"""``dataset=<name>`` composes, becomes typed settings, and shows the defaults that the code has."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from align import registry
from align.config import build, field_types
from align.errors import ConfigError
from align.registry import component
from align.settings import DatasetSettings

CONF = Path(__file__).resolve().parents[2] / "conf"
NAMES = [name for name in registry.known("dataset") if name != "toy"]
OFFERS = {
    "unpaired": "unpaired",
    **dict.fromkeys(("demonstrations", "alpaca_eval_outputs"), "demonstrations"),
}


def composed(name, tmp_path, *overrides):
    (tmp_path / "config.yaml").write_text(
        f"defaults: [_self_, {{dataset: {name}}}]\nhydra: {{searchpath: ['file://{CONF}']}}\n"
    )
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        config = compose("config", overrides=list(overrides))
    return OmegaConf.to_container(config, resolve=True)["dataset"]


@pytest.mark.parametrize("name", NAMES)
def test_a_yaml_lists_every_field_with_its_default(name, tmp_path):
    values = composed(name, tmp_path)
    assert values.pop("name") == name
    own = dataclasses.fields(component("dataset", name))
    common = [field for field in dataclasses.fields(DatasetSettings) if field.name != "source"]
    defaults = {
        field.name: "???" if field.default is dataclasses.MISSING else field.default
        for field in (*own, *common)
    }
    assert {name: tuple(one) if isinstance(one, list) else one for name, one in values.items()} == defaults


@pytest.mark.parametrize("name", NAMES)
def test_it_becomes_settings(name, tmp_path):
    values = composed(name, tmp_path, "dataset.path=a.jsonl", "dataset.bad_rows=error")
    dataset = build(DatasetSettings, values, "dataset")
    assert type(dataset.source) is component("dataset", name)
    assert (dataset.source.path, dataset.bad_rows) == ("a.jsonl", "error")
    assert dataset.source.offers == OFFERS.get(name, "pairs")


def test_a_misspelt_option_names_the_near_one(tmp_path):
    values = composed("preference", tmp_path, "dataset.path=a.jsonl", "+dataset.bad_row=error")
    with pytest.raises(
        ConfigError, match=r"dataset\.bad_row: there is no such option\. Did you mean 'bad_rows'"
    ):
        build(DatasetSettings, values, "dataset")


def test_fields_are_typed_and_modules_are_light():
    """Checking a config imports every source: none may bring a heavy library along."""
    script = "; ".join(
        [
            "import sys",
            *(f"import data.{name}" for name in NAMES),
            "print([name for name in ('torch', 'datasets', 'pyarrow', 'numpy') if name in sys.modules])",
        ]
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    for name in NAMES:
        assert field_types(component("dataset", name))["path"] is str
