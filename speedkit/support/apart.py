"""A training computes under torch's own defaults, whatever the caller has set, and leaves the caller's settings alone.

Between two records of a training, while the generator is suspended, the caller's settings are in force: a learner may
look at the network in float64, and of two trainings that take turns each has its own threads and number formats.
"""

import contextlib
import functools
import sys
import warnings

import torch
from torch.overrides import _len_torch_function_stack, _pop_mode, _push_mode

from speedkit.support.guard import NoGuard, leave_if_imported_by_a_worker, missing_guard

FORMATS = {  # where the format of fp32 arithmetic is set: the names of backend and operator, and the object to set
    ("mkldnn", "matmul"): torch.backends.mkldnn.matmul,
    ("mkldnn", "conv"): torch.backends.mkldnn.conv,
    ("cuda", "matmul"): torch.backends.cuda.matmul,
    ("cuda", "conv"): torch.backends.cudnn.conv,
}
CUDNN = {"benchmark": False, "deterministic": False, "enabled": True}
SET = (  # sets a setting, in the order of Apart's
    torch.set_num_threads,
    *(functools.partial(setattr, backend, "fp32_precision") for backend in FORMATS.values()),
    *(functools.partial(setattr, torch.backends.cudnn, name) for name in CUDNN),
)
DEVICES = ("cpu", "cuda", "mps")
PLAIN = (torch.float32, True, False, False, 0, False, 0)  # of what _found returns: torch's defaults


class Apart:
    """Torch's settings as one computation sees them: torch's defaults at first. A context manager, to enter often.

    What the computation itself sets (threads, formats of fp32 arithmetic) is there again when it is entered again.
    """

    def __init__(self):
        self.own, self.cuda = None, torch.cuda.is_available()

    def __enter__(self):
        self.outside, self.undo = self._settings(), None
        if self.own is None:
            self.own = self._at_first(*self.outside)
        if self.own != self.outside:
            _change(self.outside, self.own)
        if _found() != PLAIN or _all_warnings_are_errors(len(warnings.filters), *warnings.filters[:1]):
            self.undo = _make_plain()
        return self

    def __exit__(self, *_):
        self.own = self._settings()
        if self.undo is not None:
            self.undo.close()
        if self.own != self.outside:
            _change(self.own, self.outside)

    def _settings(self):
        found = torch.get_num_threads(), *(torch._C._get_fp32_precision_getter(*names) for names in FORMATS)
        return (*found, *(getattr(torch.backends.cudnn, name) for name in CUDNN)) if self.cuda else found

    def _at_first(self, threads, *others):
        """The caller's threads and, on a GPU, formats: the techniques set their own. But no bf16 where fp32 is said."""
        cpu = ["ieee" if found not in ("none", "ieee") else found for found in others[:2]]
        return (threads, *cpu, *others[2:4], *(CUDNN.values() if self.cuda else ()))


def records(generator):
    """The records of a generator that computes apart: closing it, or an error thrown into it, reach it there, too."""
    leave_if_imported_by_a_worker()
    apart = Apart()
    while True:
        with apart:
            try:
                record = next(generator)
            except StopIteration as end:
                return end.value
            except (RuntimeError, OSError, EOFError):
                if missing_guard():
                    raise NoGuard() from None
                raise
        try:
            yield record
        except BaseException as error:
            with apart if not sys.is_finalizing() else contextlib.nullcontext():
                generator.throw(error)
            raise


def _change(found, wanted):
    """Sets what is not so yet: setting the same number of threads again makes a step some 4 % longer."""
    for put, now, value in zip(SET, found, wanted, strict=False):  # without a GPU, CUDNN's are left alone
        if value != now:
            put(value)


def _found():
    return (
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch._C._is_any_autocast_enabled(),
        torch.get_deterministic_debug_mode(),
        torch.is_anomaly_enabled(),
        _len_torch_function_stack(),  # a default device is on it
    )


def _make_plain():
    """Sets torch's defaults, and returns a stack that sets again what was found when it is closed."""
    undo = contextlib.ExitStack()
    modes = [_pop_mode() for _ in range(_len_torch_function_stack())]
    for mode in modes:
        undo.callback(_push_mode, mode)
    undo.callback(torch.set_default_dtype, torch.get_default_dtype())
    torch.set_default_dtype(torch.float32)
    undo.enter_context(torch.inference_mode(False))
    undo.enter_context(torch.enable_grad())
    undo.callback(torch.set_deterministic_debug_mode, torch.get_deterministic_debug_mode())
    torch.set_deterministic_debug_mode(0)
    undo.callback(torch.set_anomaly_enabled, torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled())
    torch.set_anomaly_enabled(False)
    for device in DEVICES:
        if torch.is_autocast_enabled(device):
            undo.callback(torch.set_autocast_enabled, device, True)
            torch.set_autocast_enabled(device, False)
    depth = torch.autocast_increment_nesting() - 1  # within a block, weights in bf16 would be kept from step to step
    torch.autocast_decrement_nesting()
    for _ in range(depth):
        torch.autocast_decrement_nesting()
        undo.callback(torch.autocast_increment_nesting)
    torch.clear_autocast_cache()
    if any(map(_is_blanket, warnings.filters)):
        undo.enter_context(warnings.catch_warnings())
        warnings.filters[:] = [each for each in warnings.filters if not _is_blanket(each)]
    return undo


@functools.lru_cache(8)
def _all_warnings_are_errors(count, first=None):
    """Whether all warnings are errors: then torch's hints would end a run. Named kinds of warnings may be errors."""
    return any(map(_is_blanket, warnings.filters))


def _is_blanket(each):
    action, message, category, module, __ = each
    return action == "error" and message is module is None and issubclass(UserWarning, category)
