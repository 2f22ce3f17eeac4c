"""The keys under which trainings and scores are stored.

Everything that decides a training's weights belongs to its key, and nothing else does: rows with the same key share
their trainings, and a row that occurs in several studies is trained once.
"""

import functools
import hashlib
import importlib
import json
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning import LightningDataModule

from ablations.errors import StudyError
from ablations.parsing import build_data
from ablations.plan import Scoring
from ablations.recipe import arguments_of, is_component
from ablations.references import TRAINING, reference_to
from ablations.seeding import seeded

OURS = {"ablations", "lit_modules", "datamodules", "callbacks"}
PRESENTATION = {
    "logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing", "default_root_dir",
    "log_every_n_steps", "profiler", "model_registry", "enable_autolog_hparams",
}  # fmt: skip
"""Arguments of the trainer that do not decide the weights."""

WHERE = {"data_dir", "cache_dir", "download", "num_workers"}
"""Arguments of data that say where it is and who reads it; what is in it has a fingerprint."""

INSTALLED = {"site-packages", "dist-packages"}
"""Names of the folders into which libraries are installed."""


def training_key(recipe: dict[str, Any]) -> str:
    """Return the key under which the trainings of a recipe are stored: a hash of all that decides its weights.

    That is the trajectory (data, model, trainer and active callbacks, not the seed), the content of the data set and of
    other files that it reads, and the source of the user's own classes in it. Observers and inference are left out.
    """
    if "vary" in recipe:
        recipe = seeded(recipe, 0)  # a recipe that was written for one seed is that of all seeds
    trajectory = {
        "model": recipe["model"],
        "data": _without_place(recipe["data"]),
        "trainer": {name: value for name, value in recipe["trainer"].items() if name not in PRESENTATION},
    }
    trajectory["trainer"]["callbacks"] = [
        callback for callback in recipe["trainer"].get("callbacks") or [] if not observes_only(callback)
    ]
    code = {path: _user_code(path) for path in set(_class_paths(trajectory))}
    parts: dict[str, Any] = {
        "trajectory": trajectory,
        "data": _fingerprint(json.dumps(recipe["data"])),
        "code": {path: digest for path, digest in code.items() if digest is not None},
    }
    if files := list(_source_files(trajectory)):
        parts["files"] = files
    if "vary" in recipe:
        parts["vary"] = recipe["vary"]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _without_place(data: dict[str, Any]) -> dict[str, Any]:
    """Return a `data` section without what does not decide which images are trained on, and how."""
    arguments = {name: value for name, value in arguments_of(data).items() if name not in WHERE}
    return {**data, "init_args": arguments}


def scoring_of(recipe: dict[str, Any]) -> tuple[str, Scoring]:
    """Return how a recipe is scored, and the name under which that score is stored.

    The name is that of the weights, unless the recipe scores them plainly with a hash of how. Weights that a callback
    keeps are named with a hash of that callback: studies that keep other averages may share the training.
    """
    section = recipe["inference"]
    weights = section["weights"]
    for callback in recipe["trainer"].get("callbacks") or []:
        if _provides(callback) == weights:
            weights = weights_name(callback)
    how = {key: value for key, value in section.items() if key != "weights" and value is not None}
    if files := list(_source_files(how)):
        how["files"] = files
    return (f"{weights}-{_digest(how)}" if how else weights), Scoring(weights, section)


def scorings_of(recipe: dict[str, Any], key: str) -> dict[str, Scoring]:
    """Return how a recipe is scored, by name, its own score last; an ensemble needs the score of its first member too.

    Args:
        recipe: a resolved recipe.
        key: the key of its trainings.
    """
    name, scoring = scoring_of(recipe)
    ensemble = recipe["inference"].get("ensemble")
    if not ensemble:
        return {name: scoring}
    alone, plain = scoring_of({**recipe, "inference": {**recipe["inference"], "ensemble": None}})
    arguments = ensemble["init_args"]
    members = (reference_to(key, alone), *arguments["members"])
    return {alone: plain, name: replace(scoring, members=members, group=arguments["seeds"])}


def weights_name(callback: dict[str, Any]) -> str:
    """Return the name under which the weights that a callback keeps are stored."""
    return f"{_provides(callback)}-{_digest(callback)}"


@functools.cache
def class_of(class_path: str) -> Any:
    """Return the class, or the function, that a component names."""
    module, _, name = class_path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def observes_only(callback: dict[str, Any]) -> bool:
    return bool(getattr(class_of(callback["class_path"]), "observes_only", False))


def kept_weights(recipe: dict[str, Any]) -> list[str]:
    """Return the names of the weights that a training of this recipe leaves behind."""
    callbacks = recipe["trainer"].get("callbacks") or []
    return ["last", *filter(None, map(_provides, callbacks))]


def _provides(callback: dict[str, Any]) -> str:
    return getattr(class_of(callback["class_path"]), "provides", "")


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def _fingerprint(data: str) -> str | None:
    """Return the content fingerprint of the data set of a `data` section; `None` if its class has none."""
    return fingerprinted(data)[1]


@functools.cache
def fingerprinted(data: str) -> tuple[LightningDataModule | None, str | None]:
    """Return the data set of a `data` section with its content fingerprint; `None` twice if its class has none.

    Args:
        data: the section, as JSON.

    Raises:
        StudyError: if the data set is not there, or not whole.
    """
    section = json.loads(data)
    if not hasattr(class_of(section["class_path"]), "fingerprint"):
        return None, None
    try:
        module = build_data(section)
        return module, str(module.fingerprint())  # type: ignore[attr-defined]  # found by hasattr above
    except (ValueError, OSError) as error:
        raise StudyError(f"data: {error}") from error


def _class_paths(value: Any) -> Iterator[str]:
    if is_component(value):
        yield value["class_path"]
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _class_paths(item)


def _source_files(value: Any) -> Iterator[str]:
    """Yield the content hashes of the files that the components of a recipe read, such as pretrained weights."""
    if is_component(value):
        list_files = getattr(class_of(value["class_path"]), "source_files", None)
        try:
            files = list_files(arguments_of(value)) if list_files else []
        except (ValueError, OSError) as error:
            raise StudyError(f"{value['class_path']}: {error}") from error
        for path in files:
            if not str(path).startswith(TRAINING):  # another training's weights: what it names is its content
                yield _file_hash(path)
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _source_files(item)


@functools.cache
def _file_hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StudyError(f"{path} cannot be read: {error.strerror or error}.") from error


@functools.cache
def _user_code(class_path: str) -> str | None:
    """Return the hash of the file that defines a class, if that file is neither ours nor an installed library's."""
    name = class_of(class_path).__module__
    path = getattr(sys.modules.get(name), "__file__", None)
    if path is None or name.partition(".")[0] in OURS:
        return None
    file = Path(path).resolve()
    standard = (Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "platstdlib"))
    # Libraries need not lie in this interpreter's own folder: clusters have them elsewhere, on PYTHONPATH.
    if not INSTALLED.isdisjoint(file.parts) or any(map(file.is_relative_to, standard)):
        return None
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
