"""What one would run instead of tlkeras: PyTorch's usual loop, for `job.py`.

ImageFolder, a worker for each core, crops of the middle and flips,
torch.compile and bfloat16 on a GPU, Adam; 70 % of the images are learned from,
15 % judge each epoch and 15 % are scored at the end. It prints the lines by
which `job.py` tells the parts of a run.

  python benchmarks/torch_job.py --photos=FOLDER --backbone=ResNet50
"""

import os
import time

import torch
import torchvision
from absl import app
from absl import flags
from torchvision.transforms import v2 as transforms

_PHOTOS = flags.DEFINE_string("photos", None, "one folder a class")
_BACKBONE = flags.DEFINE_string("backbone", "ResNet50", "the network")
_LEARNS = flags.DEFINE_enum("learns", "all", ["all", "head"], "what learns")
_SIZE = flags.DEFINE_integer("image_size", 224, "pixels")
_BATCH = flags.DEFINE_integer("batch_size", 128, "images of a step")
_EPOCHS = flags.DEFINE_integer("epochs", 4, "how many")

# The names of torchvision, as its functions have them.
_NETWORKS = {"ResNet50": "resnet50", "MobileNetV2": "mobilenet_v2"}


def main(arguments: list[str]) -> None:
    """Trains, and prints a line where a part of the run ends."""
    del arguments
    began = time.perf_counter()
    print("started", flush=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    to_device = transforms.Compose(
        [
            transforms.ToDtype(torch.float32, scale=True),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    learned, judged, scored, classes = _loaders()
    print("run of PyTorch", flush=True)
    network = getattr(torchvision.models, _NETWORKS[_BACKBONE.value])()
    if _LEARNS.value == "head":
        network.requires_grad_(False)
    last = "fc" if hasattr(network, "fc") else "classifier"
    layers = network.get_submodule(last).modules()
    width = [each for each in layers if isinstance(each, torch.nn.Linear)]
    setattr(network, last, torch.nn.Linear(width[-1].in_features, classes))
    network.to(device, memory_format=torch.channels_last)
    learning = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learning, 1e-3, fused=device.type == "cuda")
    compiled = torch.compile(network) if device.type == "cuda" else network

    def logits(images: torch.Tensor) -> torch.Tensor:
        images = images.to(device, non_blocking=True)
        images = to_device(images).to(memory_format=torch.channels_last)
        with torch.autocast(
            device.type, torch.bfloat16, enabled=device.type == "cuda"
        ):
            return compiled(images)

    def accuracy(loader) -> float:
        network.eval()
        with torch.inference_mode():
            right = [
                (logits(images).argmax(1).cpu() == targets).sum()
                for images, targets in loader
            ]
        return float(sum(right)) / len(loader.dataset)

    count = sum(parameter.numel() for parameter in learning)
    print(f"phase torch: {count:,} parameters learn", flush=True)
    for epoch in range(_EPOCHS.value):
        network.train(_LEARNS.value == "all")
        for images, targets in learned:
            loss = torch.nn.functional.cross_entropy(
                logits(images), targets.to(device, non_blocking=True)
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        value = accuracy(judged)
        print(
            f"  torch {epoch + 1}/{_EPOCHS.value} validation {value:.3f}",
            flush=True,
        )
    print("scoring and saving", flush=True)
    value = accuracy(scored)
    print(f"exporting nothing; test accuracy {value:.3f}", flush=True)
    print(f"{time.perf_counter() - began:.1f} s in all", flush=True)


def _loaders() -> tuple:
    """Returns what yields batches of the three splits, and the classes."""
    plain = [transforms.Resize(_SIZE.value), transforms.CenterCrop(_SIZE.value)]
    ways = [
        transforms.Compose([*plain, *more, transforms.PILToTensor()])
        for more in ([transforms.RandomHorizontalFlip()], [], [])
    ]
    folders = [
        torchvision.datasets.ImageFolder(_PHOTOS.value, way) for way in ways
    ]
    total = len(folders[0])
    order = torch.randperm(
        total, generator=torch.Generator().manual_seed(0)
    ).tolist()
    ends = (int(0.7 * total), int(0.85 * total))
    parts = (order[: ends[0]], order[ends[0] : ends[1]], order[ends[1] :])
    loaders = [
        torch.utils.data.DataLoader(
            torch.utils.data.Subset(folder, part),
            _BATCH.value,
            shuffle=number == 0,
            drop_last=number == 0,
            num_workers=os.cpu_count() or 1,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=True,
        )
        for number, (folder, part) in enumerate(
            zip(folders, parts, strict=True)
        )
    ]
    return *loaders, len(folders[0].classes)


if __name__ == "__main__":
    app.run(main)
