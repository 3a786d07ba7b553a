"""What both trainings do around their steps: processes that make batches, checkpoints, looks at the model, the end."""

import multiprocessing
import os
import time
import traceback
from contextlib import contextmanager

import torch
from safetensors.torch import save_file

CONTEXT = multiprocessing.get_context("fork")


def arguments(parser, minutes):
    """What is asked of every training: for how long, and on what."""
    parser.add_argument("--minutes", type=float, default=minutes)
    parser.add_argument("--end", help="a file with the UNIX time of the end")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")


def start(target, arguments):
    """A process for each tuple of arguments, to be made before the device is touched."""
    processes = [CONTEXT.Process(target=target, args=a, daemon=True) for a in arguments]
    for p in processes:
        p.start()
    return processes


def leave(processes):
    """Ends the program, but not through the queues' threads, which wait for readers that are gone."""
    for p in processes:
        p.kill()
    os._exit(0)


def fast_arithmetic():
    """TF32; and not cuDNN's attention, which plans anew for every shape: a hundred milliseconds, and hardly two batches
    have one shape."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cuda.enable_cudnn_sdp(False)


class Every:
    """Says once in so many seconds that it is time."""

    def __init__(self, seconds):
        self.seconds, self.last = seconds, time.time()

    def due(self):
        return time.time() - self.last > self.seconds

    def done(self):
        self.last = time.time()


def halves(state):
    """The tensors as they are stored."""
    return {k: v.detach().half().cpu().contiguous() for k, v in state.items()}


def write(tensors, file):
    """The whole file or none."""
    save_file(tensors, file + ".part", metadata={"format": "pt"})
    os.replace(file + ".part", file)


@contextmanager
def look(model, mean):
    """The model as it will be saved, for an evaluation. Its failure is told and costs the training nothing."""
    with mean.applied():
        model.eval()
        try:
            yield
        except Exception:
            traceback.print_exc()
        model.train()
