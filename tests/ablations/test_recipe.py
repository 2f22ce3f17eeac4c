import copy

import pytest

from ablations.errors import RecipeError
from ablations.recipe import Recipe, changes, component, overlaps

CONFIG = {
    "trainer": {"max_epochs": 3, "callbacks": [component("callbacks.LinearWarmup", {"epochs": 5})]},
    "model": component("lit.Module", {"loss": component("torch.nn.CrossEntropyLoss", {"label_smoothing": 0.0})}),
    "data": component("my.Data", {"transforms": None, "size": 8}),
}


def difference(edit):
    recipe = Recipe(CONFIG)
    edit(recipe)
    return [(change.path, change.old, change.new) for change in changes(CONFIG, recipe.config)]


def test_set_steps_through_init_args_and_changes_one_value():
    assert difference(lambda r: r.set("model.loss.label_smoothing", 0.1)) == [("model.loss.label_smoothing", 0.0, 0.1)]


def test_a_recipe_does_not_share_its_configuration_with_its_maker():
    before = copy.deepcopy(CONFIG)
    Recipe(CONFIG).set("model.loss.label_smoothing", 0.1)
    assert before == CONFIG


def test_swap_inherits_nothing():
    swapped = component("my.Loss", {"gamma": 2})
    assert difference(lambda r: r.swap("model.loss", "my.Loss", gamma=2)) == [
        ("model.loss", CONFIG["model"]["init_args"]["loss"], swapped)
    ]


def test_add_appends_to_a_list_that_is_empty_or_not():
    added = component("my.Crop", {"padding": 1})
    assert difference(lambda r: r.add("data.transforms", "my.Crop", padding=1)) == [
        ("data.transforms.Crop", None, added)
    ]
    assert difference(lambda r: r.add("trainer.callbacks", "my.EMA"))[0][0] == "trainer.callbacks.EMA"


def test_edit_changes_a_callback_that_is_there():
    assert difference(lambda r: r.edit("LinearWarmup", epochs=2)) == [("trainer.callbacks.LinearWarmup.epochs", 5, 2)]


def test_the_second_component_of_a_class_in_a_list_has_a_number():
    def twice(recipe):
        recipe.add("trainer.callbacks", "callbacks.LinearWarmup", epochs=1)
        recipe.set("trainer.callbacks.LinearWarmup#2.epochs", 7)

    assert [(path, new["init_args"]) for path, _, new in difference(twice)] == [
        ("trainer.callbacks.LinearWarmup#2", {"epochs": 7})
    ]


def test_components_that_change_places_are_a_change():
    def turn(recipe):
        recipe.add("trainer.callbacks", "my.EMA")
        recipe.config["trainer"]["callbacks"].reverse()

    recipe = Recipe(CONFIG)
    recipe.add("trainer.callbacks", "my.EMA")
    turned = Recipe(recipe.config)
    turned.config["trainer"]["callbacks"].reverse()
    assert [change.path for change in changes(recipe.config, turned.config)] == ["trainer.callbacks"]


def test_true_is_not_one():
    assert [change.new for change in changes({"a": 1}, {"a": True})] == [True]


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda r: r.set("model.loss.label_smothing", 0.1), "Did you mean 'label_smoothing'?"),
        (lambda r: r.set("modle.loss", 1), "the recipe has no 'modle'. Did you mean 'model'?"),
        (lambda r: r.set("model.loss.label_smoothing.x", 1), "it has no parts that could be named"),
        (lambda r: r.get("data.zzz"), "There are: transforms, size."),
        (lambda r: r.set("model.loss", 3), "a component, and cannot become 3"),
        (lambda r: r.add("data.size", "my.Crop"), "not a list"),
        (lambda r: r.edit("EMA", decay=0.9), "trainer.callbacks has no 'EMA'"),
        (lambda r: r.swap("model.head", "my.Head"), "model has no 'head'"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused(edit, says):
    with pytest.raises(RecipeError) as error:
        edit(Recipe(CONFIG))
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [("a.b", "a.b", True), ("a.b", "a", True), ("a", "a.b.c", True), ("a.b", "a.bc", False), ("a.b", "a.c", False)],
)
def test_paths_overlap_when_one_holds_the_other(one, other, expected):
    assert overlaps(one, other) is expected
