"""Keeps the outputs of a tier in DVC while another tier is chosen.

DVC tracks the outputs that dvc.yaml names: those of the chosen tier. Outputs that are no longer named, it deletes (`dvc
checkout`, `dvc pull`, `dvc exp run`) or drops from its cache (`dvc gc`). So each tier lists its outputs in
``tiers/<tier>/outs.dvc``. DVC refuses outputs that are named twice, but it does not read folders that are themselves an
output of a stage, and ``tiers/<tier>`` is one while its tier is chosen.
"""

from __future__ import annotations

from pathlib import Path

from study.config import tiers

LOCK, FOLDER = Path("dvc.lock"), Path("tiers")


def note(name: str) -> None:
    """Write ``tiers/<name>/outs.dvc``: the tier's existing outputs, with their records from dvc.lock.

    Each stage calls this, because any stage may be the last before another tier is chosen. DVC has already removed the
    outputs that it will make again.
    """
    text = LOCK.read_text(encoding="utf-8") if LOCK.is_file() else ""
    locked = (tiers.content(text) or {}).get("stages", {})  # stage@tier -> its dependencies and outputs
    own = [found for stage, found in locked.items() if stage.partition("@")[2] == name]
    made = {out["path"]: out for found in own for out in found.get("outs", ())}  # once, even if a stage was renamed
    folder = FOLDER / name
    outs = [out for out in made.values() if Path(out["path"]) != folder and Path(out["path"]).exists()]
    folder.mkdir(parents=True, exist_ok=True)
    # In DVC's own format: DVC rewrites the file when an experiment starts, and this output must not change by that.
    (folder / "outs.dvc").write_text(tiers.text({"wdir": "../..", "outs": outs}), encoding="utf-8")
