"""CAMs that forward masked images: Score-CAM, Group-CAM, RISE and CAMERAS (many sizes of the image)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.functional import gaussian_blur

from campanion.cams.gradient import grad_cam
from campanion.cams.maps import min_max_map, upsample
from campanion.cams.methods import Count, Counts, Number, choose, method
from campanion.game.game import ChannelGame
from campanion.inference import images_at_once

_DRAWN = 32  # RISE's masks drawn at once, on every device: another number would draw other masks


@method("Score-CAM", "Wang et al., CVPR Workshops 2020")
@torch.no_grad()
def score_cam(game: ChannelGame, target: Tensor, *, variant: str = "authors") -> Tensor:
    """w_k from the network's answer to the image masked by channel k, x * s(u(A_k)) (LFI-CAM eq. 1-3).

    ``"authors"``: w_k is the probability of the class, as the authors' code has it (softmax; the sigmoid for networks
    of several labels). ``"cic"``: softmax over the channels of the logits (the paper's second version; other
    libraries). Constant channels mask nothing: weight 0. One game forwards its masked images once, whatever the
    classes and the variant.
    """
    choose("score_cam variant", variant, ("authors", "cic"))
    rows = []
    shown = game.once(("channel logits", game.network), lambda: _channel_logits(game))
    for (live, logits), c in zip(shown, target.tolist(), strict=True):
        score = game.probabilities(logits)[:, c] if variant == "authors" else logits[:, c].softmax(0)
        rows.append(score.new_zeros(len(live)).masked_scatter_(live, score))
    return torch.stack(rows)


def _channel_logits(game: ChannelGame) -> list[tuple[Tensor, Tensor]]:
    """Of each image the channels that are not constant, bool [K], and the logits of the image masked by each."""
    rows = []
    for image, activation in zip(game.images, game.activations, strict=True):
        live = activation.flatten(1).amax(1) > activation.flatten(1).amin(1)
        logits = [
            game.network(_seen(image, min_max_map(upsample(channels, image.shape[-2:]))[0]))
            for channels in activation[live].split(images_at_once(image, game.parts.model))
        ]
        rows.append((live, torch.cat(logits or [game.logits[:0]])))
    return rows


def _seen(image: Tensor, masks: Tensor, behind: Tensor | float = 0.0) -> Tensor:
    """``image`` [3, H, W] through each of ``masks`` [N, H, W] (0..1), ``behind`` it elsewhere; of the image's dtype."""
    masks = masks.unsqueeze(1)
    if image.is_floating_point():
        masks = masks.to(image.dtype)
        return behind + masks * (image - behind)
    return (behind + masks * (image.float() - behind)).round().to(image.dtype)


@method("Group-CAM", "Zhang et al., 2021", gives="map", gradient=True)
def group_cam(game: ChannelGame, target: Tensor, *, groups: Count = 32) -> Tensor:
    """L = ReLU(sum_g s_g S_g) with S_g = ReLU(sum of Grad-CAM-weighted channels of the g-th consecutive chunk).

    s_g is the rise of the class's probability, from the blurred image to the image seen through S_g:
    ReLU(p(x * m + blur(x) * (1 - m)) - p(blur(x))), m = s(u(S_g)), blur of 51 x 51 pixels, sigma 50.
    With more groups than channels, each channel is a group.
    """
    weighted = grad_cam(game, target)[:, :, None, None] * game.activations
    with torch.no_grad():
        chunks = torch.stack([chunk.sum(1).relu() for chunk in weighted.chunk(groups, 1)], 1)
        # Below 26 pixels there are not enough to reflect at the border for the whole kernel.
        kernel = [min(51, 2 * side - 1) for side in game.images.shape[:1:-1]]
        blurred = gaussian_blur(game.images, kernel, [50.0, 50.0])
        rows = []
        for b, c in enumerate(target.tolist()):
            logits, constant = [game.network(blurred[b : b + 1])], []
            for maps in chunks[b].split(images_at_once(game.images, game.parts.model)):
                masks, empty = min_max_map(upsample(maps, game.images.shape[-2:]))
                logits.append(game.network(_seen(game.images[b], masks, blurred[b])))
                constant.append(empty)
            scores = game.probabilities(torch.cat(logits))[:, c]
            rise = (scores[1:] - scores[0]).relu() * ~torch.cat(constant)
            rows.append(torch.einsum("g,ghw->hw", rise, chunks[b].to(rise)).relu())
        return torch.stack(rows)


@method("RISE", "Petsiuk et al., BMVC 2018", gives="map")
@torch.no_grad()
def rise(
    game: ChannelGame,
    target: Tensor,
    *,
    masks: Count = 4000,
    cells: Count = 7,
    keep: Number = 0.5,
    generator: torch.Generator | None = None,
) -> Tensor:
    """S = sum_n p_c(x * M_n) M_n / (masks * keep): random masks weighted by the class's probability, [B, H, W].

    A mask is a grid of ``cells`` x ``cells`` Bernoulli(``keep``) cells, enlarged bilinearly and shifted at random.

    Raises:
        ValueError: keep outside 0..1.
    """
    if not 0 < keep < 1:
        raise ValueError(f"rise needs 0 < keep < 1; got {keep}.")
    generator = generator or torch.Generator().manual_seed(0)
    drawn_by = {"generator": generator, "device": generator.device}  # in float32, whatever the default is
    height, width = game.images.shape[-2:]
    high, wide = -(-height // cells), -(-width // cells)
    size = ((cells + 1) * high, (cells + 1) * wide)
    at_once = images_at_once(game.images, game.parts.model)
    dtype = game.images.dtype if game.images.dtype == torch.float64 else torch.float32
    total = torch.zeros(len(target), height, width, dtype=dtype, device=target.device)
    for start in range(0, masks, _DRAWN):
        count = min(_DRAWN, masks - start)
        grid = (torch.rand(count, 1, cells + 1, cells + 1, dtype=torch.float32, **drawn_by) < keep).to(dtype)
        tops = torch.randint(high, (count,), **drawn_by).tolist()
        lefts = torch.randint(wide, (count,), **drawn_by).tolist()
        drawn = list(zip(grid, tops, lefts, strict=True))
        for block in (drawn[i : i + at_once] for i in range(0, count, at_once)):
            large = [F.interpolate(g[None], size, mode="bilinear") for g, _, _ in block]
            cut = [m[0, 0, y : y + height, x : x + width] for m, (_, y, x) in zip(large, block, strict=True)]
            drawn_masks = torch.stack(cut).to(game.images.device)
            for b, c in enumerate(target.tolist()):
                score = game.probabilities(game.network(_seen(game.images[b], drawn_masks)))[:, c]
                total[b] += torch.einsum("n,nhw->hw", score.to(dtype), drawn_masks)
    return total / (masks * keep)


@method("CAMERAS", "Jalwana et al., CVPR 2021", gives="map")
def cameras(game: ChannelGame, target: Tensor, *, sizes: Counts = tuple(range(224, 925, 100))) -> Tensor:
    """L = ReLU(sum_k mean_r u(A_k^r) mean_r u(g_k^r)) over images enlarged to each size r (bicubic), [B, H, W].

    Sizes at which the predicted class is another than at the first one are left out, as the authors' code does. The
    network must take images of any size (adaptive pooling).
    """
    maps = []
    for b in range(len(target)):
        image = game.images[b : b + 1]
        activation = gradient = 0
        expected = None
        for size in sizes:
            larger = F.interpolate(image, (size, size), mode="bicubic", align_corners=False)
            scaled = ChannelGame.of(game.parts, larger)
            predicted = int(scaled.logits.argmax(1))
            expected = predicted if expected is None else expected
            if predicted == expected:
                activation = activation + upsample(scaled.activations[0], image.shape[-2:])
                gradient = gradient + upsample(scaled.gradient(target[b : b + 1])[0], image.shape[-2:])
        # Means instead of sums over sizes would change the scale only.
        maps.append((activation * gradient).sum(0).relu())
    return torch.stack(maps)
