"""A model's card in Markdown, from the same data as the metadata of its file."""

from __future__ import annotations

from study.spec.documents.models import ModelFile, ModelScore
from study.spec.words import counted

TITLES = {
    "miou": "mean IoU",
    "miou_frequent": "mean IoU, frequent classes",
    "pixel_accuracy": "pixel accuracy",
    "boundary_accuracy": "accuracy in the boundary band",
    "internal_accuracy": "accuracy inside",
    "boundary_object_accuracy": "accuracy of objects in the boundary band",
    "internal_object_accuracy": "accuracy inside objects",
}
LIMITS = {
    "paper": "It was trained at the paper's scale, by this project's reading of what the paper leaves open.",
    "data": "It was trained on the paper's data with a shorter recipe, which was chosen to compare heads, not for the "
    "best score.",
    "mechanism": "It belongs to a small-scale study of one mechanism. It was tuned for comparison, not for the best "
    "score, and says nothing about the paper's own data.",
    "none": "It only shows that the pipeline works. Its predictions mean nothing.",
}


def card(about: ModelFile, name: str) -> str:
    """The card of a model whose file is ``name``."""
    data, recipe, network = about["data"], about["recipe"], about["network"]
    backbone = f"{network['backbone']}{', frozen' if network['frozen'] else ', trained too'}"
    scale = data["range"]
    lines = [
        f"# {about['label']}",
        "",
        f"{about['title']}. The first seed of the cell `{about['cell']}` of tier `{about['tier']}` in a study of "
        f"{about['paper']}.",
        "",
        "## Use",
        "",
        "```python",
        "from study.inference.exported import load",
        "",
        f'model = load("{name}")',
        'classes = model.predict("photograph.jpg")  # uint8 (H, W), at the image\'s size',
        "```",
        "",
        "or `study predict --model "
        + name
        + " photographs/`. The file holds the whole network. It needs this project's "
        "code, but no run store and no download, and loading it unpickles nothing.",
        "",
        "## Intended use",
        "",
        "Comparing heads with large kernels on images like its training images. What the numbers of its tier can show: "
        f"{about['judges']}",
        "",
        f"{LIMITS.get(about['scale'], LIMITS['mechanism'])} On other images it may be "
        "confidently wrong. Do not use it for decisions about people.",
        "",
        "## Scores on val",
        "",
        "| metric | this network | mean | 95 % interval | seeds |",
        "|---|---|---|---|---|",
        *map(_row, about["scores"]),
        "",
        "In per cent. The interval is over seeds on the same images, and says nothing about other images.",
        "",
        "## Data",
        "",
        f"`{data['name']}` (setting `{about['setting']}`): "
        + ", ".join(f"{number:,} {split}" for split, number in data["images"].items())
        + f" images, padded to {data['size'][0]} x {data['size'][1]} px (height x width)"
        + (f", reduced to a longest side of {data['longest']} px" if data["longest"] else "")
        + (f", grey values from {scale[0]} to {scale[1]}" if scale else "")
        + f". Fingerprint `{data['fingerprint'][:16]}`.",
        "",
        "| label | class | colour |",
        "|---|---|---|",
        *(
            f"| {label} | {_cell(name)} | {', '.join(map(str, colour))} |"
            for label, (name, colour) in enumerate(zip(about["classes"], about["colours"], strict=True))
        ),
        "",
        "## Recipe",
        "",
        f"Backbone {backbone}; heads at {', '.join(network['levels'])}; {about['parameters']:,} weights. "
        f"{recipe['optimizer']}, learning rate {recipe['lr']:g} ({recipe['schedule']}), weight decay "
        f"{recipe['weight_decay']:g}, {counted(recipe['steps'], 'step')} of {counted(recipe['batch'], 'image')}"
        + (f", crops of {recipe['crop'][0]} x {recipe['crop'][1]} px" if recipe["crop"] else "")
        + f", {recipe['precision']}. Seed {about['seed']}, torch {about['torch']}, commit "
        f"{about['commit'] or 'unknown'}, training `{about['training'][:16]}`.",
        "",
        "## Licence",
        "",
        about["licence"],
        "",
    ]
    return "\n".join(lines)


def _row(score: ModelScore) -> str:
    low, high = score["low"], score["high"]
    interval = "-" if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f}"
    title = TITLES.get(score["metric"], score["metric"].replace("_", " "))
    return f"| {title} | {100 * score['value']:.1f} | {100 * score['mean']:.1f} | {interval} | {score['seeds']} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
