"""GPTQ on one matrix in PyTorch, with the arithmetic of llm-compressor 0.14 (`modifiers/gptq/gptq_quantize.py`): F32 throughout, scales
by group of the original weights, columns by falling diagonal of H (activation order "static"), damping, the inverse by two Cholesky
factorisations, blocks of 128 columns.  Reimplemented from the behaviour of that file; it has none of its code."""

import torch


def gptq(weight, hessian, nearest, damping=0.01, block=128):
    """weight [R, C], hessian [C, C] -> (values [R, C], whether H was usable, what was rounded [R, C], the
    columns in order).  nearest(w [R], column) gives what can be stored."""
    w, h = weight.float().clone(), hessian.float().clone()
    order = torch.argsort(h.diagonal(), descending=True, stable=True)
    w, h = w[:, order], h[order][:, order]
    dead = h.diagonal() == 0
    h[dead, dead] = 1
    try:
        h.diagonal().add_(damping * h.diagonal().mean())
        factor = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(h)), upper=True)
        usable = True
    except torch.linalg.LinAlgError:
        factor, usable = torch.eye(len(h)), False
    values, entered = torch.zeros_like(w), torch.zeros_like(w)
    for first in range(0, w.shape[1], block):
        last = min(first + block, w.shape[1])
        errors = torch.zeros(len(w), last - first)
        for i in range(first, last):
            entered[:, i] = w[:, i]
            values[:, i] = nearest(w[:, i], int(order[i]))
            errors[:, i - first] = (w[:, i] - values[:, i]) / factor[i, i]
            w[:, i:last] -= errors[:, i - first, None] * factor[i, i:last]
        # As in the original: a batched product with batches of one need not round like a plain matrix product.
        w[:, last:] -= torch.bmm(errors[None], factor[None, first:last, last:])[0]
    return back(values, order), usable, back(entered, order), order


def back(permuted, order):
    out = torch.empty_like(permuted)
    out[:, order] = permuted
    return out


def distance_to_ties(values, expected, entered, order):
    """For each row that differs, how far the first differing value was, before rounding, from half way between the two results,
    in units of their distance."""
    differs = (values != expected)[:, order]
    rows = differs.any(dim=1).nonzero().flatten()
    columns = order[differs[rows].int().argmax(dim=1)]
    a, b, w = values[rows, columns], expected[rows, columns], entered[rows, columns]
    return ((w - (a + b) / 2) / (a - b)).abs()


def scaled(quantise, scales, group):
    """The values that can be stored with scales [R, C / group]."""
    return lambda w, column: quantise(w / scales[:, column // group]) * scales[:, column // group]


def levelled(lowest, step, group, highest):
    """The values that can be stored as lowest + n * step, n = 0 ... highest, both [R, C / group]."""

    def nearest(w, column):
        low, by = lowest[:, column // group], step[:, column // group]
        return low + by * ((w - low) / by).nan_to_num(0, 0, 0).round().clamp(0, highest)

    return nearest


def int4(x):
    return x.round().clamp(-8, 7)


def int8(x):
    return x.round().clamp(-128, 127)


def e4m3(x):
    return x.clamp(-448, 448).to(torch.float8_e4m3fn).float()


def e2m1(x):
    levels = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    edges = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])
    magnitude = x.abs()
    index = torch.bucketize(magnitude, edges)
    # Ties go to the even code: an edge above an odd one belongs to the upper.
    for n, edge in enumerate(edges):
        index = torch.where((magnitude == edge) & (n % 2 == 1), n + 1, index)
    return levels[index] * x.sign()
