"""Costs by module, counted from the text of compiled programs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from program_costs import Program


def program(function, *arguments):
    return Program(jax.jit(function).lower(*arguments).compile().as_text())


def test_a_product_takes_two_operations_for_each_of_its_products():
    def layer(rows, weights):
        with jax.named_scope("outer"), jax.named_scope("inner"):
            return rows @ weights

    rows, weights = np.ones((8, 16), np.float32), np.ones((16, 32), np.float32)
    costs = program(layer, rows, weights).by_module()["outer/inner"]
    assert costs.flop == 2 * 8 * 16 * 32
    assert costs.bytes == 4 * (8 * 16 + 16 * 32 + 8 * 32)
    assert costs.kernels == 1


def test_a_gather_reads_the_rows_it_takes():
    def take(rows, index):
        return rows[index] + 1

    rows, index = np.ones((10_000, 4), np.float32), np.zeros(10, np.int32)
    total = sum(costs.bytes for costs in program(take, rows, index).by_module().values())
    assert 2 * 160 <= total < 10 * 160


@pytest.mark.parametrize("turns", [1, 7])
def test_loops_count_as_often_as_they_run(turns):
    def repeat(rows):
        with jax.named_scope("loop"):
            return jax.lax.fori_loop(0, turns, lambda _, x: jnp.sin(x @ x), rows)

    costs = program(repeat, np.ones((16, 16), np.float32)).by_module()
    assert sum(part.flop for part in costs.values()) == turns * 2 * 16**3


def test_exchanges_between_devices_are_counted():
    mesh = jax.sharding.Mesh(jax.devices()[:2], ("data",))

    def total(rows):
        return jax.lax.psum(rows, "data")

    mapped = jax.shard_map(total, mesh=mesh, in_specs=jax.P("data"), out_specs=jax.P())
    assert program(mapped, np.ones(4, np.float32)).collectives() == {"all-reduce": 1}


TPU = """HloModule step

%fused (p.1: f32[100,3]) -> f32[100,3] {
  %p.1 = f32[100,3]{1,0:T(8,128)} parameter(0)
  ROOT %add.2 = f32[100,3]{1,0:T(8,128)} add(%p.1, %p.1)
}

ENTRY %main (a.1: f32[100,3]) -> f32[100,3] {
  %a.1 = f32[100,3]{1,0:T(8,128)} parameter(0), metadata={op_name="a"}
  ROOT %fusion.1 = f32[100,3]{1,0:T(8,128)} fusion(%a.1), calls=%fused, metadata={OP}
}
""".replace("OP", 'op_name="jit(f)/jvp(Net)/block/add"')


def test_tiles_count_with_their_padding():
    costs = Program(TPU).by_module()
    assert costs["block"].bytes == 2 * 4 * 104 * 128  # 100 rows of 3 in tiles of 8 x 128


def test_the_largest_results_come_first():
    def grow(row):
        return jnp.sort(jnp.outer(row, row), axis=0), jnp.sort(row)

    sizes = [size for size, *_ in program(grow, np.ones(64, np.float32)).largest(3)]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] == 4 * 64 * 64
