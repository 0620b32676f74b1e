"""From pictures and rows of parameters to views: one batched affine step, one batched colour step.

A view is rounded to 256 levels, as a picture is, so that views made ahead and kept as bytes and views made
when they are due are the same bits.
"""

import torch

from hkbench.data.augment import COLUMNS

LUMA = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in grey, as torchvision has them (ITU-R BT.601)."""
ERASED = 128
"""What random erasing leaves: mid grey."""
AFFINE = slice(0, COLUMNS.index("brightness"))
COLOUR = slice(COLUMNS.index("brightness"), COLUMNS.index("erase_x"))
ERASING = slice(COLUMNS.index("erase_x"), COLUMNS.index("share"))


def render_views(pictures: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
    """Make one view of each picture, on the device of `pictures`.

    `pictures` is uint8 (batch, 3, side, side); `parameters` is float (batch, len(COLUMNS)), any precision,
    same device. Returns uint8 (batch, 3, side, side), channels-last; rows of IDENTITY give the pictures. A
    view depends on its own picture and row alone.
    """
    parameters = parameters.float()
    levels = torch.nn.functional.grid_sample(
        pictures.to(torch.float32, memory_format=torch.contiguous_format),
        _grid(parameters[:, AFFINE], pictures.shape[-1]),
        padding_mode="border",
        align_corners=False,
    )
    _change_colour(levels, *parameters[:, COLOUR].T.reshape(3, -1, 1, 1, 1))
    if levels.is_cuda or bool(parameters[:, ERASING].any()):  # to ask a GPU would be to wait for it
        levels.masked_fill_(_erased(parameters[:, ERASING], pictures.shape[-1]), ERASED)
    return _as_bytes(levels)


def mix_views(views: torch.Tensor, partners: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Blend views with others as mixup does: share · view + (1 − share) · partner.

    `views` and `partners` are uint8 (batch, 3, side, side), `share` is float (batch,), in [0, 1]. Returns
    uint8, channels-last. Source: arXiv 1710.09412, equation 1.
    """
    weight = share.float().view(-1, 1, 1, 1)
    mixed = torch.lerp(partners.float(), views.float(), weight)
    return _as_bytes(mixed)


def render_mixed(
    pictures: torch.Tensor,
    parameters: torch.Tensor,
    partners: tuple[torch.Tensor, torch.Tensor] | None,
) -> torch.Tensor:
    """Return `render_views`, mixed with the views of `partners`, (pictures, parameters), if there are any."""
    views = render_views(pictures, parameters)
    return views if partners is None else mix_views(views, render_views(*partners), parameters[:, -1])


def plain(pictures: torch.Tensor) -> torch.Tensor:
    """Return uint8 pictures as float32 in [0, 1]."""
    return pictures.float().div_(255)


def _grid(parameters: torch.Tensor, side: int) -> torch.Tensor:
    """Return where each pixel of a view lies in its picture: (batch, side, side, 2), x before y.

    Same as `affine_grid`, as a sum of a column's and a row's share. All x lie before all y in memory, for
    an inner loop over two numbers would take eight times as long.
    """
    centre_x, centre_y, half_width, half_height, rotation, mirror = parameters.T.reshape(6, -1, 1)
    steps = _steps(side, parameters.device)
    across, down = half_width * mirror * steps, half_height * steps  # (batch, side)
    cos, sin = rotation.cos(), rotation.sin()
    column = torch.stack((cos * across + centre_x, sin * across + centre_y))  # (2, batch, side)
    row = torch.stack((-sin * down, cos * down))
    return (row.unsqueeze(3) + column.unsqueeze(2)).permute(1, 2, 3, 0)


def _steps(side: int, device: torch.device) -> torch.Tensor:
    """Return the centres of a row's pixels, in (−1, 1)."""
    return torch.arange(1 - side, side, 2, device=device) / side


def _change_colour(
    levels: torch.Tensor, brightness: torch.Tensor, contrast: torch.Tensor, saturation: torch.Tensor
) -> None:
    """Change brightness, contrast and saturation in place, in this order, as torchvision defines them.

    The three are one affine map, so it is applied at once and clamped at its end only. In place, for on a
    CPU fresh memory costs more time here than the arithmetic.
    """
    red, green, blue = levels.unbind(dim=1)
    grey = (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2]).unsqueeze(1)
    # In two steps: torch sums one large picture alone in another order than a batch, a part on each thread.
    mean = grey.mean(dim=3, keepdim=True).mean(dim=2, keepdim=True)  # (batch, 1, 1, 1)
    gain = brightness * contrast
    shift = grey.mul_(gain * (1 - saturation)).add_(mean * (brightness * (1 - contrast)))
    levels.mul_(gain * saturation).add_(shift).clamp_(0, 255)


def _as_bytes(levels: torch.Tensor) -> torch.Tensor:
    """Round to the nearest of 256 levels, in place: uint8 (batch, 3, side, side), channels-last.

    Channel by channel, in half the time of one copy that changes type and layout at once.
    """
    found = torch.empty(
        levels.shape, dtype=torch.uint8, device=levels.device, memory_format=torch.channels_last
    )
    for there, here in zip(found.unbind(dim=1), levels.round_().unbind(dim=1), strict=True):
        there.copy_(here)
    return found


def _erased(parameters: torch.Tensor, side: int) -> torch.Tensor:
    """Return which pixels are erased: bool (batch, 1, side, side)."""
    centre_x, centre_y, half_width, half_height = parameters.T.reshape(4, -1, 1)
    steps = _steps(side, parameters.device)
    across = (steps - centre_x).abs() < half_width  # (batch, side)
    down = (steps - centre_y).abs() < half_height
    erased: torch.Tensor = (down.unsqueeze(2) & across.unsqueeze(1)).unsqueeze(1)
    return erased
