"""How the rows of a study are made from its tricks, in each mode.

A mode is a method of `RowMaker`. What it needs of the planner is handed in: a trick applied to a recipe and checked.
"""

import hashlib
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from ablations.orders import trick_orders, visited_sets
from ablations.plan import Row
from ablations.recipe import changes, overlaps
from ablations.registry import Trick
from ablations.study import Study, TrickUse


@dataclass
class Draft:
    """A row while it is made: a recipe, which trick set which path in it, and all that the user wrote to get there.

    `search` is the key of the learning-rate search whose result the last trick brought.
    """

    recipe: dict[str, Any]
    written: tuple[Any, ...]
    owners: dict[str, str] = field(default_factory=dict)
    search: str = ""

    def definition(self) -> str:
        """A hash of what the user wrote; unlike the recipe, it does not change with a library's defaults."""
        return hashlib.sha256(json.dumps(self.written, sort_keys=True, default=str).encode()).hexdigest()[:16]


class Apply(Protocol):
    """Returns a draft with a trick applied; on a problem, notes it and returns the draft as it was."""

    def __call__(self, draft: Draft, use: TrickUse, trick: Trick, where: str = "") -> Draft: ...


class RowMaker:
    """Makes the rows of a study.

    Args:
        study: the study.
        uses: its tricks, looked up; those that there are not are left out.
        apply: applies a trick.
        problem: notes a problem.
        problems: all that were noted so far.
    """

    def __init__(
        self,
        study: Study,
        uses: Sequence[tuple[TrickUse, Trick]],
        apply: Apply,
        problem: Callable[[str], None],
        problems: Sequence[str],
    ) -> None:
        self.study = study
        self.uses = uses
        self.apply = apply
        self.problem = problem
        self.problems = problems
        self._drafts: dict[tuple[str, ...], Draft] = {}

    def rows(self, base: Draft) -> list[Row]:
        """Return the rows in the study's mode; the first is the one that others are compared with."""
        modes = {
            "stack": self._stack,
            "leave-one-out": self._leave_one_out,
            "one-at-a-time": self._one_at_a_time,
            "pairs": self._pairs,
            "shapley": self._shapley,
        }
        return modes[self.study.mode](base)

    def subset_row(self, index: int, base: Draft, names: tuple[str, ...]) -> Row:
        """Return the row that has these tricks, applied in the study's order, and is compared with row 0.

        Args:
            index: its number.
            base: the base recipe.
            names: some of the study's tricks, in the study's order; none for the base itself.
        """
        if not names:
            return replace(self._first_row(base, "base", "The base recipe, every trick off."), index=index)
        draft = self._subset(base, names)
        if len(names) == 1:
            use, trick = next(pair for pair in self.uses if pair[0].name == names[0])
            row = self._row(index, names[0], use, trick, draft, 0)
        else:
            text = f"The base with {', '.join(names[:-1])} and {names[-1]}.{self._revisions(base, names)}"
            row = Row(
                index=index,
                name=", ".join(names),
                text=text,
                trick=None,
                compared_to=0,
                sign=1,
                recipe=self._seeded(draft),
                definition=draft.definition(),
                search=draft.search,
            )
        return replace(row, tricks=names)

    def _stack(self, base: Draft) -> list[Row]:
        rows, draft = [self._first_row(base, "base", "The base recipe, every trick off.")], base
        for use, trick in self.uses:
            draft = self.apply(draft, use, trick)
            rows.append(self._row(len(rows), f"+ {use.label}", use, trick, draft, len(rows) - 1))
        return rows

    def _one_at_a_time(self, base: Draft) -> list[Row]:
        rows = [self._first_row(base, "base", "The base recipe, every trick off.")]
        for use, trick in self.uses:
            rows.append(self._row(len(rows), f"+ {use.label}", use, trick, self.apply(base, use, trick), 0))
        return rows

    def _leave_one_out(self, base: Draft) -> list[Row]:
        prefixes = [base]
        for use, trick in self.uses:
            prefixes.append(self.apply(prefixes[-1], use, trick))
        full = prefixes[-1]
        rows = [self._first_row(full, "all tricks", "The base recipe with every trick of the study.")]
        for place, (use, trick) in enumerate(self.uses):
            draft = prefixes[place]
            for other, other_trick in self.uses[place + 1 :]:
                draft = self.apply(draft, other, other_trick, where=f"without {use.name!r}, ")
            if draft.recipe == full.recipe and not self.problems:
                self.problem(
                    f"without {use.name!r} the recipe is the same, since a later trick brings it along: leaving it out "
                    f"says nothing. Drop it from the study."
                )
            rows.append(self._row(len(rows), f"- {use.label}", use, trick, draft, 0, sign=-1))
        return rows

    def _pairs(self, base: Draft) -> list[Row]:
        names = [use.name for use, _ in self.uses]
        subsets = [subset for size in range(3) for subset in itertools.combinations(names, size)]
        return self._subset_rows(base, subsets)

    def _shapley(self, base: Draft) -> list[Row]:
        names = [use.name for use, _ in self.uses]
        return self._subset_rows(base, visited_sets(names, trick_orders(names, self.study.shapley_orders)))

    def _subset_rows(self, base: Draft, subsets: list[tuple[str, ...]]) -> list[Row]:
        """Return a row for each set of tricks, or note that there are too few tricks or too many rows."""
        mode, limit, tricks = self.study.mode, self.study.max_rows, len(self.study.tricks)
        if tricks < 2:
            self.problem(f"mode {mode!r} looks at tricks together, so it needs at least two tricks, not {tricks}.")
            return []
        if len(subsets) > limit:
            fewer = "fewer tricks" if mode == "pairs" else "fewer tricks, or fewer orders with `shapley: {orders: N}`"
            self.problem(
                f"mode {mode!r} of {tricks} tricks is {len(subsets)} rows, more than the {limit} that a study makes "
                f"unless it says so. Write `max_rows: {len(subsets)}` into the study if you want them all, or take "
                f"{fewer}."
            )
            return []
        return [self.subset_row(index, base, names) for index, names in enumerate(subsets)]

    def _subset(self, base: Draft, names: tuple[str, ...]) -> Draft:
        """Return the base with these tricks applied in their order; every beginning of it is made once."""
        if not names:
            return base
        if names not in self._drafts:
            before = self._subset(base, names[:-1])
            use, trick = next(pair for pair in self.uses if pair[0].name == names[-1])
            where = "" if len(names) == 1 else f"with {', '.join(map(repr, names[:-1]))}, "
            self._drafts[names] = self.apply(before, use, trick, where=where)
        return self._drafts[names]

    def _revisions(self, base: Draft, names: tuple[str, ...]) -> str:
        """Say which of these tricks set again what an earlier one set, so that their order is the study's."""
        revised: dict[str, list[str]] = {}
        for length, name in enumerate(names):
            before, after = self._subset(base, names[:length]), self._subset(base, names[: length + 1])
            changed = [change.path for change in changes(before.recipe, after.recipe)]
            earlier = [
                owner for path, owner in before.owners.items() if any(overlaps(path, other) for other in changed)
            ]
            if earlier:
                revised[name] = list(dict.fromkeys(earlier))
        return "".join(
            f" {name} revises {' and '.join(earlier)}, so it comes after, as in the study."
            for name, earlier in revised.items()
        )

    def _first_row(self, draft: Draft, name: str, text: str) -> Row:
        return Row(0, name, text, None, None, 1, self._seeded(draft), draft.definition())

    def _row(
        self, index: int, name: str, use: TrickUse, trick: Trick, draft: Draft, compared_to: int, sign: int = 1
    ) -> Row:
        text = use.text or trick.text
        reference = self.study.reference
        published = reference.gains.get(use.name) if reference else None
        unconfirmed = bool(reference and use.name in reference.unconfirmed)
        text = f"Without: {text[:1].lower()}{text[1:]}" if sign < 0 else text
        return Row(
            index=index,
            name=name,
            text=text,
            trick=use.name,
            compared_to=compared_to,
            sign=sign,
            recipe=self._seeded(draft),
            definition=draft.definition(),
            search=draft.search,
            published=published,
            unconfirmed=unconfirmed,
        )

    def _seeded(self, draft: Draft) -> dict[str, Any]:
        return {**draft.recipe, "seed_everything": self.study.seeds[0]}
