"""What a tier left, for DVC while another tier is chosen.

DVC knows the outputs that dvc.yaml names, which are those of the chosen tier; what it made or fetched and no longer
finds named, it removes (`dvc checkout`, `dvc pull`, `dvc exp run`), or drops from its cache (`dvc gc`). So each tier
names its own in ``tiers/<tier>/outs.dvc``. Beside dvc.yaml's they would be named twice, which DVC refuses, but it reads
no folder that is an output of a stage: ``tiers/<tier>`` is one while its tier is chosen.
"""

from __future__ import annotations

from pathlib import Path

from study.config import tiers

LOCK, FOLDER = Path("dvc.lock"), Path("tiers")


def note(name: str) -> None:
    """Write ``tiers/<name>/outs.dvc``: the tier's outputs that stand here, with what dvc.lock knows of them.

    Each stage calls it, as any may be the last before another tier is chosen; DVC has removed what it is to make anew.
    """
    text = LOCK.read_text(encoding="utf-8") if LOCK.is_file() else ""
    locked = (tiers.content(text) or {}).get("stages", {})  # stage@tier -> what it read and made
    own = [found for stage, found in locked.items() if stage.partition("@")[2] == name]
    made = {out["path"]: out for found in own for out in found.get("outs", ())}  # a stage may have had another name
    folder = FOLDER / name
    outs = [out for out in made.values() if Path(out["path"]) != folder and Path(out["path"]).exists()]
    folder.mkdir(parents=True, exist_ok=True)
    # In DVC's own form: it writes the file again when an experiment begins, and what is an output must not change so.
    (folder / "outs.dvc").write_text(tiers.text({"wdir": "../..", "outs": outs}), encoding="utf-8")
