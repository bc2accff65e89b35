"""Every kernel there is, and its definition: the naive loops that lowering begins with."""

from __future__ import annotations

from jit.kernels.batch import BatchKernel, naive_batch
from jit.kernels.block import BlockKernel, naive_block
from jit.kernels.channelwise import (
    ElementKernel,
    HaloKernel,
    PoolKernel,
    RelayoutKernel,
    naive_element,
    naive_halo,
    naive_pool,
    naive_relayout,
)
from jit.kernels.conv import ConvKernel, naive
from jit.kernels.depthwise import DepthwiseKernel, naive_depthwise
from jit.kernels.gather import (
    BlendKernel,
    EmbeddingKernel,
    TakeKernel,
    naive_blend,
    naive_embedding,
    naive_take,
)
from jit.kernels.listed import ListedKernel
from jit.kernels.matmul import MatmulKernel, naive_matmul
from jit.kernels.norms import (
    LocalResponseKernel,
    NormKernel,
    naive_local_response,
    naive_norm,
)
from jit.kernels.panel import PanelKernel, naive_positions
from jit.kernels.plain import MapKernel, ReduceKernel, naive_map, naive_reduce
from jit.kernels.recurrent import CellKernel, naive_cell
from jit.kernels.softmax import SoftmaxKernel, naive_softmax
from jit.kernels.turn import TurnKernel, naive_turn
from jit.kernels.winograd import (
    WinogradInputKernel,
    WinogradOutputKernel,
    naive_winograd_input,
    naive_winograd_output,
)
from jit.program import Program

Kernel = (
    ConvKernel
    | PanelKernel
    | ListedKernel
    | BlockKernel
    | BatchKernel
    | TurnKernel
    | PoolKernel
    | ElementKernel
    | RelayoutKernel
    | HaloKernel
    | SoftmaxKernel
    | MapKernel
    | ReduceKernel
    | TakeKernel
    | BlendKernel
    | EmbeddingKernel
    | MatmulKernel
    | CellKernel
    | NormKernel
    | LocalResponseKernel
    | DepthwiseKernel
    | WinogradInputKernel
    | WinogradOutputKernel
)


def definition(kernel: Kernel) -> Program:
    """The naive loops of a kernel."""
    match kernel:
        case ConvKernel():
            return naive(kernel)
        case PanelKernel() | ListedKernel():
            return naive_positions(kernel)
        case BlockKernel():
            return naive_block(kernel)
        case BatchKernel():
            return naive_batch(kernel)
        case TurnKernel():
            return naive_turn(kernel)
        case PoolKernel():
            return naive_pool(kernel)
        case ElementKernel():
            return naive_element(kernel)
        case RelayoutKernel():
            return naive_relayout(kernel)
        case HaloKernel():
            return naive_halo(kernel)
        case MapKernel():
            return naive_map(kernel)
        case ReduceKernel():
            return naive_reduce(kernel)
        case TakeKernel():
            return naive_take(kernel)
        case BlendKernel():
            return naive_blend(kernel)
        case EmbeddingKernel():
            return naive_embedding(kernel)
        case SoftmaxKernel():
            return naive_softmax(kernel)
        case MatmulKernel():
            return naive_matmul(kernel)
        case CellKernel():
            return naive_cell(kernel)
        case NormKernel():
            return naive_norm(kernel)
        case LocalResponseKernel():
            return naive_local_response(kernel)
        case DepthwiseKernel():
            return naive_depthwise(kernel)
        case WinogradInputKernel():
            return naive_winograd_input(kernel)
        case WinogradOutputKernel():
            return naive_winograd_output(kernel)
