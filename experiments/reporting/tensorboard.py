"""Puts the report's pictures beside the run's scalars in TensorBoard."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter

from callbacks.dashboard import plain_event_names

_PNG_SIZE = slice(16, 24)  # width and height, big-endian, in the header of every PNG


def write_pictures(folder: Path, pictures: Mapping[str, bytes], step: int) -> None:
    """Write every PNG, by name, at `step`, in the place of an earlier evaluation's."""
    shutil.rmtree(folder, ignore_errors=True)
    with plain_event_names():
        summary_writer = SummaryWriter(str(folder))
    with summary_writer as writer:
        events: Any = writer.file_writer
        for name, png in pictures.items():
            width, height = struct.unpack(">II", png[_PNG_SIZE])
            image = Summary.Image(
                height=height, width=width, colorspace=4, encoded_image_string=png
            )
            value = Summary.Value(tag=f"evaluation/{name}", image=image)
            events.add_summary(Summary(value=[value]), step)
