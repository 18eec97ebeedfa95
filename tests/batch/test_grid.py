"""Grid files: how they expand, and that every fault is found before anything runs."""

import pytest
from batch.cases import PARAMETERS, write_grid, write_notebook

from lt_lib.batch.grid import GridError, load_grid, parse_duration
from lt_lib.batch.plan import make_plan


def points(grid, *names):
    return [tuple(point[name] for name in names) for point in grid.points]


def test_axes_and_seeds_multiply_in_the_order_of_the_file(make_grid):
    grid = make_grid("axes:\n  label: [b, a]\n  x: [1, 2]\nseeds: 2\n")
    assert points(grid, "label", "x", "seed") == [
        (label, x, seed) for label in "ba" for x in (1.0, 2.0) for seed in (0, 1)
    ]
    assert grid.varied == ("x", "seed", "label")
    assert points(grid, "flag", "profile") == [(False, "quick")] * 8
    assert "out_dir" not in grid.points[0]
    assert "checkpoint" not in grid.points[0]


def test_yaml_is_version_1_2(make_grid):
    grid = make_grid("axes:\n  x: [1e-3, 2E+1]\n  label: [no, off, 1:30]\n")
    assert points(grid, "x", "label")[:3] == [(0.001, "no"), (0.001, "off"), (0.001, "1:30")]
    assert {x for (x,) in points(grid, "x")} == {0.001, 20.0}


def test_an_axis_of_mappings_sets_parameters_that_go_together(make_grid):
    grid = make_grid("axes:\n  method: [{label: plain}, {label: strong, x: 3}]\n  flag: [true, false]\n")
    assert points(grid, "label", "x", "flag") == [
        ("plain", 1.0, True), ("plain", 1.0, False), ("strong", 3.0, True), ("strong", 3.0, False),
    ]  # fmt: skip


def test_excludes_remove_and_points_add_with_every_seed_they_do_not_name(make_grid):
    grid = make_grid(
        "axes: {x: [1, 2]}\nseeds: [4, 5]\nexclude: [{x: 2, seed: 5}]\npoints: [{x: 9}, {x: 7, seed: 1}]\n"
    )
    assert points(grid, "x", "seed") == [(1, 4), (1, 5), (2, 4), (9, 4), (9, 5), (7, 1)]


def test_an_exclude_may_name_what_is_fixed_or_left_at_its_default(make_grid):
    assert points(make_grid("axes: {x: [1, 2]}\nexclude: [{x: 1, flag: false}]\n"), "x") == [(2,)]


def test_points_alone_make_a_grid(make_grid):
    assert points(make_grid("points: [{x: 3}, {x: 4}]\n"), "x") == [(3,), (4,)]


def test_a_grid_without_axes_is_one_run(make_grid):
    assert points(make_grid("fixed: {x: 3}\n"), "x") == [(3,)]


@pytest.mark.faults
def test_points_that_say_the_same_are_one_run(make_grid):
    # The same point twice, a whole number for a real one, and a default that is stated.
    grid = make_grid("axes: {x: [100, 100.0]}\npoints: [{x: 100}, {x: 100, flag: false}, {x: 1}]\n")
    assert points(grid, "x") == [(100.0,), (1.0,)]
    assert grid.merged == 3
    assert len({run.id for run in make_plan(grid).runs}) == 2


FAULTS = {
    "unknown key": ("resource: {}", "`resource` is no key of a grid; did you mean `resources`?"),
    "unknown nested key": ("limits: {attemps: 1}", "`limits.attemps` is no key of a grid; did you mean `attempts`?"),
    "misspelt parameter": ("axes: {sed: [1]}", r"axes: `sed` must be a parameter of the notebook .* Nearest: seed"),
    "misspelt fixed": ("fixed: {lable: a}\naxes: {x: [1]}", "`lable` must be a parameter .* Nearest: label"),
    "type": ('axes: {x: ["2"]}', r"axes: `x` must be float, got '2' \(str\)"),
    "switch for a number": ("axes: {x: [true]}", r"`x` must be float, got True \(bool\)"),
    "yaml 1.1 switch": ("axes: {flag: [no]}", r"`flag` must be bool, got 'no' \(str\)"),
    "fraction for a whole number": ("axes: {seed: [1.5]}", r"`seed` must be int, got 1.5"),
    "range": ("axes: {x: [-1]}", "`x` must be >= 0, got -1"),
    "not a number": ("axes: {x: [.nan]}", "`x` must be finite, got nan"),
    "date": ("axes: {label: [2020-01-01]}", r"`label` must be str, got datetime.date"),
    "profile": ("profile: fast\naxes: {x: [1]}", "`profile` must be one of quick, small, paper, got 'fast'"),
    "profile twice": ("profile: quick\nfixed: {profile: quick}\naxes: {x: [1]}", "`profile` is given twice"),
    "empty axis": ("axes: {x: []}", "`axes.x` must be a list with at least one value"),
    "scalar axis": ("axes: {x: 3}", "`axes.x` must be a list with at least one value, got 3"),
    "value twice": ("axes: {x: [1, 1]}", "`axes` holds a value twice for x"),
    "two axes set one": ("axes: {x: [1], m: [{x: 2}]}", "`x` is set by more than one axis"),
    "fixed and varied": ("fixed: {x: 1}\naxes: {x: [2]}", "`x` is both fixed and varied"),
    "seeds and seed": ("axes: {seed: [1]}\nseeds: 2", "`seed` is set by more than one axis"),
    "seeds": ("axes: {x: [1]}\nseeds: 0", "`seeds` must be a number of seeds or a list"),
    "seeds twice": ("axes: {x: [1]}\nseeds: [1, 1]", "`seeds` must be different numbers"),
    "metric without room": (
        "axes: {x: [1]}\ndone: {metrics: {a: {min: 3, max: 1}}}",
        "`done.metrics.a` must have a `min` of at most its `max`, got {'min': 3, 'max': 1}",
    ),
    "exclude nothing": ("axes: {x: [1]}\nexclude: [{x: 2}]", r"`exclude\[0\]` matches no point"),
    "exclude everything": ("axes: {x: [1]}\nexclude: [{x: 1}]", "the grid has no points"),
    "bad point": ("points: [{y: 1}]", r"points\[0\]: `y` must be a parameter"),
    "filled parameter": ("fixed: {out_dir: a}\naxes: {x: [1]}", "`out_dir` is filled in by the engine"),
    "too many": (
        "axes: {x: [1]}\nseeds: 6\nlimits: {max_runs: 5}",
        "the grid has 6 points, more than `limits.max_runs`",
    ),
    "timeout": ("axes: {x: [1]}\nlimits: {run_timeout: soon}", "`limits.run_timeout` must be a time such as"),
    "attempts": ("axes: {x: [1]}\nlimits: {attempts: 0}", "`limits.attempts` must be a whole number of at least 1"),
    "cpus": ("axes: {x: [1]}\nresources: {cpus: 0.5}", "`resources.cpus` must be a whole number"),
    "gpus": ("axes: {x: [1]}\nresources: {gpus: 1.5}", "`resources.gpus` must be 0, a fraction"),
    "done files": ("axes: {x: [1]}\ndone: {files: [../a]}", "`done.files` must be a list of names inside"),
    "done metrics": ("axes: {x: [1]}\ndone: {metrics: {a: {min: low}}}", "`done.metrics.a` must be a mapping"),
    "sources": ("axes: {x: [1]}\nsources: [3]", "`sources` must hold texts, got 3"),
    "estimate": ("axes: {x: [1]}\nestimate: -1", "`estimate` must be a time"),
    "duplicate key": ("axes: {x: [1]}\naxes: {x: [2]}", 'no valid YAML 1.2: .*found duplicate key "axes"'),
}


@pytest.mark.faults
@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_found(make_grid, fault):
    text, message = FAULTS[fault]
    with pytest.raises(GridError, match=message):
        make_grid(text + "\n")


SEED = "seed: int = 0  # of everything random\n"


@pytest.mark.faults
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", r"seeds: `seed` must be a parameter of the notebook \(x, "),
        ('seed: str = "0"  # of everything random\n', r"seeds: `seed` must be str, got 0 \(int\)"),
        ("seed: int = 10  # seed, >= 10\n", "seeds: `seed` must be >= 10, got 0"),
    ],
)
def test_seeds_must_be_what_the_parameter_seed_takes(make_grid, line, message):
    parameters = PARAMETERS.replace(SEED, line)
    with pytest.raises(GridError, match=message) as caught:
        make_grid("axes: {x: [1]}\nseeds: 2\n", parameters=parameters)
    assert len(caught.value.problems) == 1


def test_a_seed_within_the_limits_of_its_parameter_is_fine(make_grid):
    parameters = PARAMETERS.replace(SEED, "seed: int = 10  # seed, >= 10\n")
    assert points(make_grid("seeds: [10, 11]\n", parameters=parameters), "seed") == [(10,), (11,)]


def test_all_faults_are_reported_at_once(make_grid):
    with pytest.raises(GridError) as caught:
        make_grid("axes: {sed: [1], x: [-1, a]}\nlimits: {attempts: 0}\nresource: {}\n")
    assert len(caught.value.problems) == 5
    assert all(problem in str(caught.value) for problem in caught.value.problems)
    assert "has 5 faults" in str(caught.value)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("", "must have a parameter `out_dir: str`"),
        ("out_dir: int = 0  # a\n", "must have a parameter `out_dir: str`"),
        ("x = 1\n", "must have a proper parameters cell.* must hold lines"),
        ("x: int = abs(1)  # a\n", "must have a proper parameters cell.* must have a literal default"),
        ("x: int = 'a'  # a\n", "must have a proper parameters cell.* `x` must be int"),
        ("x: int = (  # a\n", "must have a proper parameters cell"),
    ],
)
def test_a_notebook_without_proper_parameters_is_refused(make_grid, parameters, message):
    with pytest.raises(GridError, match=message):
        make_grid("points: [{x: 1}]\n", parameters=parameters)


@pytest.mark.faults
def test_a_notebook_needs_exactly_one_parameters_cell(tmp_path):
    path = write_grid(tmp_path, "axes: {x: [1]}\n")
    notebook = write_notebook(tmp_path / "n.ipynb", PARAMETERS)
    text = notebook.read_text()
    notebook.write_text(text.replace('"tags": ["parameters"]', ""))
    with pytest.raises(GridError, match="must have one cell tagged parameters, got 0"):
        load_grid(path)
    notebook.write_text(text.replace('"metadata": {}', '"metadata": {"tags": ["parameters"]}'))
    with pytest.raises(GridError, match="must have one cell tagged parameters, got 2"):
        load_grid(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "no valid YAML"), ("- 1", "must hold a mapping"), ("name: 3", "`notebook` must be a path")],
)
def test_a_file_that_is_no_grid_is_refused(tmp_path, content, message):
    (tmp_path / "g.yaml").write_text(content)
    with pytest.raises(GridError, match=message):
        load_grid(tmp_path / "g.yaml")


def test_missing_files_are_named(tmp_path):
    with pytest.raises(GridError, match="the file cannot be read"):
        load_grid(tmp_path / "none.yaml")
    (tmp_path / "g.yaml").write_text("name: g\nnotebook: none.ipynb\n")
    with pytest.raises(GridError, match="`notebook` must exist, got .*none.ipynb"):
        load_grid(tmp_path / "g.yaml")


@pytest.mark.parametrize(("text", "seconds"), [(90, 90), ("90s", 90), ("1.5 min", 90), ("2h", 7200), ("1d", 86400)])
def test_durations(text, seconds):
    assert parse_duration(text) == seconds
    assert parse_duration("2 weeks") is None
    assert parse_duration(True) is None
