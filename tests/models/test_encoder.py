import jax
import numpy as np
import pytest
from clouds import pack, surface_cloud

from mprm_jax.config import ModelConfig
from mprm_jax.models.encoder import Encoder

# mprm training_mprm.py, counted from the shapes of its variables; nothing of ours differs: no bias
# in any convolution, one scale and one bias per normalized channel.
PAPER_PARAMETERS = {
    "level0_simple": 3_968,
    "level0_block": 30_336,
    "level0_stride": 23_936,
    "level1_block": 163_309,
    "level1_stride": 138_221,
    "level2_block": 564_141,
}


@pytest.fixture(scope="module")
def bucket():
    return pack([surface_cloud(40, 0), surface_cloud(30, 1)])


def parameters(config, bucket):
    features = np.ones((96, 4), np.float32)
    encoder = Encoder(config, voxel_size=0.04)
    return jax.eval_shape(encoder.init, jax.random.key(0), bucket, features)["params"]


def test_paper_widths_have_the_parameters_of_the_released_backbone(bucket):
    blocks = parameters(ModelConfig(), bucket)
    sizes = {name: sum(x.size for x in jax.tree.leaves(block)) for name, block in blocks.items()}
    assert sizes == PAPER_PARAMETERS
    assert sum(sizes.values()) == 923_911


def test_offsets_are_learned_in_the_last_three_blocks_only(bucket):
    blocks = parameters(ModelConfig(), bucket)
    deformable = {name for name, block in blocks.items() if "offset_weights" in block["conv"]}
    assert deformable == {"level1_block", "level1_stride", "level2_block"}
    rigid = parameters(ModelConfig(deformable=False), bucket)
    assert not any("offset_weights" in block["conv"] for block in rigid.values())


def test_each_level_gives_its_rows_and_doubles_the_features(bucket):
    encoder = Encoder(ModelConfig(first_features=8), voxel_size=0.08)
    features = np.ones((96, 4), np.float32)
    outputs, _ = jax.eval_shape(encoder.init_with_output, jax.random.key(0), bucket, features)
    assert [output.shape for output in outputs] == [(96, 16), (48, 32), (24, 64)]
