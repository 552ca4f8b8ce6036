"""Cholesky factors, computed so that threads can work side by side.

scipy's Python wrappers of LAPACK keep the interpreter's lock while they compute; the same
functions, called through the pointers that scipy exports for Cython, do not.
"""

from __future__ import annotations

import ctypes
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from scipy.linalg import cython_blas, cython_lapack

_PREFIX = {np.dtype(np.float32): "s", np.dtype(np.float64): "d"}


class NotPositiveError(ArithmeticError):
    """A matrix is singular in the working precision."""


def factor(matrix: np.ndarray) -> np.ndarray:
    """Overwrite the lower triangle of a symmetric matrix with its Cholesky factor.

    Parameters
    ----------
    matrix : ndarray (n, n) float32 or float64
        In Fortran order.

    Raises
    ------
    NotPositiveError
        It is not positive definite in its precision.
    """
    n = len(matrix)
    if _call(cython_lapack, "potrf", b"L", n, matrix, n, 0):
        raise NotPositiveError
    return matrix


def invert(lower: np.ndarray) -> np.ndarray:
    """Overwrite a lower triangle with its inverse; what stands above is left as it is."""
    n = len(lower)
    _call(cython_lapack, "trtri", b"L", b"N", n, lower, n, 0)
    return lower


def solve_triangle(lower: np.ndarray, right: np.ndarray, *, transposed: bool) -> np.ndarray:
    """Overwrite every row ``r`` of ``right`` with ``L⁻¹ r``, or ``L⁻ᵀ r``.

    Parameters
    ----------
    lower : ndarray (n, n)
        In Fortran order.
    right : ndarray (n_sides, n)
        In C order, of the same type.
    transposed : bool
    """
    n, trans = len(lower), b"T" if transposed else b"N"
    one = np.ones(1, dtype=lower.dtype)
    _call(cython_blas, "trsm", b"L", b"L", trans, b"N", n, len(right), one, lower, n, right, n)
    return right


def solve_factored(lower: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Overwrite every row ``r`` of ``right`` (n_sides, n) with ``(L Lᵀ)⁻¹ r``."""
    n = len(lower)
    _call(cython_lapack, "potrs", b"L", n, len(right), lower, n, right, n, 0)
    return right


@cache
def _function(module: ModuleType, name: str, n_arguments: int) -> Any:
    capsule = module.__pyx_capi__[name]
    get_name = ctypes.pythonapi.PyCapsule_GetName
    get_name.restype, get_name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype, get_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    address = get_pointer(capsule, get_name(capsule))
    # Functions of this type give the lock back while they run.
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * n_arguments)(address)


def _call(module: ModuleType, name: str, *arguments: Any) -> int:
    """Call by reference, as Fortran wants it; return the last argument, LAPACK's ``info``."""
    arrays = [argument for argument in arguments if isinstance(argument, np.ndarray)]
    dtype = arrays[0].dtype
    for array in arrays:
        if array.dtype != dtype or dtype not in _PREFIX or not array.flags.forc:
            raise ValueError("factors: arrays must be contiguous, all of float32 or float64.")
    kept: list[tuple[Any, int]] = []
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            kept.append((argument, argument.ctypes.data))
            continue
        is_text = isinstance(argument, bytes)
        value = ctypes.create_string_buffer(argument) if is_text else ctypes.c_int(argument)
        kept.append((value, ctypes.addressof(value)))
    function = _function(module, _PREFIX[dtype] + name, len(arguments))
    function(*(address for _, address in kept))
    last = kept[-1][0]
    return int(last.value) if isinstance(last, ctypes.c_int) else 0
