"""What a tier left, for DVC while another tier is chosen."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from study.config import kept_outputs

# As a stage left it under the name that it had before, and as it stands now.
LOCK = {
    "stages": {
        "examine@smoke": {"outs": [{"path": "reports/smoke/examined", "md5": "old.dir"}]},
        "evaluate@smoke": {"outs": [{"path": "reports/smoke/examined", "md5": "new.dir"}]},
        "score@smoke": {"outs": [{"path": "reports/smoke/scores.csv", "md5": "a"}, {"path": "tiers/smoke"}]},
        "score@shapes": {"outs": [{"path": "reports/shapes/scores.csv", "md5": "b"}]},
    }
}


def test_each_existing_output_is_named_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump(LOCK, sort_keys=False))
    (tmp_path / "reports" / "smoke" / "examined").mkdir(parents=True)
    kept_outputs.note("smoke")
    kept = yaml.safe_load((tmp_path / "tiers" / "smoke" / "outs.dvc").read_text())
    assert kept["outs"] == [{"path": "reports/smoke/examined", "md5": "new.dir"}], "scores.csv is not there"
