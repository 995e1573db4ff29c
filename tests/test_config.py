"""Settings: checked where they are made, changed by name, the same after a round trip."""

import dataclasses
import json
import re

import pytest

from mprm_jax.config import (
    AS_BEFORE,
    OPEN,
    Config,
    DataConfig,
    MiningConfig,
    flat,
    from_json,
    to_json,
    to_values,
)
from mprm_jax.overrides import explain_settings, override, section_names, setting_names
from mprm_jax.presets import FORMER, PRESETS, STAGES
from mprm_jax.store.manifest import StoreSettings
from mprm_jax.types import PATHS

CONFIG = Config()


def values_of(config):
    return json.loads(to_json(config))


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_survives_json(name):
    config = override(PRESETS[name](), ["pyramid.conv_radius=3", "optim.clip_norm=7"])
    assert from_json(to_json(config)) == config


def test_tuples_survive_json():
    config = override(PRESETS["paper"](), ["pyramid.conv_neighbors=(3, 4, 5)"])
    assert from_json(to_json(config)) == config


def test_paper_is_the_paper():
    cls, seg = (PRESETS["paper"](stage) for stage in STAGES)
    assert cls.mining == MiningConfig(fusion="max", votes=1, calibration="none")  # eq. 2 and 4.2.4
    assert cls.model.attention_unary == "plain"  # 4.2.1
    assert cls.model.dropout == 0.5 and not cls.model.head_bias and cls.model.pooling == "mean"
    assert (cls.optim.epochs, seg.optim.epochs) == (400, 200)  # 5.2, 5.3


@pytest.mark.parametrize("stage", STAGES)
def test_paper_validates_at_most_twenty_times(stage):
    """A validation reads 312 scenes."""
    config = PRESETS["paper"](stage)
    assert config.optim.epochs / config.log.eval_epochs <= 20


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_bears_its_name(name, stage):
    assert PRESETS[name](stage).preset == name


def test_presets_can_be_compared_and_hashed():
    configs = {preset(stage) for preset in PRESETS.values() for stage in STAGES}
    assert len(configs) == len(PRESETS) * len(STAGES)


@pytest.mark.parametrize("name", PRESETS)
def test_both_stages_of_a_preset_read_the_same_store(name):
    cls, seg = (StoreSettings.of(PRESETS[name](stage).data) for stage in STAGES)
    assert cls == seg


def test_json_with_unknown_settings_is_of_a_newer_version():
    values = values_of(CONFIG) | {"tags": {"by": "me"}}
    values["optim"]["nesterov"] = True
    newer = "does not know optim.nesterov, tags: a newer one wrote it; update mprm_jax"
    with pytest.raises(ValueError, match=newer):
        from_json(json.dumps(values))


def test_json_without_a_setting_takes_its_default():
    values = values_of(override(CONFIG, ["data.voxel_size=0.3"]))
    del values["data"]["voxel_size"], values["seg"]
    assert from_json(json.dumps(values)) == CONFIG


@pytest.mark.parametrize("name", AS_BEFORE)
def test_json_without_a_setting_is_as_before_where_the_default_is_not(name):
    values = values_of(CONFIG)
    section, field = name.split(".")
    default = values[section].pop(field)
    found = getattr(getattr(from_json(json.dumps(values)), section), field)
    assert found == AS_BEFORE[name] != default


@pytest.mark.parametrize("section", ["data", "optim"])
def test_json_without_a_section_takes_its_defaults(section):
    values = values_of(CONFIG)
    del values[section]
    assert from_json(json.dumps(values)) == CONFIG


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ([], r"a config wants settings by name, got \[\]"),
        ({"optim": 3}, "optim wants settings by name, got 3"),
        ({"optim": {"epochs": "many"}}, "optim.epochs is 'many', which is of another type"),
        ({"optim": {"epochs": 2.5}}, "optim.epochs is 2.5, which is of another type"),
        ({"pyramid": {"coarse_points": ["a", "b"]}}, "pyramid.coarse_points is .* another type"),
        ({"seed": None}, "seed is None, which is of another type"),
    ],
)
def test_json_of_another_shape_is_refused(values, named):
    with pytest.raises(ValueError, match=named):
        from_json(json.dumps(values))


def test_settings_that_are_calibrated_are_left_open_by_default():
    defaults = flat(to_values(CONFIG))
    assert {name: defaults[name] for name in OPEN} == OPEN


@pytest.mark.parametrize("preset", FORMER)
def test_former_values_of_a_preset_are_of_settings_that_changed(preset):
    now = [flat(to_values(PRESETS[preset](stage))) for stage in STAGES]
    for name, values in FORMER[preset].items():
        assert any(values_now[name] not in values for values_now in now), name


def test_json_is_checked_like_a_config():
    values = values_of(CONFIG)
    values["data"]["voxel_size"] = -1
    with pytest.raises(ValueError, match=r"data\.voxel_size is -1"):
        from_json(json.dumps(values))


def test_an_override_changes_its_setting_only():
    changed = override(CONFIG, ["optim.epochs=7"])
    assert changed == dataclasses.replace(CONFIG, optim=dataclasses.replace(CONFIG.optim, epochs=7))


def test_the_last_override_wins():
    assert override(CONFIG, ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("assignments", "min_steps"),
    [
        (["seed=1"], 1200),
        (["optim.epochs=2"], 0),
        (["optim.epochs=2", "optim.min_steps=300"], 300),
        (["optim.min_steps=300", "optim.epochs=2"], 300),
    ],
)
def test_who_names_epochs_gets_so_many(assignments, min_steps):
    assert override(PRESETS["quick"](), assignments).optim.min_steps == min_steps


@pytest.mark.parametrize(
    "assignments",
    [
        ["augment.min_scale=1.5", "augment.max_scale=2.0"],
        ["augment.mix=0.5", "augment.grid=moved"],
        ["pyramid.coarse_points=(128,)", "pyramid.num_levels=2"],
    ],
)
def test_settings_that_belong_together_may_be_named_in_any_order(assignments):
    config = override(PRESETS["quick"](), ["pyramid.num_levels=3", "augment.grid=fixed"])
    one, other = (override(config, order) for order in (assignments, assignments[::-1]))
    assert one == other
    with pytest.raises(ValueError):
        override(config, assignments[:1])


@pytest.mark.parametrize("stage", STAGES)
def test_only_quick_adds_epochs_and_not_on_rooms(stage):
    """On rooms:quick it has 1240 steps, in the second stage 3800."""
    least = {name: preset(stage).optim.min_steps for name, preset in PRESETS.items()}
    assert least == {"tiny": 0, "quick": 1200 if stage == "cls" else 3600, "paper": 0}


def test_a_setting_without_a_section_can_be_overridden():
    assert override(CONFIG, ["seed=3"]).seed == 3


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("data.seeds=centres", "centres"),
        ("data.seeds='centres'", "centres"),
        ("model.deformable=False", False),
        ("pyramid.coarse_points=(512, 128)", (512, 128)),
        ("pyramid.coarse_points=()", ()),
        ("model.paths=plain", ("plain",)),
        ("model.paths=('plain', 'channel')", ("plain", "channel")),
    ],
)
def test_values_are_python_literals_or_words(assignment, value):
    section, field = re.match(r"(\w+)\.(\w+)", assignment).groups()
    assert getattr(getattr(override(CONFIG, [assignment]), section), field) == value


def test_a_whole_number_for_a_float_becomes_one():
    rate = override(CONFIG, ["optim.learning_rate=1"]).optim.learning_rate
    assert isinstance(rate, float)


@pytest.mark.parametrize(
    ("assignment", "hint"),
    [
        ("optim.learning_rat=1", "optim.learning_rate"),
        ("model.drop=0.1", "model.dropout"),
        ("optimizer.epochs=3", "optim.epochs"),
        ("mining.xyz=1", "mining.fusion"),
        ("zzz=1", "data.voxel_size, "),
    ],
)
def test_unknown_setting_names_the_valid_ones(assignment, hint):
    with pytest.raises(ValueError, match=rf"unknown setting; did you mean .*{re.escape(hint)}"):
        override(CONFIG, [assignment])


def test_a_field_of_a_field_is_unknown():
    with pytest.raises(ValueError, match="unknown setting"):
        override(CONFIG, ["data.seeds.first=1"])


def test_a_section_names_its_fields():
    fields = ", ".join(field.name for field in dataclasses.fields(DataConfig))
    with pytest.raises(ValueError, match=f"name a field of this section: {fields}"):
        override(CONFIG, ["data=1"])


def test_a_missing_equals_sign_is_shown():
    with pytest.raises(ValueError, match=r"--set seed: expected section\.field=value"):
        override(CONFIG, ["seed"])


@pytest.mark.parametrize(
    ("assignment", "wanted"),
    [
        ("optim.epochs=2.5", "int"),
        ("optim.epochs=many", "int"),
        ("optim.epochs=True", "int"),
        ("optim.learning_rate=fast", "float"),
        ("model.deformable=1", "bool"),
        ("data.seeds=3", "str"),
        ("pyramid.coarse_points=(1.5, 2)", r"tuple\[int"),
        ("model.paths=(1, 2)", r"tuple\[str"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(assignment, wanted):
    with pytest.raises(ValueError, match=rf"wants {wanted}"):
        override(CONFIG, [assignment])


@pytest.mark.parametrize(
    "assignment",
    [
        "data.voxel_size=0",
        "data.workers=-1",
        "data.seeds=corners",
        "pyramid.percentile=101",
        "pyramid.conv_neighbors=(1, 2)",
        "pyramid.coarse_points=(1, 2, 3)",
        "augment.noise=-0.1",
        "augment.min_scale=1.2",
        "augment.drop_color=1.1",
        "augment.mix=-0.5",
        "model.dropout=1.0",
        "model.keep=1.5",
        "model.paths=()",
        "model.paths=('plain', 'plain')",
        "model.paths=dual",
        "optim.optimizer=adam",
        "optim.momentum=1.0",
        "optim.clip_norm=0",
        "optim.ema=1",
        "log.keep_last=0",
        "mining.fusion=mean",
        "seg.radius=0",
        "seg.covers=0",
        "seg.class_weights=inverse",
        "model.first_deformable=-1",
        "seed=-1",
    ],
)
def test_a_value_out_of_range_names_its_setting(assignment):
    name = assignment.partition("=")[0]
    with pytest.raises(ValueError, match=rf"^{re.escape(name)} "):
        override(CONFIG, [assignment])


def test_not_a_number_is_out_of_range():
    with pytest.raises(ValueError, match=r"data\.voxel_size is nan"):
        DataConfig(voxel_size=float("nan"))


def test_settings_are_listed_by_section():
    names = setting_names(CONFIG)
    assert names[:3] == ["preset", "seed", "data.scale"]
    assert len(names) == len(set(names)) > 40


def test_every_listed_setting_can_be_set_to_its_value():
    for name in setting_names(CONFIG):
        value = CONFIG
        for key in name.split("."):
            value = getattr(value, key)
        assert override(CONFIG, [f"{name}={value!r}"]) == CONFIG


def test_the_paper_preset_has_the_paper_widths():
    config = PRESETS["paper"]()
    assert (config.data.voxel_size, config.data.sphere_radius) == (0.04, 2.0)
    assert (config.model.first_features, config.model.num_kernel_points) == (64, 15)
    assert config.model.deformable and config.model.paths == PATHS


def test_the_paper_preset_has_the_released_segmentation_network():
    config = PRESETS["paper"]("seg")
    assert (config.pyramid.num_levels, config.model.first_features) == (5, 64)
    assert (config.model.first_deformable, config.seg.radius) == (2, 2.0)
    assert config.model.head_bias and config.model.dropout == 0
    assert config.seg.class_weights == "none"


def test_every_setting_says_what_it_means():
    sections = [CONFIG, *(getattr(CONFIG, name) for name in section_names())]
    for section in sections:
        for field in dataclasses.fields(section):
            if not dataclasses.is_dataclass(field.type):
                assert len(field.metadata["about"].meaning) > 10, field.name


def explained(*chosen, preset="quick", stage="cls"):
    return explain_settings(PRESETS[preset](stage), stage, chosen)


def test_an_explanation_has_meaning_unit_choices_and_the_value_in_every_preset():
    assert explained("data.voxel_size", "data.seeds").splitlines()[3:] == [
        "data: How scans are read and which weakly labeled balls are drawn.",
        "  data.voxel_size=0.08              voxels of level 0 of every network; fixed by prepare",
        f"{'':36}[meters; a value above 0; tiny: 0.16, quick: 0.08, paper: 0.04]",
        "  data.seeds=ends                   centers of the balls: a grid with both ends (released "
        "code), or",
        f"{'':36}the centers of its cells",
        f"{'':36}[ends | centres]",
    ]


def test_values_are_explained_of_the_stage():
    assert "[epochs; a value above 0; tiny: 2, quick: 6, paper: 200]" in explained(stage="seg")


def test_a_section_can_be_explained_alone():
    listed = re.findall(r"^  (\S+)=", explained("seg", "seed"), re.MULTILINE)
    assert listed == ["seed", *(name for name in setting_names(CONFIG) if name[:4] == "seg.")]


@pytest.mark.parametrize("preset", PRESETS)
def test_explanations_fit_a_hundred_columns(preset):
    assert max(len(line) for line in explained(preset=preset).splitlines()) <= 100


def test_what_cannot_be_explained_names_what_is_near():
    with pytest.raises(ValueError, match=r"--set help optm: unknown; did you mean optim,"):
        explained("optm")
