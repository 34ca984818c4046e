"""The longest earlier match of the newest tokens of a text, and the token that followed it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from semigpt.native import ngrams as native

__all__ = ["LONGEST_MATCH", "longest_match"]

LONGEST_MATCH = 8  # tokens; a longer match counts as this long


def longest_match(ids_BT: Tensor) -> tuple[Tensor, Tensor]:
    """The token that followed the longest earlier match of the newest tokens, and its length.

    For each position of `[B, T]` ids: tokens `[B, T]` and lengths `[B, T]`, 0 to `LONGEST_MATCH`.
    The match is of the tokens that end at the position. Of several longest ones the latest counts.
    Where the position's token was not seen before, length and token are 0. Compiled C on a CPU with
    a compiler; PyTorch elsewhere, with the same result.
    """
    if ids_BT.device.type != "cpu" or not native.available():
        return _longest_match(ids_BT)
    tokens, lengths = native.longest_match(ids_BT.numpy(), LONGEST_MATCH)
    return torch.from_numpy(tokens), torch.from_numpy(lengths)


def _longest_match(ids_BT: Tensor) -> tuple[Tensor, Tensor]:
    T = ids_BT.shape[1]
    equal_BTS = (ids_BT[:, :, None] == ids_BT[:, None, :]).tril(-1).int()
    # run [t, s]: how many tokens ending at t equal those ending at s; one more token a pass.
    run_BTS = equal_BTS
    for _ in range(LONGEST_MATCH - 1):
        before_BTS = F.pad(run_BTS, (1, 0, 1, 0))[:, :-1, :-1]
        run_BTS = equal_BTS * (1 + before_BTS)
    place_S = torch.arange(T, device=ids_BT.device, dtype=torch.int32)
    # The longest, and of equally long ones the latest.
    at_BT = torch.where(run_BTS > 0, run_BTS * T + place_S, -1).argmax(dim=2)
    lengths_BT = run_BTS.gather(2, at_BT[..., None])[..., 0].long()
    followers_BT = ids_BT.gather(1, (at_BT + 1).clamp(max=T - 1))
    return torch.where(lengths_BT > 0, followers_BT, 0), lengths_BT
