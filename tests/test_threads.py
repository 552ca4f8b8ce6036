import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from braindecode_clip.threads import n_blas_threads, run_blocks


@pytest.mark.parametrize("n_threads", [1, 2])
def test_every_block_is_done_once_with_one_thread_of_algebra(n_threads):
    rng = np.random.default_rng(0)
    data, found, seen = rng.standard_normal((40, 300)), np.zeros((40, 300)), []
    matrix = rng.standard_normal((40, 40))

    def work(part):
        seen.append((part.start, n_blas_threads(), threading.current_thread().name))
        found[:, part] += matrix @ data[:, part]

    with threadpool_limits(n_threads, user_api="blas"):
        run_blocks(work, [slice(start, start + 32) for start in range(0, 300, 32)])
        assert n_blas_threads() == n_threads
    np.testing.assert_allclose(found, matrix @ data, rtol=1e-12)
    assert sorted(start for start, _, _ in seen) == list(range(0, 300, 32))
    assert {algebra for _, algebra, _ in seen} == {1}
    in_main = {name == threading.main_thread().name for _, _, name in seen}
    assert in_main == {n_threads == 1}


@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_fault_in_a_block_is_raised_and_the_limit_lifted(n_threads):
    def work(number):
        if number == 3:
            raise ValueError("block 3")

    with threadpool_limits(n_threads, user_api="blas"):
        with pytest.raises(ValueError, match="block 3"):
            run_blocks(work, range(6))
        assert n_blas_threads() == n_threads
