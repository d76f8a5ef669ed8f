"""Networks that stage one must refuse."""

from finetuning import Net


class Probable(Net):
    """Gives probabilities, not logits."""

    def forward(self, x):
        return super().forward(x).sigmoid()


def probable():
    return Probable()
