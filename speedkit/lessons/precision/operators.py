"""The number format of each operator under autocast."""

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from speedkit.recipe import Recipe
from speedkit.support.table import Table
from speedkit.techniques.precision import Precision
from speedkit.train import first_batch

NO_ARITHMETIC = {"detach", "t", "view", "_unsafe_view", "transpose", "expand", "alias", "permute", "reshape", "slice"}
SHORT = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}


class _Recorder(TorchDispatchMode):
    """Records every operator that is carried out, and the number formats of its inputs and its output."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        if name not in NO_ARITHMETIC:
            flat = [a for arg in args for a in (arg if isinstance(arg, list | tuple) else (arg,))]
            taken = [SHORT.get(a.dtype, str(a.dtype)[6:]) for a in flat if isinstance(a, torch.Tensor)]
            given = result[0] if isinstance(result, tuple) else result
            shape = " × ".join(map(str, given.shape)) or "one number"
            self.seen.append((name, ", ".join(taken), SHORT.get(given.dtype, str(given.dtype)[6:]), shape))
        return result


def operators(recipe: Recipe) -> Table:
    """The operators of one forward pass and its loss in the order in which they run, with their number formats."""
    images, labels, model = first_batch(recipe.but(batch_size=4, subset=4))
    recorder = _Recorder()
    with Precision(recipe.precision, images.device.type) as precision, recorder, precision.autocast():
        nn.functional.cross_entropy(model(images), labels)
    rows = [["cast" if name == "_to_copy" else name, *formats] for name, *formats in recorder.seen]
    caption = "One forward pass on four images, and its loss."
    return Table(["operator", "inputs", "output", "shape of the output"], rows, caption)
