"""Early stopping: end the run when the validation loss has stopped falling, and restore the best weights.

Source: Prechelt 1998, "Early Stopping - But When?".
"""

import math


class EarlyStopping:
    """Watches the validation loss, one value per epoch. With ``patience=None`` it does nothing.

    patience: epochs without a better loss before the run ends.
    min_delta: how much lower a loss must be to count as better.
    """

    def __init__(self, patience: int | None, min_delta: float = 0.0):
        self.patience, self.min_delta = patience, min_delta
        self.best, self.best_epoch, self.weights = math.inf, None, None
        self.epoch = self.waited = 0

    def should_stop(self, loss: float, model) -> bool:
        """Records this epoch's validation loss. True when patience has run out."""
        if self.patience is None:
            return False
        if loss < self.best - self.min_delta:
            self.best, self.best_epoch, self.waited = loss, self.epoch, 0
            self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
        else:
            self.waited += 1
        self.epoch += 1
        return self.waited >= self.patience

    def restore(self, model):
        """Puts the best weights back, whether or not patience has run out."""
        if self.weights is not None:
            model.load_state_dict(self.weights)
