"""Settings: read at use, and a wrong value names itself."""

from __future__ import annotations

import pytest

from mlflow_plugins_pack import settings as config
from mlflow_plugins_pack.errors import ConfigurationError


def test_each_setting_has_a_unique_name_with_the_prefix_and_a_meaning() -> None:
    settings = config.all_settings()
    names = [setting.name for setting in settings]
    assert len(set(names)) == len(names)
    assert all(name.startswith("MLFLOW_PACK_") for name in names)
    assert all(setting.meaning.endswith(".") for setting in settings)


def test_unset_and_empty_give_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert config.LINEAGE_ENABLED.get() is True
    monkeypatch.setenv("MLFLOW_PACK_LINEAGE_ENABLED", " ")
    assert config.LINEAGE_ENABLED.get() is True


@pytest.mark.parametrize(("text", "value"), [("false", False), ("0", False), ("On", True)])
def test_switches(monkeypatch: pytest.MonkeyPatch, text: str, value: bool) -> None:
    monkeypatch.setenv("MLFLOW_PACK_LINEAGE_ENABLED", text)
    assert config.LINEAGE_ENABLED.get() is value


def test_a_wrong_value_names_the_setting_and_what_was_expected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_PACK_LINEAGE_ENABLED", "maybe")
    with pytest.raises(ConfigurationError, match=r"MLFLOW_PACK_LINEAGE_ENABLED.*'maybe'.*expected"):
        config.LINEAGE_ENABLED.get()


@pytest.mark.parametrize(
    ("text", "seconds"), [("2s", 2), ("15m", 900), ("24h", 86400), ("14d", 1209600)]
)
def test_durations(text: str, seconds: int) -> None:
    assert config.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "m", "-1s", "1w", "1.5h"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="such as 15m"):
        config.parse_duration(text)
