"""Compare the keys of every tier's trainings and evaluations in two commits, to see which ones a code change renames.

    python -m benchmarks.keys v1 HEAD

No data are read: each setting gets a made-up fingerprint, the same in both commits. The exit status is 1 if keys
differ.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = """
import hashlib, json
try:
    from study import plan, tier
except ImportError:
    from study.config import tiers as tier
    from study.plan import planner as plan
params, found = tier.read(), {}
for name in params["tiers"]:
    chosen = tier.load(params, name)
    facts = {setting: {"fingerprint": hashlib.sha256(setting.encode()).hexdigest(), "classes": ["a", "b"],
                       "streamed": False, "frequent": None} for setting in chosen.settings}
    planned = plan.build(chosen, facts, "cpu")
    found[name] = sorted([*planned.trainings, *planned.evaluations])
print(json.dumps(found))
"""


def keys(commit: str) -> dict[str, list[str]]:
    """The keys of each tier of params.yaml at a commit."""
    with tempfile.TemporaryDirectory(prefix="keys-") as folder:
        archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        ran = subprocess.run([sys.executable, "-c", PROGRAM], cwd=folder, capture_output=True, text=True, check=True)
        return json.loads(ran.stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", help="a commit")
    parser.add_argument("after", nargs="?", default="HEAD", help="another (HEAD)")
    arguments = parser.parse_args()
    before, after = keys(arguments.before), keys(arguments.after)
    for tier in sorted(before.keys() | after.keys()):
        old, new = set(before.get(tier, ())), set(after.get(tier, ()))
        print(f"{tier}: {len(old)} keys, {len(old & new)} of them unchanged; {len(new - old)} new")
    return int(before != after)


if __name__ == "__main__":
    sys.exit(main())
