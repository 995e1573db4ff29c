"""The benchmarks of geometry, input, forms and scaling, on tiny clouds; no time is asserted."""

import argparse

import forms
import input as input_benchmark
import matplotlib.image
import numpy as np
import pyramid
import pytest
import scaling
from step_cases import add_data_flags, make_balls, spec_of

TINY = ("model.paths=('plain',)", "model.first_features=4")


def tiny_args(*flags):
    parser = argparse.ArgumentParser()
    add_data_flags(parser)
    return parser.parse_args(["--preset", "tiny", "--rooms", "tiny", "--scenes", "1", *flags])


@pytest.mark.slow
def test_host_and_device_build_the_same_pyramid():
    config, balls = make_balls(spec_of(tiny_args(), "pyramid.builder=device"))
    row = pyramid.measure(config, balls, repeats=1)
    assert row["points_equal"] and row["overflow"] == 0
    # Neighbors at equal distance may differ where a list is cut.
    assert row["different_lists"] <= 0.01 * row["lists"]
    assert all(row[name] > 0 for name in ("host_ms", "device_ms", "points", "device_result_mb"))


def test_lists_are_compared_as_sets():
    config, balls = make_balls(spec_of(tiny_args(), "pyramid.builder=host"))
    first = pyramid.BucketBuilder(balls, config)([[0]], None).batch.pyramid
    turned = first._replace(neighbors=tuple(x[:, ::-1] for x in first.neighbors))
    lists = sum(map(len, (*first.neighbors, *first.pools)))
    assert pyramid.compare(first, turned) == (True, lists, 0)
    other = first.neighbors[0].copy()
    other[0, 0] = len(first.points[0]) - 1
    changed = first._replace(neighbors=(other, *first.neighbors[1:]))
    assert pyramid.compare(first, changed) == (True, lists, 1)


@pytest.mark.slow
@pytest.mark.parametrize("builder", ["host", "device"])
def test_input_is_counted_alone_and_with_its_step(builder):
    spec = spec_of(tiny_args(), *TINY, f"pyramid.builder={builder}", "data.workers=0")
    row = input_benchmark.measure(spec, num_steps=2, sleeps=[])
    assert row["builder"] == builder and row["workers"] == 0
    assert row["input_subclouds_per_s"] > 0 and row["training_points_per_s"] > 0
    assert 0 <= row["waiting_share"] < 1


@pytest.mark.slow
def test_a_step_may_sleep_as_long_as_a_device_would_take():
    spec = spec_of(tiny_args(), *TINY, "data.workers=0")
    row = input_benchmark.measure(spec, num_steps=2, sleeps=[1.0, 1e5])
    assert 0 <= row["waiting_share_at_100000_ms"] < row["waiting_share_at_1_ms"] <= 1


def test_padding_falls_as_buckets_grow():
    shares = [
        scaling.padding(spec_of(tiny_args(), f"pyramid.bucket_points={size}"))
        for size in (512, 2048)
    ]
    assert shares[0]["padding_level0"] > shares[1]["padding_level0"] > 0
    assert shares[0]["buckets"] > shares[1]["buckets"]


def test_every_series_varies_one_thing_and_is_drawn(tmp_path):
    args = tiny_args()
    args.sizes, args.counts, args.widths = (256, 512), (1, 2), (4, 8)
    cases = scaling.cases(args)
    assert len({spec for _, _, spec in cases}) == 6
    rows = [
        {"series": series, "value": value, "step_ms": 1.0, "program_mb": 2.0}
        for series, value, _ in cases
    ]
    rows += [{"series": "padding", "value": n, "padding_level0": 0.1} for n in (512, 1024)]
    scaling.draw(rows, tmp_path / "scaling.png")
    assert np.std(matplotlib.image.imread(tmp_path / "scaling.png")) > 0


@pytest.mark.slow
def test_all_forms_of_an_operation_agree():
    args = tiny_args("--set", "model.deformable=True", "pyramid.builder=host")
    config, balls = make_balls(spec_of(args, points_per_cloud=0))
    bucket = pyramid.BucketBuilder(balls, config)([[0]], None).batch.pyramid
    for operation in (forms.rigid, forms.deformable, forms.pooling):
        rows = forms.measure(operation(config, bucket), repeats=1)
        assert rows[0]["form"] == "ours" and len(rows) > 1
        assert all(row["ms"] > 0 and row["difference"] < 1e-4 for row in rows)
