"""Finds and reads study files.

Reading needs neither torch nor the recipe: whatever can be said about the file alone is said here, all at once.
"""

import re
import sys
from pathlib import Path
from typing import Any

from ablations.errors import StudyError, UserError, did_you_mean
from ablations.metric_kinds import MetricKind, metric_kind
from ablations.registry import TASKS
from ablations.seeding import ALWAYS, VARY
from ablations.study import MAX_ROWS, MODES, SHAPLEY_ORDERS, Reference, Study, TrickUse
from ablations.tracking import check_project
from ablations.yaml_file import read_mapping

HERE = Path(__file__).parent
INLINE_VERBS = ("set", "swap", "add", "edit")


def find_study(name: str) -> Path:
    """Return the file of a study that is named by its path or, for the studies that come along, by its name.

    Raises:
        StudyError: no such file; the message names the nearest study.
    """
    path = Path(name)
    if path.suffix in {".yaml", ".yml"} or path.is_file():
        if path.is_file():
            return path.resolve()
        raise StudyError(f"study {name} does not exist.{did_you_mean(path.stem, packaged_studies())}")
    packaged = HERE / "studies" / f"{name}.yaml"
    if name in packaged_studies():
        return packaged
    raise StudyError(
        f"There is no study {name!r}: neither a file of that name nor one that comes along "
        f"({', '.join(packaged_studies())}).{did_you_mean(name, packaged_studies())}"
    )


def packaged_studies() -> list[str]:
    """Return the names of the studies that come along."""
    return sorted(path.stem for path in (HERE / "studies").glob("*.yaml"))


def read_study(path: Path) -> Study:
    """Read a study file.

    Raises:
        StudyError: with every problem of the file: unknown or missing keys, wrong types, paths that leave its folders.
    """
    return _Reader(path, read_mapping(path, "study")).read()


class _Reader:
    """Reads one study and collects what is wrong with it.

    Args:
        path: the file, for messages and for the paths in it.
        data: what the file holds.
    """

    required = ("name", "task", "base", "metric", "seeds", "tricks")
    optional = (
        "mode", "scale", "higher_is_better", "reference", "plugins", "set", "vary", "shapley", "max_rows", "wandb",
    )  # fmt: skip

    def __init__(self, path: Path, data: dict[str, Any]) -> None:
        self.path = path
        self.data = data
        self.problems: list[str] = []

    def read(self) -> Study:
        for key in self.data:
            if key not in (*self.required, *self.optional):
                self._problem(f"unknown key {key!r}.{did_you_mean(str(key), (*self.required, *self.optional))}")
        for key in self.required:
            if key not in self.data:
                self._problem(f"the key {key!r} is missing.")
        tricks = self._tricks()
        metric = self._typed("metric", str, "")
        study = Study(
            path=self.path,
            name=self._name(),
            task=self._one_of("task", TASKS, TASKS[0]),
            base=self._file(self._typed("base", str, ""), "base", ".yaml"),
            metric=metric,
            seeds=self._seeds(),
            tricks=tricks,
            mode=self._one_of("mode", MODES, MODES[0]),
            scale=self._scale(metric_kind(metric)),
            higher_is_better=self._higher_is_better(metric, metric_kind(metric)),
            reference=self._reference(tricks),
            plugins=tuple(self._file(str(name), "plugins", ".py") for name in self._typed("plugins", list, [])),
            settings=self._typed("set", dict, {}),
            vary=self._vary(),
            wandb_project=self._wandb_project(),
            shapley_orders=self._shapley_orders(),
            max_rows=self._count("max_rows", self.data.get("max_rows"), MAX_ROWS),
        )
        if self.problems:
            raise StudyError(*self.problems)
        return study

    def _problem(self, text: str) -> None:
        self.problems.append(f"{self.path}: {text}")

    def _typed(self, key: str, kind: Any, default: Any) -> Any:
        value = self.data.get(key)
        if value is None:
            if key in self.required and key in self.data:
                self._problem(f"{key!r} is empty.")
            return default
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            names = {str: "a text", list: "a list", dict: "a mapping", bool: "true or false"}
            self._problem(f"{key!r} must be {names.get(kind, 'a number')}, not {value!r}.")
            return default
        return value

    def _one_of(self, key: str, allowed: tuple[str, ...], default: str) -> str:
        value = self._typed(key, str, default)
        if value not in allowed:
            self._problem(f"{key!r} must be one of {', '.join(allowed)}, not {value!r}.{did_you_mean(value, allowed)}")
        return str(value)

    def _name(self) -> str:
        name = self._typed("name", str, "study")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            self._problem(f"'name' names a folder, so it must be letters, digits, '-', '_' and '.', not {name!r}.")
        return str(name)

    def _seeds(self) -> tuple[int, ...]:
        seeds = self.data.get("seeds", 1)
        if isinstance(seeds, int) and not isinstance(seeds, bool):
            if seeds >= 1:
                return tuple(range(seeds))
            self._problem(f"'seeds' must be at least 1, not {seeds}.")
        elif isinstance(seeds, list) and seeds and all(type(seed) is int and seed >= 0 for seed in seeds):
            if len(set(seeds)) == len(seeds):
                return tuple(seeds)
            self._problem(f"'seeds' names a seed twice: {seeds}.")
        else:
            self._problem(f"'seeds' must be a number of seeds or a list of seeds from 0 up, not {seeds!r}.")
        return (0,)

    def _scale(self, kind: MetricKind) -> float:
        scale = self._typed("scale", (int, float), kind.scale)
        if 0 < scale <= sys.float_info.max:
            return float(scale)
        self._problem(
            f"'scale' must be a finite number above 0, not {scale!r}: with 100 a table shows shares as points, with 1 "
            f"a loss as it is."
        )
        return kind.scale

    def _higher_is_better(self, metric: str, kind: MetricKind) -> bool:
        said = self._typed("higher_is_better", bool, kind.higher_is_better)
        if kind.is_known and said != kind.higher_is_better:
            self._problem(
                f"'higher_is_better' is {str(said).lower()}, but {metric!r} is better when it is {kind.better}. Set it "
                f"to {str(not said).lower()}, or leave it out."
            )
        return bool(said)

    def _vary(self) -> tuple[str, ...]:
        vary = self._typed("vary", list, list(ALWAYS))
        unknown = [name for name in vary if name not in VARY]
        if unknown:
            self._problem(
                f"'vary' holds {', '.join(map(repr, unknown))}; it can name {', '.join(VARY)}."
                f"{did_you_mean(str(unknown[0]), VARY)}"
            )
        elif not set(ALWAYS) <= set(vary):
            self._problem(
                f"'vary' must name {' and '.join(ALWAYS)}, which differ from seed to seed anyway, not {vary!r}."
            )
        return tuple(name for name in VARY if name in vary)

    def _shapley_orders(self) -> int:
        settings = self._typed("shapley", dict, {})
        for key in settings:
            if key != "orders":
                self._problem(f"'shapley': unknown key {key!r}.{did_you_mean(str(key), ('orders',))} It has 'orders'.")
        return self._count("shapley.orders", settings.get("orders"), SHAPLEY_ORDERS)

    def _count(self, key: str, value: Any, default: int) -> int:
        if value is None:
            return default
        if type(value) is not int or value < 1:
            self._problem(f"{key!r} must be a whole number from 1 up, not {value!r}.")
            return default
        return value

    def _wandb_project(self) -> str:
        wandb = self._typed("wandb", dict, {})
        if not wandb:
            return ""
        if set(wandb) != {"project"} or not isinstance(wandb["project"], str):
            self._problem(f"'wandb' must be `{{project: NAME}}`, not {wandb!r}.")
            return ""
        try:
            return check_project(wandb["project"])
        except UserError as error:
            self._problem(f"'wandb': {error}")
        return ""

    def _file(self, name: str, key: str, suffix: str) -> Path:
        """Return the file that a study names; it must lie in the study's folder or a `bases`/`plugins` beside it."""
        if key == "base" and "/" not in name and not name.endswith(suffix):
            return HERE / "bases" / f"{name}.yaml"
        folder = self.path.parent
        target = (folder / name).resolve()
        allowed = [folder.resolve(), (folder.parent / "bases").resolve(), (folder.parent / "plugins").resolve()]
        if not any(target.is_relative_to(place) for place in allowed):
            self._problem(
                f"{key!r}: {name!r} leads out of the study's folders. It must lie in the study's own folder, or in "
                f"'bases' or 'plugins' beside that."
            )
        elif target.suffix != suffix:
            self._problem(f"{key!r}: {name!r} must be a {suffix} file.")
        return target

    def _tricks(self) -> tuple[TrickUse, ...]:
        uses: list[TrickUse] = []
        for entry in self._typed("tricks", list, []):
            use = self._trick(entry)
            if use is None:
                continue
            if any(use.name == other.name for other in uses):
                self._problem(
                    f"the trick {use.name!r} stands twice in 'tricks'. Drop one, or give an inline trick a name."
                )
                continue
            uses.append(use)
        return tuple(uses)

    def _trick(self, entry: Any) -> TrickUse | None:
        if isinstance(entry, str):
            return TrickUse(entry)
        if not isinstance(entry, dict) or len(entry) != 1 or not isinstance(next(iter(entry)), str):
            self._problem(f"'tricks': write a trick as its name or as `name: {{argument: value}}`, not {entry!r}.")
            return None
        ((name, arguments),) = entry.items()
        if arguments is None:
            return TrickUse(name)
        if not isinstance(arguments, dict):
            self._problem(f"'tricks': the arguments of {name!r} must be a mapping, not {arguments!r}.")
            return None
        edits = {verb: arguments[verb] for verb in INLINE_VERBS if verb in arguments}
        if not edits:
            return TrickUse(name, {str(key): value for key, value in arguments.items()})
        unknown = [key for key in arguments if key not in (*INLINE_VERBS, "text", "revises")]
        if unknown or not all(isinstance(edit, dict) for edit in edits.values()):
            self._problem(
                f"'tricks': the inline trick {name!r} takes set, swap, add and edit, each a mapping from a path, and "
                f"text and revises; got {arguments!r}."
            )
            return None
        revises = arguments.get("revises") or ()
        return TrickUse(
            name,
            inline=edits,
            text=str(arguments.get("text", "")),
            revises=tuple([revises] if isinstance(revises, str) else revises),
        )

    def _reference(self, tricks: tuple[TrickUse, ...]) -> Reference | None:
        reference = self._typed("reference", dict, None)
        if reference is None:
            return None
        for key in reference:
            if key not in ("source", "gains", "unconfirmed"):
                self._problem(
                    f"'reference': unknown key {key!r}.{did_you_mean(str(key), ('source', 'gains', 'unconfirmed'))}"
                )
        gains, names = reference.get("gains") or {}, [use.name for use in tricks]
        if not isinstance(gains, dict) or not all(isinstance(gain, int | float) for gain in gains.values()):
            self._problem(f"'reference': 'gains' must map tricks to numbers, not {gains!r}.")
            gains = {}
        unconfirmed = reference.get("unconfirmed", False)
        marked = list(gains) if unconfirmed is True else unconfirmed or []
        if not isinstance(marked, list):
            self._problem(f"'reference': 'unconfirmed' must be true or a list of tricks, not {unconfirmed!r}.")
            marked = []
        for name in [*gains, *marked]:
            if name not in names:
                self._problem(
                    f"'reference' names {name!r}, which is no trick of this study.{did_you_mean(str(name), names)}"
                )
        if not isinstance(reference.get("source"), str):
            self._problem("'reference' needs a 'source' that says where the gains were read.")
        source = str(reference.get("source", ""))
        return Reference(source, {key: float(gain) for key, gain in gains.items()}, frozenset(marked))
