"""An LSTM over short sequences on the CPU, with its gradients.

There each call of `torch.nn.LSTM` reorders all weights, which takes as long as a few steps. Here
every product uses the weights as they are stored. TorchScript runs the loops without Python's
global lock, so that two networks can run at once; as ordinary Python the same functions give the
same results.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

LstmState = tuple[Tensor, Tensor]  # hidden and cell, each (layers, sequences, size)

Function = TypeVar("Function", bound=Callable[..., Any])


def is_plain(lstm: nn.LSTM) -> bool:
    """Whether it has biases and no option of `nn.LSTM` that would change the calculation."""
    changed = lstm.bidirectional or lstm.proj_size or lstm.dropout or lstm.batch_first
    return lstm.bias and not changed


def run_short(
    lstm: nn.LSTM, inputs: Tensor, state: LstmState, starts: Tensor
) -> tuple[Tensor, LstmState]:
    """Outputs (steps, sequences, size) of a plain LSTM for inputs (steps, sequences, inputs).

    The state is reset before each step where `starts` (sequences, steps) is 1. Gradients reach
    inputs and weights through the outputs; neither the initial nor the returned last state has any.
    """
    remember = 1.0 - starts.t()
    forgets = (remember != 1.0).any(dim=1).tolist()
    rows, last = inputs.transpose(1, 2), []
    for layer, weights in enumerate(lstm.all_weights):
        before = (part[layer].t() for part in state)
        rows, cell = _Layer.apply(  # type: ignore[no-untyped-call]
            rows, *before, remember[:, None], forgets, *weights
        )
        last.append((rows[-1].detach().t(), cell.t()))
    hidden, cell = (torch.stack(parts) for parts in zip(*last, strict=True))
    return rows.transpose(1, 2), (hidden, cell)


class _Layer(torch.autograd.Function):
    """Inputs (T steps, inputs, B sequences) to outputs (T, size, B) and the last cell (size, B).

    With the sequences last, a step's gates are `W @ h`, and each gate is one block of memory.
    """

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        hidden: Tensor,  # (size, B), as is the cell
        cell: Tensor,
        remember: Tensor,  # (T, 1, B), 0 where the state is reset before the step
        forgets: list[bool],  # (T), whether any sequence's state is
        *weights: Tensor,  # as in `nn.LSTM.all_weights`
    ) -> tuple[Tensor, Tensor]:
        columns = inputs.transpose(0, 1).flatten(1)
        steps = _forward(columns, hidden, cell, remember, forgets, *weights)
        _, hiddens, cells, _ = steps
        ctx.forgets = forgets
        ctx.save_for_backward(columns, remember, *weights[:2], *steps)
        last_cell = cells[-1].clone()
        ctx.mark_non_differentiable(last_cell)
        return hiddens[1:], last_cell

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        columns, remember, w_in, w_hidden, *steps = ctx.saved_tensors
        d_gates, before = _backward(d_outputs.contiguous(), remember, ctx.forgets, w_hidden, *steps)
        d_inputs = None
        if ctx.needs_input_grad[0]:
            d_inputs = (w_in.t() @ d_gates).view(-1, *d_outputs.shape[::2]).transpose(0, 1)
        bias = d_gates.sum(dim=1)
        to_weights = (d_gates @ columns.t(), d_gates @ before.t(), bias, bias)
        return d_inputs, None, None, None, None, *to_weights


def scripted(function: Function) -> Function:
    """`torch.jit.script` of it, without the warning that it is old."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted: Function = torch.jit.script(function)
    return scripted


@scripted
def _forward(
    columns: Tensor,  # (inputs, T * B), as _Layer has them
    hidden: Tensor,
    cell: Tensor,
    remember: Tensor,
    forgets: list[bool],
    w_in: Tensor,
    w_hidden: Tensor,
    b_in: Tensor,
    b_hidden: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gates (T, 4 * size, B), hidden and cell (T + 1, size, B), tanh of the cell (T, size, B)."""
    steps = len(forgets)
    size, sequences = hidden.shape
    hiddens = columns.new_empty([steps + 1, size, sequences])
    cells, tanh_cells = torch.empty_like(hiddens), torch.empty_like(hiddens[1:])
    hiddens[0], cells[0] = hidden, cell
    gates = columns.new_empty([steps, 4 * size, sequences])
    from_inputs = torch.mm(w_in, columns).view(-1, steps, sequences).transpose(0, 1)
    torch.add(from_inputs, (b_in + b_hidden).unsqueeze(1), out=gates)
    for t in range(steps):
        h, c, gate = hiddens[t], cells[t], gates[t]
        if forgets[t]:
            h, c = h * remember[t], c * remember[t]
        gate.addmm_(w_hidden, h)
        i, f, g, o = gate.chunk(4)
        gate[: 2 * size].sigmoid_()
        g.tanh_()
        o.sigmoid_()
        torch.mul(f, c, out=cells[t + 1]).addcmul_(i, g)
        torch.tanh(cells[t + 1], out=tanh_cells[t])
        torch.mul(o, tanh_cells[t], out=hiddens[t + 1])
    return gates, hiddens, cells, tanh_cells


@scripted
def _backward(
    d_outputs: Tensor,
    remember: Tensor,
    forgets: list[bool],
    w_hidden: Tensor,
    gates: Tensor,
    hiddens: Tensor,
    cells: Tensor,
    tanh_cells: Tensor,
) -> tuple[Tensor, Tensor]:
    """Gradients (4 * size, T * B) before the gates' sigmoid or tanh; hidden (size, T * B)."""
    steps, size, sequences = tanh_cells.shape
    before_h, before_c = hiddens[:-1], cells[:-1]
    if any(forgets):
        before_h, before_c = before_h * remember, before_c * remember
    # First the factors known for all steps; the loop multiplies by the gradients of cell or hidden.
    i, f, g, o = gates.chunk(4, dim=1)
    d_gates = torch.empty_like(gates)
    d_i, d_f, d_g, d_o = d_gates.chunk(4, dim=1)
    torch.ops.aten.sigmoid_backward(g, i, grad_input=d_i)
    torch.ops.aten.sigmoid_backward(before_c, f, grad_input=d_f)
    torch.ops.aten.tanh_backward(i, g, grad_input=d_g)
    torch.ops.aten.sigmoid_backward(tanh_cells, o, grad_input=d_o)
    cell_of_hidden = torch.ops.aten.tanh_backward(o, tanh_cells)
    by_gate = d_gates.view(steps, 4, size, sequences)
    d_hidden, d_cell = d_outputs[-1], torch.zeros_like(cells[0])
    for back in range(steps):
        t = steps - 1 - back
        d_cell = torch.addcmul(d_cell, d_hidden, cell_of_hidden[t])
        by_gate[t, :3].mul_(d_cell)
        by_gate[t, 3].mul_(d_hidden)
        if t > 0:
            d_hidden, d_cell = torch.mm(d_gates[t].t(), w_hidden).t(), d_cell * f[t]
            if forgets[t]:
                d_hidden, d_cell = d_hidden * remember[t], d_cell * remember[t]
            d_hidden = d_hidden + d_outputs[t - 1]
    return d_gates.transpose(0, 1).flatten(1), before_h.transpose(0, 1).flatten(1)
